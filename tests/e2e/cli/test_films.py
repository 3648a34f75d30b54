"""A film through the service by the command alone: what the model said, how well, and the film with it drawn in."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from statestream.models.data.pictures import decoded as decoded_picture
from statestream.models.data.recordings import Recording
from statestream.service.cli import main
from statestream.service.playback.play import Played
from statestream.service.playback.video_overlay import annotated
from tests.support.cameras import Camera, camera_manifest, camera_rollout, seen, write_camera
from tests.support.films import JPEGS, ROWS, SIZE, decoded, write_folder, write_tub, write_video
from tests.support.rrd import pictures, scalars
from tests.support.server_process import serving


@pytest.fixture(scope="module")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a model of frames alone, as JPEG and raw."""
    repository = tmp_path_factory.mktemp("repository")
    write_camera(repository, "lane", Camera(imu=False))
    write_camera(repository, "raw", Camera(encoding="raw", imu=False))
    with serving(repository) as address:
        yield address


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def said(command: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    code = main(command)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.mark.parametrize("model", ["lane", "raw"])
def test_a_tub_is_played_and_drawn(
    model: str, cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tub, out, drawn = write_tub(tmp_path / "tub"), tmp_path / "out.csv", tmp_path / "drawn.mp4"
    command = ["stream", str(tub), "--model", model, "--target", cameras, "--out", str(out), "--video", str(drawn)]
    facts = said([*command, "--json"], capsys)
    assert (facts["recordings"], facts["verdicts"]) == (2, {"APPLIED": ROWS})
    with out.open() as file:
        rows = list(csv.DictReader(file))
    pictures = seen(JPEGS, camera_manifest().inputs[0])
    nothing, dt_s = np.zeros((3, 2), np.float32), np.full(3, 0.05)
    reference = [camera_rollout(pictures[k : k + 3], nothing, dt_s) for k in (0, 3)]
    y = np.array([[float(row["y_0"]), float(row["y_1"])] for row in rows])
    np.testing.assert_allclose(y, np.concatenate(reference), atol=1e-5)
    with av.open(str(drawn)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == ROWS
    assert frames[0].shape == (SIZE[0] * 15, SIZE[1] * 15, 3), "as large as can be seen"


@pytest.mark.parametrize("model", ["lane", "raw"])
def test_rerun_has_the_pictures_of_each_session(
    model: str, cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rerun")
    tub, out = write_tub(tmp_path / "tub"), tmp_path / "seen.rrd"
    said(["stream", str(tub), "--model", model, "--target", cameras, "--out", str(out), "--json"], capsys)
    found, series = pictures(out, "time"), scalars(out, "time")
    assert set(found) == {"/day-0/input/camera", "/day-1/input/camera"}
    assert set(series) == {f"/day-{k}/{kind}" for k in range(2) for kind in ("output/y", "state/h")}
    for k in range(2):
        t_ns, jpegs = found[f"/day-{k}/input/camera"]
        own = slice(3 * k, 3 * k + 3)
        assert t_ns.tolist() == [(1_700_000_000_000 + 50 * row) * 10**6 for row in range(ROWS)][own]
        np.testing.assert_array_equal(series[f"/day-{k}/output/y"][0], t_ns)
        if model == "lane":
            assert jpegs == JPEGS[own], "as the camera sent them"
        shown = np.stack([decoded_picture(data, *SIZE) for data in jpegs])
        assert np.abs(shown.astype(int) - decoded()[own]).mean() < 4, "lossy, but the same film"


def test_a_video_is_played_with_its_labels(cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drive = write_video(tmp_path / "drive.mp4")
    command = ["stream", str(drive), "--model", "lane", "--target", cameras, "--rate", "20x"]
    assert said([*command, "--json"], capsys)["verdicts"] == {"APPLIED": ROWS}


def test_a_folder_of_drives_is_played(cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("monday", "tuesday"):
        write_folder(tmp_path / name)
    facts = said(
        ["stream", str(tmp_path), "--model", "lane", "--target", cameras, "--period", "0.05", "--json"], capsys
    )
    assert (facts["recordings"], facts["verdicts"]) == (2, {"APPLIED": 2 * ROWS})


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--video", "drawn.gif"], "expected .mp4, .mkv or .mov"),
        (["--target-column", "angle"], "1 columns, output 'y' of lane:1 has 2 elements"),
    ],
)
def test_what_cannot_be_done_is_said_first(
    flags: list[str], why: str, cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = write_video(tmp_path / "drive.mp4")
    assert main(["stream", str(drive), "--model", "lane", "--target", cameras, *flags]) != 0
    assert why in " ".join(capsys.readouterr().err.split())


def test_bars_go_as_far_as_the_numbers() -> None:
    """Predicted above true; the largest number reaches the edge, and a row without output has no bar."""
    recording = Recording("drive", np.arange(3), np.zeros((3, *SIZE, 3), np.uint8), np.array([[-1.0], [0.0], [0.5]]))
    played = Played(
        recording, np.array([[0.5], [np.nan], [1.0]], np.float32), np.ones(3, np.int64), np.zeros(3, np.float32)
    )
    predicted, true = [], []
    for image in annotated(played, SIZE, 2):
        rows = image[-12], image[-4]
        lit = [np.flatnonzero((row.max(axis=1) > 0) & (row.min(axis=1) < 255)) for row in rows]
        predicted.append(lit[0])
        true.append(lit[1])
    middle, width = SIZE[1], 2 * SIZE[1]
    assert true[0].min() <= 1
    assert true[0].max() <= middle, "to the left"
    assert len(predicted[1]) == 0
    assert predicted[2].max() >= width - 2
    assert abs(predicted[0].max() - (middle + middle / 2)) <= 1
