"""`python -m tests.faults [--quick] [--out build] [names…]`: break things under load, and see that no row is wrong.

Writes `faults.json`: for each run its figures, the limits that hold on a quiet machine, and how it ended.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ |= {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}

import uvloop
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples import command
from statestream.models.files import write_json
from statestream.service.cli.console import err, out
from tests.faults import runs
from tests.faults.bed import Bed, Outcome, SkippedError
from tests.support.bundles import write_leaky

NAMES = sorted(module.name for module in pkgutil.iter_modules(runs.__path__))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", metavar="name", help=f"runs, by default all: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="a few seconds of each")
    parser.add_argument("--out", type=Path, default=Path("build"))
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"no run {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    facts: dict[str, Any] = {"quick": given.quick, "runs": {}}
    given.out.mkdir(parents=True, exist_ok=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        for name in given.names or NAMES:
            task = progress.add_task(name)
            facts["runs"][name] = run_one(
                name,
                full=not given.quick,
                say=lambda text, n=name, t=task: progress.update(t, description=f"{n}: {text}"),
            )
            progress.update(task, description=f"{name}: {facts['runs'][name]['ended']}", completed=1, total=1)
            write_json(given.out / "faults.json", facts)  # Ctrl-C loses the run it meets, and no other
    out.print(table(facts["runs"]))
    err.print(f"wrote {given.out / 'faults.json'}", highlight=False)
    sys.exit(any(run["ended"] not in ("well", "skipped") for run in facts["runs"].values()))


def run_one(name: str, *, full: bool, say: Any) -> dict[str, Any]:
    """Run one; its figures, limits, seconds, and how it `ended`: well, slowly, wrong, or skipped, with the `reason`."""
    module = importlib.import_module(f"tests.faults.runs.{name}")
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"faults-{name}-") as folder:
        repository = Path(folder) / "repository"
        write_leaky(repository)
        write_leaky(repository, name="other")
        place = Path(folder) / "run"
        place.mkdir()
        bed = Bed(full, repository, place, say)
        outcome, ended, reason = Outcome({}), "well", ""
        try:
            outcome = uvloop.run(module.run(bed))
            if outcome.exceeded:
                ended, reason = "slowly", ", ".join(outcome.exceeded)
        except SkippedError as skipped:
            ended, reason = "skipped", str(skipped)
        except Exception as error:
            traceback.print_exc()
            ended, reason = "wrong", f"{type(error).__name__}: {error}"
    return {
        "ended": ended,
        "reason": reason,
        "figures": dict(outcome.figures),
        "limits": dict(outcome.limits),
        "seconds": round(time.monotonic() - begin_s, 1),
    }


def table(ended: dict[str, Any]) -> Table:
    """A line a run."""
    lines = Table("run", "ended", "seconds", "figures", box=None)
    colours = {"well": "green", "skipped": "yellow"}
    for name, run in ended.items():
        figures = ", ".join(f"{figure} {value:g}" for figure, value in run["figures"].items())
        colour = colours.get(run["ended"], "red")
        lines.add_row(name, f"[{colour}]{run['ended']}[/]", f"{run['seconds']:.0f}", run["reason"] or figures)
    return lines


if __name__ == "__main__":
    command.run(main)
