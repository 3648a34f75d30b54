"""`python -m tests.fuzz_files [--minutes 10] [--write]`: harmed files of every format, through every reader.

Figures go to `build/fuzz_files.json`, and with `--write` into `docs/reliability.md`. Failing files stay in
`build/fuzz_files/failing`.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from typing import Any

from tests.fuzz_files.fuzzing import Figures, fuzz
from tests.fuzz_files.outcomes import DIED, FAULT, READ, REFUSED, SLOW
from tests.support.conclusion import BUILD, conclude, parser

COLUMNS = ("files", "read", "refused", "outside deaths contained", "outside hangs contained", "our faults")


def rows(figures: Figures) -> list[list[str]]:
    """The table of `docs/reliability.md`: each format, then all."""
    formats = [*figures.outcomes.items(), ("all", sum(figures.outcomes.values(), Counter()))]
    return [
        [name, *(f"{count:,}" for count in (counts.total(), *(counts[k] for k in (READ, REFUSED, DIED, SLOW, FAULT))))]
        for name, counts in formats
    ]


def main() -> None:
    options = parser("fuzz_files", minutes=10.0)
    options.add_argument("--seed", type=int, default=int(time.time()))
    given = options.parse_args()
    folder = BUILD / "fuzz_files"
    shutil.rmtree(folder, ignore_errors=True)
    end = time.monotonic() + 60 * given.minutes
    figures = fuzz(folder, given.seed, lambda count: time.monotonic() < end)
    facts: dict[str, Any] = {
        "minutes": given.minutes,
        "seed": given.seed,
        "outcomes": {name: dict(counts) for name, counts in figures.outcomes.items()},
        "deaths": dict(figures.deaths),
        "faults": figures.faults,
    }
    conclude("fuzz_files", facts, rows(figures), figures.faults, write=given.write, columns=COLUMNS)


if __name__ == "__main__":
    main()
