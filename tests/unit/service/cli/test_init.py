"""`init` looks at recordings of any kind and writes a training file that loads, reads them, and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from statestream.models.config import Config, load_config
from statestream.models.data.recordings import read_dataset
from statestream.models.data.survey import survey
from statestream.models.training.dataset import load_dataset
from statestream.models.training.first_file import roles_of
from statestream.models.training.separation import Separation, separation
from statestream.models.training.splits import split_dataset
from statestream.service.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def walks(folder: str = "walks", *, recordings: int = 12, label: bool = True, time: bool = True) -> Path:
    """A file a recording: two sensors at 50 Hz, one of them with gaps, a person, a flag that never changes, a label."""
    random, path = np.random.default_rng(0), Path(folder)
    path.mkdir()
    for k in range(recordings):
        head = [*(["t"] if time else []), "ax", "gyro", "flag", "person", *(["activity"] if label else [])]
        lines = [",".join(head)]
        for row in range(60):
            gap = "" if row % 10 == 3 else f"{random.normal():.3f}"
            cells = [f"{0.02 * row:.2f}"] if time else []
            cells += [f"{random.normal():.3f}", gap, "1", f"p{k % 6}"]
            lines.append(",".join([*cells, *(["walk" if k % 2 else "run"] if label else [])]))
        (path / f"{k}.csv").write_text("\n".join(lines))
    return path


def written(*arguments: str) -> Config:
    assert main(["init", *arguments]) == 0
    return load_config(next(Path().glob("*.toml")))


def test_a_labelled_folder_is_a_classification_by_person(capsys: pytest.CaptureFixture[str]) -> None:
    config = written(str(walks()))
    assert (config.name, config.task.kind, config.task.at) == ("walks", "classification", "every")
    assert (config.data.features, config.data.target, config.data.group) == (("ax", "gyro"), ("activity",), "person")
    assert (config.data.time, config.data.time_unit, config.data.missing) == ("t", "s", "hold")
    assert config.split.by == "group"
    assert config.training.segment == config.training.window == 128, "one label a recording: short pieces of about 3 s"
    dataset = read_dataset(config.data.path or "", config.data, classes=True)
    assert (len(dataset.recordings), dataset.labels) == (12, ("run", "walk"))
    said = capsys.readouterr().out
    assert "recordings     12 of 720 rows, 60 each" in said
    assert "t in s (as numbers with fractions); rows come 0.02 s apart" in said
    assert "left out: never changes" in said
    assert "10.0%" in said
    assert "next: statestream train walks.toml" in said


def test_numbers_alone_are_a_next_step_and_a_target_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = walks(label=False)
    assert written(str(path)).task.kind == "next_step"
    assert "candidates: " in Path("walks.toml").read_text()
    config = written(str(path), "--target", "ax", "--overwrite")
    assert (config.task.kind, config.data.features, config.data.target) == ("regression", ("gyro",), ("ax",))
    capsys.readouterr()
    assert main(["init", str(path), "--target", "speed", "--overwrite"]) == 1
    assert "no column 'speed'; it has ax, gyro, flag, person" in capsys.readouterr().err


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    path = walks()
    Path("walks.toml").write_text("mine")
    assert main(["init", str(path)]) == 1
    assert "walks.toml exists; --overwrite replaces it, --out names another" in capsys.readouterr().err
    assert Path("walks.toml").read_text() == "mine"


def test_one_recording_is_cut_by_time_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = walks(recordings=1) / "0.csv"
    (tmp_path / "configs").mkdir()
    assert main(["init", str(file), "--target", "ax", "--out", "configs/one.toml"]) == 0
    config = load_config("configs/one.toml")
    assert (config.name, config.split.by) == ("one", "time")
    assert 'path = "../walks/0.csv"' in Path("configs/one.toml").read_text()
    assert len(read_dataset(config.data.path or "", config.data).recordings) == 1


def test_without_times_the_period_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    config = written(str(walks(time=False)))
    assert config.data.period_s is not None
    assert "no column of times: set data.period_s" in capsys.readouterr().out
    assert "CHANGE THIS" in Path("walks.toml").read_text()


def test_a_table_of_many_recordings_is_looked_at_one_by_one() -> None:
    rows = [(k // 40, k % 40, k % 7, "ab"[k // 40 % 2]) for k in range(400)]
    lines = ["recording,stamp_ms,x,label", *(f"r{r},{10 * t},{x},{label}" for r, t, x, label in rows)]
    Path("all.csv").write_text("\n".join(lines))
    found = survey(Path("all.csv"))
    assert (len(found.lengths), found.recording, found.unit) == (10, "recording", ("ms", "by the name of the column"))
    assert found.steps_s == pytest.approx((0.01, 0.01, 0.01))
    x, label = found.columns
    assert (x.kind, x.range, x.values, x.steady) == ("number", (0.0, 6.0), tuple("0123456"), False)
    assert (label.kind, label.values, label.steady) == ("text", ("a", "b"), True)
    assert (found.time, roles_of(found).target) == ("stamp_ms", ("label",))


def hums(*, levels: bool, gaps: bool = False) -> Path:
    """A file a recording at 50 Hz: classes differ by level, or by two frequencies, whose changes have one spread."""
    random, path = np.random.default_rng(0), Path("hums")
    path.mkdir()
    for k in range(30):
        t = 0.02 * np.arange(400)
        low_hz, level = (3.0, k % 2) if levels else (3.0 + 6 * (k % 2), 0)
        hums = [np.sin(2 * np.pi * hz * t + random.uniform(0, 6)) for hz in (low_hz, 25 - low_hz)]
        x = level + sum(hums) + 0.3 * random.normal(size=t.size)
        lines = [f"{t[row]:.2f},{x[row]:.4f},{'ab'[k % 2]}" for row in range(t.size) if not (gaps and row % 5 == 0)]
        (path / f"{k}.csv").write_text("\n".join(["t,x,label", *lines]))
    return path


def test_classes_that_differ_by_frequency_get_a_spectral_encoder() -> None:
    config = written(str(hums(levels=False)))
    assert config.data.whiten
    assert config.cell.kind == "encoded"
    assert config.cell.encoder.kind == "spectral"
    assert "gets 100% of the validation windows, by levels" in Path("hums.toml").read_text()
    assert (config.training.keep_by, config.training.segment) == ("score", 128)


def test_classes_that_differ_by_level_do_not_and_missing_rows_are_trained_for() -> None:
    config = written(str(hums(levels=True, gaps=True)))
    assert (config.data.whiten, config.cell.kind, config.training.keep_by) == (False, "cfc", "score")
    assert config.training.augment.keep_rows == (0.85, 0.85)


def test_what_a_linear_fit_finds_in_frequencies_and_levels() -> None:
    config = written(str(hums(levels=False)))
    split = split_dataset(load_dataset(config), config.split, classes=True)
    found = separation(split, 2)
    assert found.frequencies == 1
    assert found.vibrates
    without = replace(split, test=())
    assert separation(without, 2) == found, "the test split is not looked at"
    short = replace(split, train=tuple(r.where(slice(0, 9)) for r in split.train))
    assert 0 <= separation(short, 2).levels <= 1, "recordings shorter than a window"
    assert not Separation(0.5, 0.9, recordings=2).vibrates, "one recording of two would make as much"


def phases(*, recordings: int, rows: int) -> Path:
    """A file a recording at 25 Hz, whose class changes every two seconds."""
    random, path = np.random.default_rng(0), Path("phases")
    path.mkdir(exist_ok=True)
    for k in range(recordings):
        lines = [f"{0.04 * row:.2f},{random.normal():.3f},{'ab'[row // 50 % 2]}" for row in range(rows)]
        (path / f"{k}.csv").write_text("\n".join(["t,x,label", *lines]))
    return path


def test_a_few_long_recordings_of_changing_classes_are_trained_on_piece_by_piece() -> None:
    training = written(str(phases(recordings=6, rows=300))).training
    assert (training.window, training.segment, training.passes, training.batch) == (64, 256, 1, 2)
    assert (training.augment.keep_rows, training.augment.stretch) == ((0.6, 1.0), 0.15)
    assert "a random piece of each, once; with more they are learned by heart" in comments(Path("phases.toml"))


@pytest.mark.parametrize(("recordings", "rows"), [(6, 100), (40, 300), (4, 300)], ids=["short", "many", "cut by time"])
def test_of_other_classes_an_epoch_has_all_rows(recordings: int, rows: int) -> None:
    training = written(str(phases(recordings=recordings, rows=rows))).training
    assert (training.segment, training.passes, training.batch) == (None, None, 32)
    assert training.augment.keep_rows == (1.0, 1.0)


def comments(file: Path) -> str:
    """Comments of a training file, in one line."""
    return " ".join(line.partition("# ")[2] for line in file.read_text().splitlines())


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "of other size"])
def test_many_targets_of_like_size_have_one_scale(alike: bool) -> None:
    names, targets = [f"x{k}" for k in range(9)], [f"next_x{k}" for k in range(9)]
    scale = np.where(np.arange(18) == 17, 1.0 if alike else 1000.0, 1.0)
    values = np.random.default_rng(0).uniform(size=(40, 18)) * scale
    lines = [f"{0.02 * row:.2f},{','.join(f'{value:.4f}' for value in values[row])}" for row in range(40)]
    Path("robot.csv").write_text("\n".join([",".join(["t", *names, *targets]), *lines]))
    config = written("robot.csv", *(word for name in targets for word in ("--target", name)))
    assert (config.task.kind, config.data.target) == ("regression", tuple(targets))
    assert config.data.common_scale == (("targets",) if alike else ())
    assert (config.training.learning_rate, config.training.epochs) == ((0.008, 80) if alike else (0.005, 60))
    assert ("the loss weighs them as mse does" in comments(Path("robot.toml"))) == alike


def test_pictures_get_an_encoder_of_their_size_and_need_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    from statestream.models.jpeg import encode

    pytest.importorskip("simplejpeg")
    folder = Path("drive")
    folder.mkdir()
    lines = ["image,timestamp,angle"]
    for k in range(12):
        (folder / f"{k}.jpg").write_bytes(encode(np.full((60, 80, 3), 20 * k, np.uint8)))
        lines.append(f"{k}.jpg,{0.1 * k:.1f},{k / 10 + 0.01}")
    (folder / "labels.csv").write_text("\n".join(lines))
    assert main(["init", "drive"]) == 1
    assert "pictures need a target: --target NAME; there are angle" in capsys.readouterr().err
    config = written("drive", "--target", "angle")
    assert config.cell.kind == "encoded"
    assert config.cell.encoder.frame == (60, 80)  # type: ignore[union-attr]
    assert (config.data.features, config.split.by) == (("image",), "time")
    augment = config.training.augment
    assert (augment.brightness, augment.shift_pixels, augment.mirror_pictures) == (0.3, (6, 8), ())
    steered = [lines[0], *(f"{line.rpartition(',')[0]},{k / 10 - 0.55:.2f}" for k, line in enumerate(lines[1:]))]
    (folder / "labels.csv").write_text("\n".join(steered))
    assert written("drive", "--target", "angle", "--overwrite").training.augment.mirror_pictures == ("angle",)


@pytest.mark.parametrize("name", ["drive.mcap", "drive", "drive.bag"])
def test_of_a_log_the_topic_with_the_most_numbers_a_second_is_taken(name: str) -> None:
    pytest.importorskip("rosbags")
    from tests.support.robot_logs import COMMAND, RATES, drive, write_bag, write_mcap, write_ros1_bag

    target = f"{COMMAND}.twist.angular.z"
    write = {"drive.mcap": write_mcap, "drive": write_bag, "drive.bag": write_ros1_bag}[name]
    config = written(str(write(Path(name), drive())), "--target", target)
    assert (config.data.features, config.data.target, config.task.kind) == (tuple(RATES), (target,), "regression")
    (recording,) = read_dataset(config.data.path or "", config.data).recordings
    np.testing.assert_array_equal(recording.t_ns, drive().t_ns)
    np.testing.assert_array_equal(recording.features, drive().x.astype(np.float32))


def test_of_several_logs_only_fields_that_all_have_are_taken() -> None:
    pytest.importorskip("mcap_protobuf")
    from tests.support.foxglove_logs import of_json, write_mcap

    Path("arms").mkdir()
    write_mcap(Path("arms/a.mcap"), of_json("/arm", lambda k: {"x": k, "y": -k, "word": "ab"[k % 2]}, None))
    write_mcap(
        Path("arms/b.mcap"), of_json("/arm", lambda k: {"y": k / 2, "word": "b"}, None), of_json("/more", schema=None)
    )
    config = written("arms")
    assert (config.data.features, config.data.target) == (("/arm.y",), ("/arm.word",))
    assert len(read_dataset(config.data.path or "", config.data, classes=True).recordings) == 2


def test_of_a_flight_log_fields_of_one_topic_are_taken() -> None:
    pytest.importorskip("pyulog")
    from tests.support.ulogs import write_ulog

    config = written(str(write_ulog(Path("flight.ulg"))))
    assert config.data.features == tuple(f"vehicle_imu.{name}" for name in ("delta[0]", "delta[1]", "serial"))
    assert len(read_dataset(config.data.path or "", config.data).recordings[0]) == 8


def test_depths_get_a_range_to_check() -> None:
    image = pytest.importorskip("PIL.Image")
    Path("drive").mkdir()
    for k in range(6):
        image.fromarray(np.full((12, 16), 400.5 * k, np.float32)).save(f"drive/{k}.tiff")
    Path("drive/labels.csv").write_text("image,t,angle\n" + "".join(f"{k}.tiff,0.{k},{k / 3}\n" for k in range(6)))
    image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16)).save("drive/0.tiff")
    config = written("drive", "--target", "angle")
    assert config.data.picture_range == (0, 191)
    assert "CHECK THIS: values that become the levels 0 and 255" in Path("drive.toml").read_text()


@pytest.mark.parametrize(("step", "unit"), [(20, "ms"), (20_000, "us"), (20_000_000, "ns"), (2, "ms"), (1, "ms")])
def test_a_unit_that_nothing_tells_is_the_likeliest_and_to_check(step: int, unit: str) -> None:
    Path("a.csv").write_text("time,x\n" + "".join(f"{step * k},{k % 5}\n" for k in range(20)))
    assert written("a.csv").data.time_unit == unit
    assert "CHECK THIS: rows are" in Path("a.toml").read_text()


def test_times_beside_the_time_of_a_row_are_no_features() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    stamps = np.datetime64("2026-05-04", "ms") + np.arange(20) * np.timedelta64(50, "ms")
    table = {"time": stamps, "received": stamps, "x": np.arange(20.0)}
    parquet.write_table(pyarrow.table(table), "a.parquet")
    assert written("a.parquet").data.features == ("x",)


def test_a_target_that_is_always_one_text_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("t,x,word\n" + "".join(f"0.{k},{k},walk\n" for k in range(9)))
    assert main(["init", "a.csv", "--target", "word"]) == 1
    assert "column 'word' is always 'walk': it is no target" in " ".join(capsys.readouterr().err.split())
