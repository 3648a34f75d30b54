"""What a row costs the server, counted and not timed; see `tests.bench.calls`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="functions have qualified names from Python 3.11 on")
def test_a_lone_row_takes_few_calls_hops_and_copies() -> None:
    """50 Python calls from read to write, two turns of the loop, and one copy of the output beside gRPC's own."""
    run = [sys.executable, "-m", "tests.bench.calls", "--json"]
    counted = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    cost = json.loads(counted)["a lone row"]
    assert 20 < cost["calls"] <= 50, cost
    assert 1 <= round(cost["hops"]) <= 2, cost
    if cost["copies"] is None:
        pytest.skip("copies do not show in this system's page faults")
    assert 1 <= round(cost["copies"]) <= 2, cost
