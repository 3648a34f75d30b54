"""How a long trial ends: its facts in build/, a table in the terminal and in `docs/reliability.md`, an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from statestream.models.files import write_json
from statestream.service.cli.console import err, out
from tests.bench.pages import put

BUILD = Path(__file__).parents[2] / "build"


def parser(name: str, minutes: float) -> argparse.ArgumentParser:
    """What every trial can be told: for how long, and whether its table is for the documentation."""
    options = argparse.ArgumentParser(prog=f"python -m tests.{name}")
    options.add_argument("--minutes", type=float, default=minutes)
    options.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    return options


def conclude(
    name: str,
    facts: Mapping[str, Any],
    table: Sequence[Sequence[str]],
    problems: Sequence[str],
    *,
    write: bool,
    columns: Sequence[str] = ("figure",),
) -> NoReturn:
    """Write and print it all; the exit code is 1 where there are problems.

    Args:
        name: of the trial: `build/<name>.json`, and the table's place in the page.
        columns: what the table's columns of figures are.
    """
    BUILD.mkdir(exist_ok=True)
    write_json(BUILD / f"{name}.json", facts)
    for what, *figures in table:
        out.print(f"{what:48}{'  '.join(figures)}", highlight=False, markup=False)
    if write:
        put("reliability.md", name, [name, *columns], table)
    for problem in problems:
        err.print(problem[:2000], highlight=False, markup=False)
    sys.exit(bool(problems))
