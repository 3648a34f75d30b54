"""Every fault run, a few seconds of it: no row is wrong. How fast things recover is for a quiet machine to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "tests/faults/runs").glob("[a-z]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        subprocess.run(
            [sys.executable, "-m", "tests.faults", "--quick", "--out", str(tmp_path), name],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=file, stderr=file, timeout=300, check=False,
        )  # fmt: skip
    assert (tmp_path / "faults.json").exists(), log.read_text()
    run = json.loads((tmp_path / "faults.json").read_text())["runs"][name]
    if run["ended"] == "skipped":
        pytest.skip(run["reason"])
    assert run["ended"] in ("well", "slowly"), run["reason"]
    assert run["figures"]
