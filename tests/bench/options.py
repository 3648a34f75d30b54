"""Command line of measurements that have a quick form."""

from __future__ import annotations

import argparse
from pathlib import Path


def given(program: str) -> argparse.Namespace:
    """Parse `--quick` and `--out` of `python -m PROGRAM`."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--out", type=Path, default=Path("build"))
    return parser.parse_args()
