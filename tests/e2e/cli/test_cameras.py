"""Cameras through the service by the command: PyAV's own test picture stands for a webcam, a real RTSP session for one
in the network."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from statestream.service.cli import main
from statestream.service.client import connect
from statestream.service.playback import cameras
from tests.support.cameras import HEIGHT, WIDTH, Camera, write_camera
from tests.support.films import write_folder
from tests.support.rtsp import Rtsp
from tests.support.server_process import COMMAND, serving

WEBCAM = f"testsrc=size={2 * WIDTH}x{2 * HEIGHT}:rate=50,realtime"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of models of a camera, as JPEG and raw, and of one beside another sensor."""
    repository = tmp_path_factory.mktemp("repository")
    write_camera(repository, "lane", Camera(imu=False))
    write_camera(repository, "raw", Camera(encoding="raw", imu=False))
    write_camera(repository, "both", Camera())
    with serving(repository) as address:
        yield address


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    """`webcam:0` is a generator of test pictures, of another size than the models take, at its own pace."""
    monkeypatch.setattr(cameras, "address_of", lambda _: (WEBCAM, {"format": "lavfi"}))


@pytest.mark.parametrize("model", ["lane", "raw"])
@pytest.mark.usefixtures("webcam")
def test_a_webcam_is_streamed_told_and_drawn(
    model: str, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, seen = tmp_path / "out.csv", tmp_path / "seen.mp4"
    flags = ["--model", model, "--target", served, "--seconds", "2", "--out", str(out), "--video", str(seen), "--json"]
    assert main(["stream", "webcam:0", *flags]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdicts"].keys() <= {"APPLIED", "STALE"}
    applied = facts["verdicts"]["APPLIED"]
    assert 5 < applied <= facts["rows"] <= 110, "two seconds at 50 frames a second, and what started late"
    with out.open() as file:
        rows = list(csv.DictReader(file))
    ran = [row for row in rows if row["verdict"] == "APPLIED"]
    assert len(rows) == facts["rows"]
    t_s = np.array([int(row["timestamp_ns"]) for row in ran]) * 1e-9
    np.testing.assert_allclose([float(row["dt_s"]) for row in ran[1:]], np.diff(t_s), atol=1e-6)
    np.testing.assert_allclose(np.diff(t_s) / 0.02, np.round(np.diff(t_s) / 0.02), atol=1e-6)
    with av.open(str(seen)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == len(rows)
    all_s = np.array([int(row["timestamp_ns"]) for row in rows]) * 1e-9
    np.testing.assert_allclose(times, all_s - all_s[0], atol=1e-3)


def test_an_address_is_streamed_and_its_end_is_an_end(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Rtsp(frames=75, rate_hz=25) as camera:
        flags = ["--model", "lane", "--target", served, "--json"]
        assert main(["stream", f"rtsp://user:secret@127.0.0.1:{camera.port}/stream", *flags]) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert 5 < facts["rows"] <= 75
    assert facts["verdicts"]["APPLIED"] > 5
    assert camera.asked == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_ctrl_c_is_how_it_ends(served: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with Rtsp(frames=10_000, rate_hz=25) as camera:
        flags = ["--model", "lane", "--target", served, "--out", str(out), "--json"]
        command = [*COMMAND, "stream", f"rtsp://127.0.0.1:{camera.port}/", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert camera.playing.wait(60)
        with connect(served) as client:
            while sum(session.settled_seq for session in client.admin.list_sessions().sessions) < 20:
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    facts = json.loads(said)
    assert facts["verdicts"]["APPLIED"] > 5
    assert len(out.read_text().splitlines()) == facts["rows"] + 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["webcam:63", "--model", "lane"], "SOURCE: webcam:63: No such file or directory; this machine has"),
        (["webcam:front", "--model", "lane"], "SOURCE: 'webcam:front', expected webcam:NUMBER"),
        (["rtsp://me:secret@127.0.0.1:9/x", "--model", "lane"], "SOURCE: rtsp://127.0.0.1:9/x: Connection refused"),
        (["webcam:0", "--model", "lane", "--rate", "2x"], "--rate: only for files, not for cameras"),
        (["webcam:0", "--model", "both"], "--model: both:1, expected a model with one input, of pictures"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    arguments: list[str], why: str, served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stream", *arguments, "--target", served]) == 1
    said = capsys.readouterr().err
    assert why in " ".join(said.split())
    assert "secret" not in said


def test_seconds_are_for_cameras(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = str(write_folder(tmp_path / "film"))
    assert main(["stream", film, "--model", "lane", "--target", served, "--seconds", "1"]) == 1
    assert "--seconds: only for cameras, not for files" in capsys.readouterr().err
