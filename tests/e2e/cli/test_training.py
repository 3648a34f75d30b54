"""From a file of one's own to a bundle, by the commands alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statestream.models.bundle import read_manifest
from statestream.service.cli import main

pytest.importorskip("torch")
pytest.importorskip("lightning")

CONFIG = """
name = "mine"
[task]
kind = "classification"
[data]
path = "{path}"
target = ["does"]
[cell]
kind = "cfc"
units = 8
[training]
epochs = 1
batch = 4
"""


def test_train_export_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    lines = ["recording,timestamp,a,b,does"]
    for k in range(12):
        slope = 1 if k % 2 else -1
        lines += [
            f"r{k},{0.1 * t},{slope * t / 30:.3f},{random.normal():.3f},{'up' if k % 2 else 'down'}" for t in range(30)
        ]
    (tmp_path / "walk.csv").write_text("\n".join(lines))
    (tmp_path / "mine.toml").write_text(CONFIG.format(path=tmp_path / "walk.csv"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mine.toml", "training.seed=3", "--out", "runs"]) == 0
    assert "next: statestream export runs/mine" in capsys.readouterr().out
    assert main(["export", "runs/mine", "repository"]) == 0
    assert main(["export", "runs/mine", "repository"]) == 0
    said = capsys.readouterr().out
    assert "exported mine:2 to repository/mine/2" in said
    assert "chunk graph: scan" in said
    assert main(["export", "runs/mine", "repository", "--aux-tau"]) == 0
    assert [(aux.name, aux.shape) for aux in read_manifest(Path("repository/mine/3")).aux] == [("tau", (8,))]
    assert main(["bundle", "check", "repository/mine/1"]) == 0
    assert "down, up" in capsys.readouterr().out
    assert main(["train", "mine.toml", "training.epoch=3"]) == 1
    assert "training.epoch" in capsys.readouterr().err
    assert main(["train", "mine.toml", "name=gated", "cell.kind=gru", "--out", "runs"]) == 0
    assert main(["export", "runs/gated", "repository", "--aux-tau"]) == 1
    assert "a GRU has no time constants" in capsys.readouterr().err
    assert not (tmp_path / "repository/gated").exists()
    assert main(["export", "runs/nobody"]) == 1
    assert "runs/nobody: cannot read the run" in capsys.readouterr().err
