"""What commands write into the documentation: each piece stands between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from statestream.models.files import replacing

DOCS = Path(__file__).parents[2] / "docs"


def put(page: str, name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table, its first column words and the others numbers, into `docs/<page>`; returns it."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    _write(page, name, table)
    return table


def show(page: str, name: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, write: bool) -> None:
    """Print the rows of a table, and `put` it if wanted."""
    if write:
        put(page, name, header, rows)
    for line in rows:
        print(" | ".join(line))


def put_output(page: str, name: str, lines: Sequence[str]) -> None:
    """Write what a command said, as it said it, into `docs/<page>`."""
    _write(page, name, "\n" + "".join(f"    {line}\n" for line in lines) + "\n")


def _write(page: str, name: str, text: str) -> None:
    place = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    file = DOCS / page
    with replacing(file) as temporary:
        temporary.write_text(place.sub(lambda _: text, file.read_text()))
