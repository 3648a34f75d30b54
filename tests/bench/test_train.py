"""The measurements of training run through; what they find is for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.chunks import QUICK, SHAPES
from tests.bench.train import WANTED

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_quick_run_writes_every_ratio(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.train", "--quick", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_train.json").read_text())
    assert all(facts[name] > 0 for name in WANTED)
    assert all(name in done.stdout for name in WANTED)


@pytest.mark.slow
def test_a_quick_run_compares_every_chunk_graph(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.chunks", "--quick", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_chunks.json").read_text())
    assert all(facts[f"{cell}_batch{b}_rows{t}"] > 0 for cell in QUICK for b, t in SHAPES)
