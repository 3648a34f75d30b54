"""From a robot's log to predictions beside it, by the commands alone; the public libraries write and read both."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.service.cli import main
from tests.support.robot_logs import (
    COMMAND,
    HEIGHT,
    PICTURE,
    RATES,
    WIDTH,
    Drive,
    drive,
    leaky_outputs,
    write_bag,
    write_mcap,
    write_ros1_bag,
)
from tests.support.server_process import serving

pytest.importorskip("rosbags")
pytest.importorskip("mcap_ros2")

CONFIG = f"""
name = "steering"
[task]
kind = "regression"
[data]
path = "logs"
features = ["{PICTURE}"]
target = ["{COMMAND}.twist.angular.z"]
[cell]
kind = "encoded"
encoder = {{ kind = "frames", frame = [{HEIGHT}, {WIDTH}], size = [6, 8], units = 4, channels = [4] }}
cell = {{ kind = "cfc", units = 4 }}
[training]
epochs = 2
passes = 1
batch = 2
"""


def predictions(path: Path) -> list[tuple[str, int, Any]]:
    """Topic, time and message of each prediction, read by `mcap`."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    with path.open("rb") as file:
        found = make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
        return [(channel.topic, message.log_time, decoded) for _, channel, message, decoded in found]


def predictions_by_rosbags(path: Path) -> list[tuple[str, int, Any]]:
    """The same by another library."""
    from rosbags.highlevel import AnyReader

    with AnyReader([path]) as reader:
        return [(c.topic, t_ns, reader.deserialize(data, c.msgtype)) for c, t_ns, data in reader.messages()]


@pytest.mark.parametrize(
    ("name", "write"), [("drive.mcap", write_mcap), ("drive", write_bag), ("drive.bag", write_ros1_bag)]
)
def test_a_log_goes_in_and_predictions_come_out(
    served: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    write: Callable[[Path, Drive], Path],
) -> None:
    of = drive(seed=3)
    log = write(tmp_path / name, of)
    command = ["stream", str(log), "--model", "leaky", "--features", ",".join(RATES), "--target", served, "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["verdicts"] == {"APPLIED": len(of.t_ns)}
    assert "drive.predictions.mcap" in said.err
    expected = leaky_outputs(of.t_ns, of.x)
    for read in (predictions, predictions_by_rosbags):
        found = read(tmp_path / "drive.predictions.mcap")
        assert {topic for topic, _, _ in found} == {"/statestream/leaky"}
        assert [t_ns for _, t_ns, _ in found] == of.t_ns.tolist()
        assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, _, m in found] == of.t_ns.tolist()
        np.testing.assert_allclose([m.y for _, _, m in found], expected, rtol=1e-5, atol=1e-5)
        first = found[0][2]
        assert (first.model, first.session, first.verdict) == ("leaky:1", "drive", "APPLIED")
        assert first.dt_s == pytest.approx(0.1)


def test_a_row_without_output_has_none_in_the_log_either(
    served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = drive()
    of.x[5:7] = 0.9 * np.finfo(np.float32).max  # finite, but the state that two of them make is not
    log = write_mcap(tmp_path / "drive.mcap", of)
    out = tmp_path / "said.mcap"
    command = ["stream", str(log), "--model", "leaky", "--features", ",".join(RATES), "--target", served]
    assert main([*command, "--out", str(out)]) == 0
    assert "INVALID" in capsys.readouterr().out
    assert not (tmp_path / "drive.predictions.mcap").exists()
    said = [(m.verdict, len(m.y)) for _, _, m in predictions(out)]
    assert len(said) == len(of.t_ns)
    assert set(said) == {("INVALID", 0), ("APPLIED", 2)}


def test_a_log_that_does_not_fit_is_said_so(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_mcap(tmp_path / "drive.mcap", drive())
    command = ["stream", str(log), "--model", "leaky", "--target", served]
    assert main(command) == 1  # the model's labels are no paths
    assert "'a': expected TOPIC.FIELD" in capsys.readouterr().err
    assert main([*command, "--features", RATES[0]]) == 1
    assert f"1 columns ({RATES[0]}), leaky:1 takes 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [log]


def test_pictures_train_a_network_that_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    Path("logs").mkdir()
    for seed in range(5):
        write_mcap(Path(f"logs/{seed}.mcap"), drive(seed))
    Path("steering.toml").write_text(CONFIG)
    assert main(["train", "steering.toml"]) == 0
    assert main(["export", "runs/steering", "repository"]) == 0
    log = write_bag(tmp_path / "unseen", drive(seed=9))
    with serving(tmp_path / "repository") as address:
        command = ["stream", str(log), "--model", "steering", "--features", PICTURE, "--target", address]
        assert main(command) == 0
    said = capsys.readouterr().out
    assert "20 rows through steering:1" in said
    assert "APPLIED 20" in said
    assert len(predictions(tmp_path / "unseen.predictions.mcap")) == 20


ARM = """
name = "arm"
[task]
kind = "regression"
[data]
path = "cubes"
features = {features}
target = {target}
[cell]
kind = "gru"
units = 12
[training]
epochs = 12
passes = 1
batch = 4
learning_rate = 0.05
"""


def test_episodes_of_lerobot_train_a_network_that_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    from pyarrow import parquet

    from tests.support.lerobot_sets import ACTION, STATE, write_lerobot

    monkeypatch.chdir(tmp_path)
    write_lerobot(Path("cubes"), 16, videos=False)
    Path("arm.toml").write_text(ARM.format(features=json.dumps(STATE), target=json.dumps(ACTION)))
    assert main(["train", "arm.toml"]) == 0
    assert json.loads(Path("runs/arm/metrics.json").read_text())["test"]["r2"] > 0.5
    assert main(["export", "runs/arm", "repository"]) == 0
    with serving(tmp_path / "repository") as address:
        assert main(["stream", "cubes", "--model", "arm", "--target", address, "--out", "said.csv"]) == 0
    said = list(csv.DictReader(Path("said.csv").read_text().splitlines()))
    files = sorted(Path("cubes").glob("data/*/*.parquet"))
    rows = [row for path in files for row in parquet.read_table(path).to_pylist()]
    assert [(row["recording"], int(row["timestamp_ns"])) for row in said] == [
        (f"episode_{row['episode_index']}", row["frame_index"] * 10**8) for row in rows
    ]
    y = np.array([[float(row[f"y_action[{k}]"]) for k in range(3)] for row in said])
    actions = np.array([row["action"] for row in rows])
    assert ((y - actions) ** 2).mean() < 0.3 * actions.var(axis=0).mean()


ROBOT = """
name = "arm"
[task]
kind = "regression"
[data]
path = "arms"
features = ["/state.command", "/state.load[0]"]
target = ["/grip.width"]
[cell]
kind = "gru"
units = 12
[training]
epochs = 12
batch = 4
learning_rate = 0.05
"""


def test_channels_of_json_and_protobuf_train_a_network_that_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("mcap_protobuf")
    from tests.support.foxglove_logs import T_NS, write_gripping

    monkeypatch.chdir(tmp_path)
    Path("arms").mkdir()
    for seed in range(16):
        write_gripping(Path(f"arms/{seed}.mcap"), seed)
    Path("arm.toml").write_text(ROBOT)
    assert main(["train", "arm.toml"]) == 0
    assert json.loads(Path("runs/arm/metrics.json").read_text())["test"]["r2"] > 0.5
    assert main(["export", "runs/arm", "repository"]) == 0
    widths = write_gripping(tmp_path / "unseen.mcap", 99)
    with serving(tmp_path / "repository") as address:
        command = ["stream", "unseen.mcap", "--model", "arm", "--target-column", "/grip.width", "--target", address]
        assert main(command) == 0
    assert f"{len(widths)} rows through arm:1" in capsys.readouterr().out
    found = predictions(tmp_path / "unseen.predictions.mcap")
    assert [t_ns for _, t_ns, _ in found] == T_NS.tolist()
    assert ((np.array([m.y[0] for _, _, m in found]) - widths) ** 2).mean() < 0.5 * widths.var()
