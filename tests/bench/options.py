"""Command line of measurements that have a quick form."""

from __future__ import annotations

import argparse
from pathlib import Path


def given(program: str, page: str = "") -> argparse.Namespace:
    """Parse `--quick` and `--out` of `python -m PROGRAM`, and `--write` of one that has tables for `docs/<page>`."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--out", type=Path, default=Path("build"))
    if page:
        parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{page}")
    return parser.parse_args()
