"""What `tune` gains on a user's files over the file of `init`: into docs/results.md.

`python -m tests.bench.tuned_files [NAME]… [--minutes N] [--seeds N] [--write]`

`tune` searches from the training file of `init`, by the validation split alone. Then both files are trained with the
same seeds, which neither has seen, and scored once on the preset's test rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from statestream.models.files import write_json
from statestream.service.cli import main as command
from tests.bench.first_files import CASES, OUT, Prepared, prepared, score, spread, trained
from tests.bench.pages import show

FIRST_SEED = 10
"""The first seed of the trainings; the search has seed 0."""
HEADER = ["data", "score", "init", "tuned", "minutes of search", "seeds"]


@dataclass(frozen=True)
class Tuned:
    """Scores of both files, by seed."""

    name: str
    minutes: float
    first: list[float]
    best: list[float]


def tuned(name: str, minutes: float, seeds: Sequence[int]) -> Tuned:
    """Search, then train and score both files."""
    files = prepared(name, out=OUT / "to_tune")
    file = str(files.file)
    arguments = [file, *files.test, "--minutes", f"{minutes:g}", "--trials", "1000", "--out", str(OUT / "tuning")]
    if command(["tune", *arguments, "--overwrite"]) != 0:
        sys.exit(f"{name}: no trial was finished in {minutes:g} minutes; try more --minutes")
    return Tuned(name, minutes, _scores(name, files, seeds, best=False), _scores(name, files, seeds, best=True))


def _scores(name: str, files: Prepared, seeds: Sequence[int], *, best: bool) -> list[float]:
    file = OUT / "tuning" / name / "best.toml" if best else files.file
    runs = [trained(files, seed, file=file, out="retrained") for seed in seeds]
    return [score(run, files, CASES[name].metric) for run in runs]


def row(found: Tuned) -> list[str]:
    """A line of the table."""
    means = [spread(values) for values in (found.first, found.best)]
    return [found.name, CASES[found.name].metric, *means, f"{found.minutes:g}", str(len(found.first))]


def main() -> None:
    """Search and train the cases that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tuned_files", description=__doc__)
    parser.add_argument("names", nargs="*", default=["gesture_sessions", "donkeycar"], help="of the first files")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/results.md")
    options = parser.parse_args()
    (OUT / "tuned").mkdir(parents=True, exist_ok=True)
    for name in options.names if options.seeds else ():
        found = tuned(name, options.minutes, range(FIRST_SEED, FIRST_SEED + options.seeds))
        write_json(OUT / "tuned" / f"{name}.json", vars(found))
    kept = [Tuned(**json.loads(path.read_text())) for path in sorted((OUT / "tuned").glob("*.json"))]
    table = [row(each) for each in kept]
    show("results.md", "tuned-files", HEADER, table, write=options.write)


if __name__ == "__main__":
    main()
