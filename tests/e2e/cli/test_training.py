"""From a file of one's own to a bundle, by the commands alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from statestream.models.bundle import read_manifest
from statestream.models.config import load_config
from statestream.service.cli import main
from tests.support.server_process import serving

pytest.importorskip("torch")
pytest.importorskip("lightning")

CONFIG = """
name = "mine"
[task]
kind = "classification"
[data]
path = "walk.csv"
target = ["does"]
[cell]
kind = "cfc"
units = 8
[training]
epochs = 1
passes = 1
batch = 4
"""


@pytest.fixture
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mine.toml`, and what it trains on, in the working directory."""
    random = np.random.default_rng(0)
    lines = ["recording,timestamp,a,b,does"]
    for k in range(12):
        slope = 1 if k % 2 else -1
        lines += [
            f"r{k},{0.1 * t},{slope * t / 30:.3f},{random.normal():.3f},{'up' if k % 2 else 'down'}" for t in range(30)
        ]
    (tmp_path / "walk.csv").write_text("\n".join(lines))
    (tmp_path / "mine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_mine")
def test_train_export_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mine.toml", "training.seed=3", "--out", "runs"]) == 0
    said = capsys.readouterr()
    assert "recordings     12 of 360 rows" in said.out
    assert "training       1 epochs of 2 optimiser steps, 2 in all" in said.out
    assert "baselines      accuracy of majority 0." in said.out
    assert "warning: 2 optimiser steps hardly train a network" in said.err
    assert "next: statestream export runs/mine" in said.out
    assert main(["export", "runs/mine", "repository"]) == 0
    assert main(["export", "runs/mine", "repository", "--version", "1"]) == 0
    said = capsys.readouterr().out
    assert "version 1 exists; --overwrite replaces it" in said
    assert "exported mine:2 to repository/mine/2" in said
    assert "chunk graph: scan" in said
    assert main(["export", "runs/mine", "repository", "--aux-tau"]) == 0
    assert [(aux.name, aux.shape) for aux in read_manifest(Path("repository/mine/3")).aux] == [("tau", (8,))]
    assert main(["bundle", "check", "repository/mine/1"]) == 0
    assert "down, up" in capsys.readouterr().out
    assert main(["train", "mine.toml", "training.epoch=3"]) == 1
    assert "training.epoch" in capsys.readouterr().err
    assert main(["train", "mine.toml", "--out", "runs"]) == 0
    assert "next: statestream export runs/mine-2" in capsys.readouterr().out
    assert main(["train", "mine.toml", "name=gated", "cell.kind=gru", "--out", "runs"]) == 0
    assert main(["export", "runs/gated", "repository", "--aux-tau"]) == 1
    assert "a GRU has no time constants" in capsys.readouterr().err
    assert not (tmp_path / "repository/gated").exists()
    assert main(["export", "runs/nobody"]) == 1
    assert "runs/nobody: cannot read the run" in capsys.readouterr().err


@pytest.mark.usefixtures("_mine")
def test_a_baseline_that_is_better_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mine.toml", "task.kind=next_step", "data.target=[]", "data.features=['a']"]) == 0
    said = capsys.readouterr().err
    assert "warning: the model loses to persistence (mse " in said
    assert "warning: the model loses to ridge (mse " in said


@pytest.mark.usefixtures("_mine")
def test_ctrl_c_keeps_what_was_trained_and_resuming_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    long = ["train", "mine.toml", "training.epochs=300", "training.patience=300"]
    command = [sys.executable, "-m", "statestream.service.cli", *long]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any("epoch 30/300" in line for line in training.stderr)
        training.send_signal(signal.SIGINT)
        said = training.communicate(timeout=60)[1]
    assert training.returncode == 130
    assert "Traceback" not in said
    epochs = re.search(r"interrupted after epoch (\d+) of 300, which is saved in runs/mine; go on: ", said)
    assert epochs, said
    assert main(["export", "runs/mine/best.ckpt", "repository"]) == 0
    assert main([*long, "--resume", f"training.epochs={int(epochs[1]) + 1}"]) == 0
    assert "next: statestream export runs/mine\n" in capsys.readouterr().out


@pytest.mark.usefixtures("_mine")
def test_tune_prints_its_trials_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["tune", "mine.toml", "--trials", "2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^trial 1 +best +validation accuracy [\d.]+ .*cell as given", said, re.MULTILINE)
    assert "2 trials, 0 pruned; the best is trial " in said
    assert "next: statestream train tuning/mine/best.toml" in said
    assert main(["train", "tuning/mine/best.toml", "training.epochs=1"]) == 0
    assert main(["tune", "mine.toml", "--trials", "2", "--minutes", "0", "--out", "other"]) == 1
    assert "no trial was finished; the study is in other/mine" in capsys.readouterr().err

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("statestream.models.training.tuning.fit_without_report", interrupt)
    assert main(["tune", "mine.toml", "--trials", "3", "--resume"]) == 130
    assert "interrupted after 2 trials, which are kept in tuning/mine; go on: the same" in capsys.readouterr().err


@pytest.mark.usefixtures("_mine")
def test_the_printed_configuration_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mine.toml", "cell.units=9", "--print-config"]) == 0
    printed = capsys.readouterr().out
    Path("all.toml").write_text(printed)
    assert load_config("all.toml") == load_config("mine.toml", ["cell.units=9"])
    assert not Path("runs").exists()


@pytest.mark.usefixtures("_mine")
def test_stream_plays_the_test_split_and_scores_as_the_training_did(capsys: pytest.CaptureFixture[str]) -> None:
    by_time = ["task.kind=next_step", "data.target=[]", "data.features=['a','b']"]
    by_time += ["split.by=time", "split.window_s=1.0", "split.folds=3", "split.fold=1"]
    for name, changes in (("mine", []), ("following", by_time)):
        assert main(["train", "mine.toml", f"name={name}", *changes]) == 0
        assert main(["export", f"runs/{name}", "repository"]) == 0
    with serving(Path("repository")) as target:
        for name, scores in (("mine", {"accuracy": "row_accuracy"}), ("following", {"mse": "mse", "r2": "r2"})):
            command = ["stream", "walk.csv", "--model", name, "--target", target, "--json"]
            capsys.readouterr()
            assert main([*command, "--split", "test"]) == 0
            said, run = json.loads(capsys.readouterr().out), json.loads(Path(f"runs/{name}/metrics.json").read_text())
            assert said["recordings"] == len(run["recordings"]["test"])
            for score, told in scores.items():
                assert said[told] == pytest.approx(run["test"][score], rel=1e-4)
        assert main([*command, "--out", "all.csv"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["rows"], said["recordings"]) == (360, 12)
        assert said["mse"] is not None, "all rows but the last are scored against the next"
        rows = Path("all.csv").read_text().splitlines()
        assert rows[30].startswith("r0,29,")
        assert rows[30].endswith(","), "nothing follows the last row"
        assert rows[29].split(",")[-1].split() == [f"{float(v):.9g}" for v in walked(30)]
        assert main([*command, "--split", "test", "--only", "r0"]) == 1
        assert "--only: 'r0', the file has r0@" in capsys.readouterr().err


def walked(line: int) -> list[np.float32]:
    return [np.float32(value) for value in Path("walk.csv").read_text().splitlines()[line].split(",")[2:4]]
