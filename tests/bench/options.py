"""Command line of measurements that have a quick form."""

from __future__ import annotations

import argparse
from pathlib import Path


def given(program: str, page: str = "") -> argparse.Namespace:
    """Parse the options of `python -m PROGRAM`.

    Args:
        page: page of docs/ that `--write` puts its tables into; a quick run never does.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--out", type=Path, default=Path("build"))
    if page:
        parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{page}")
    found = parser.parse_args()
    found.write = bool(page) and found.write and not found.quick
    return found
