"""The measurements run through and leave nothing behind; what they find is for a quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.quick_run import quick_run

KEYS = {
    "single_p50_vs_echo", "streams64_vs_echo", "streams64_vs_afternoon", "streams64_cpu_us", "burst256_steps_s",
    "burst256_cpu_us", "burst16_steps_s", "chunk256_steps_s", "engine64_vs_run", "catch_up_ratio",
    "bytes_per_idle_session", "streams1000_p99_ms", "long_p50_ratio", "long_cpu_ratio", "long_rss_ratio",
    "workers2_cpu_ratio", "workers2_spread",
}  # fmt: skip


@pytest.mark.slow
def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    printed = quick_run("tests.bench", tmp_path)
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert facts.keys() >= KEYS
    assert all(facts[key] > 0 for key in KEYS - {"bytes_per_idle_session"})
    assert not facts["many"]["errors"]
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert all(key in printed for key in KEYS)
