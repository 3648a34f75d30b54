"""The measurements run through and leave nothing behind; what they find is for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from statestream.service.transports.choice import lacking
from tests.bench.cpp_figures import FIGURES
from tests.bench.cpp_sender import BESIDES, LOADS
from tests.support import cpp
from tests.support.quick_run import quick_run

KEYS = {
    "single_p50_vs_echo", "streams64_vs_echo", "streams64_vs_afternoon", "streams64_cpu_us", "burst256_steps_s",
    "burst256_cpu_us", "burst16_steps_s", "chunk256_steps_s", "engine64_vs_run", "catch_up_ratio",
    "bytes_per_idle_session", "streams1000_p99_ms", "long_p50_ratio", "long_cpu_ratio", "long_rss_ratio",
    "workers2_cpu_ratio", "workers2_spread",
}  # fmt: skip
CPP_KEYS = {f"{load}{kind}_vs_cpp_echo" for load in LOADS for kind in FIGURES}
NATIVE_KEYS = {f"{load}{kind}_vs_grpc" for load in (*LOADS, *BESIDES) for kind in FIGURES}


@pytest.mark.slow
def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    printed = quick_run("tests.bench", tmp_path)
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert facts.keys() >= KEYS
    assert all(facts[key] > 0 for key in KEYS - {"bytes_per_idle_session"})
    assert not facts["many"]["errors"]
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert all(key in printed for key in KEYS)
    if why := cpp.missing():
        pytest.skip(f"no C++ echo: {why}")
    assert facts.keys() >= CPP_KEYS
    assert all(load in printed for load in LOADS)
    assert lacking() or facts.keys() >= NATIVE_KEYS


@pytest.mark.slow
def test_reading_is_compared_with_another_checkout() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.bench.readers", str(root), "--messages", "300", "--rows", "200"]
    run = subprocess.run([*command, "--runs", "1"], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    readings = ("300 messages of an IMU, MCAP", "300 messages of an IMU, a bag", "200 rows of a CSV", "50 episodes")
    assert all(reading in run.stdout for reading in readings)
