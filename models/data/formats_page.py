"""Writes `docs/formats.md`, what is read of each format (`python -m statestream.models.data.formats_page`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from statestream.models.data.formats import READERS
from statestream.models.data.readers.reader import Facts
from statestream.models.data.times import TIME_NAMES

_NAMES = ", ".join(f"`{name}`" for name in TIME_NAMES)
_INTRODUCTION = f"""# Formats

<!-- Written by `make formats`; a test compares it. -->

What `statestream train`, `stream` and `evaluate` read: a path in `data.path` is one recording or several, a folder of
them is all of them. Hidden files and predictions are left out. What cannot be read is an error that names the file and
the place. Files are read in the command's own process: one on which a library in C crashes or hangs takes the command
with it ([reliability](reliability.md)).

`statestream data columns PATH` lists the columns of a recording with their types, units and rates.

The time of a row is the column that `data.time` names, else the first of {_NAMES};
without one, rows are `data.period_s` apart. Its unit, one for all files of a data set, is decided in this order:

1. `data.time_unit` (`--time-unit`), if the column has numbers.
2. The type of the column: datetimes, durations, texts of ISO 8601, and the times of logs and videos have their own.
3. A suffix of its name: `_ns`, `_us`, `_ms`, `_s`.
4. The magnitude of an epoch, 1990 to 2100, unless the numbers could as well be finer units since a start.
5. Numbers with fractions are seconds. Integers are an error, which says how far apart rows would be in each unit.

A label or a group has one form whatever the file and its type: `1.0` is `1`, and `true` is `True`.
"""


def page() -> str:
    """Build the page as Markdown."""
    return "\n".join([_INTRODUCTION, *(line for reader in READERS for line in _section(reader.facts))])


def _section(facts: Facts) -> Iterator[str]:
    needs = f"{facts.library} (`pip install 'statestream[{facts.extra}]'`)" if facts.extra else facts.library
    rows = {
        "recognised by": facts.recognised,
        "read by": needs,
        "columns": facts.columns,
        "types": facts.types,
        "time": facts.time,
    }
    yield from (f"## {facts.title}", "", "| | |", "|---|---|")
    yield from (f"| {name} | {text} |" for name, text in rows.items())
    yield from ("", "| refused | the error says |", "|---|---|")
    yield from (f"| {what} | `… {words} …` |" for what, words in facts.refused)
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
