"""A measurement in its quick form."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]


def quick_run(module: str, out: Path) -> str:
    """Run `python -m MODULE --quick --out OUT`; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--quick", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def quick_run_here(main: Callable[[], None], out: Path) -> None:
    """Run a measurement's `main` in this process: those of training would import torch, which takes seconds."""
    with patch.object(sys, "argv", ["bench", "--quick", "--out", str(out)]), warnings.catch_warnings():
        main()
