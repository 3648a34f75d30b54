"""From a file of one's own to a bundle, by the commands alone."""

from __future__ import annotations

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
def test_the_printed_configuration_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mine.toml", "cell.units=9", "--print-config"]) == 0
    printed = capsys.readouterr().out
    Path("all.toml").write_text(printed)
    assert load_config("all.toml") == load_config("mine.toml", ["cell.units=9"])
    assert not Path("runs").exists()
