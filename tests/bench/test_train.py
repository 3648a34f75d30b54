"""The measurements of training run through; what they find is for a quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import chunks, train
from tests.bench.chunks import QUICK, SHAPES
from tests.bench.train import WANTED
from tests.support.fast_exports import speed_up_exports
from tests.support.quick_run import quick_run_here

speed_up_exports()


@pytest.mark.slow
def test_a_quick_run_writes_every_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick_run_here(train.main, tmp_path)
    printed = capsys.readouterr().out
    facts = json.loads((tmp_path / "bench_train.json").read_text())
    assert all(facts[name] > 0 for name in WANTED)
    assert all(name in printed for name in WANTED)


@pytest.mark.slow
def test_a_quick_run_compares_every_chunk_graph(tmp_path: Path) -> None:
    quick_run_here(chunks.main, tmp_path)
    facts = json.loads((tmp_path / "bench_chunks.json").read_text())
    assert all(facts[f"{cell}_batch{b}_rows{t}"] > 0 for cell in QUICK for b, t in SHAPES)
