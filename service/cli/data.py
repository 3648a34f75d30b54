"""`statestream data`: lists columns of recordings; lists and fetches public data sets."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Column, Table
from rich.text import Text

from statestream.service.cli.console import AsJson, err, out, print_json
from statestream.service.cli.time_units import unit_given

if TYPE_CHECKING:
    from statestream.models.data.set_files import Entry

app = typer.Typer(no_args_is_help=True, help="Columns of recordings; public data sets: list and fetch them.")


@app.command("columns")
def list_columns(
    path: Annotated[Path, typer.Argument(help="A recording, or a folder of them, of which the first is described.")],
    time: Annotated[str, typer.Option(help="Column of timestamps.", show_default="timestamp_ns, t_ns, …")] = "",
    time_unit: Annotated[str | None, typer.Option(help="ns, us, ms or s.", show_default="by the column")] = None,
    as_json: AsJson = False,
) -> None:
    """List the columns of a recording: type, unit, and rate of its rows.

    Their names are those that data.features, data.target and --features take; [k] stands for the number of an element.

    [bold]Examples[/]

      statestream data columns walk.csv

      statestream data columns drive.mcap --json

      statestream data columns log.parquet --time stamp --time-unit ms
    """
    from statestream.models.data.inspection import described

    found = described(path, time, unit_given(time_unit))
    if as_json:
        columns = [asdict(column) for column in found.columns]
        print_json({"path": str(found.path), "format": found.format, "columns": columns})
        return
    err.print(f"{found.path}: {found.format}", highlight=False, markup=False, soft_wrap=True)
    table = Table("column", "type", "unit", Column("rate, Hz", justify="right"), box=None)
    for each in found.columns:
        rate = "" if each.rate_hz is None else f"{each.rate_hz:.4g}"
        table.add_row(Text(each.name), Text(each.type), Text(each.unit), rate)
    out.print(table)


@app.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """List the data sets: origin, licence, split, and whether each is on this machine.

    [bold]Examples[/]

      statestream data list

      statestream data list --json
    """
    from statestream.models.data.registry import REGISTRY

    if as_json:
        print_json([_facts(entry) for entry in REGISTRY.values()])
        return
    table = Table("data.dataset", "what", "origin", "licence", "split", "here", box=None)
    for entry in REGISTRY.values():
        facts = _facts(entry)
        names = "\n".join(facts["names"])
        table.add_row(names, entry.title, entry.origin, entry.licence, entry.split, facts["here"])
    out.print(table)


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Names of data sets.", metavar="NAME...")],
) -> None:
    """Fetch data sets and verify their checksums.

    A data set found in STATESTREAM_DATA or in the cache is only verified; others are downloaded into the cache.

    [bold]Examples[/]

      statestream data get seq_mnist

      statestream data get occupancy metro_traffic
    """
    from statestream.models.data.registry import entry_of

    for entry in [entry_of(name) for name in names]:
        _get(entry)
        out.print(f"[green]ready[/] {entry.name}", highlight=False)


def _get(entry: Entry) -> None:
    from statestream.models.data.set_files import check, fetch, locate, unpacked

    if not entry.files:
        entry.load()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        for file in entry.files:
            path = locate(entry.name, file)
            if path is not None:
                check(path, unpacked(path), file)
                continue
            task = progress.add_task(f"{entry.name}/{file.name}", total=None)
            fetch(entry.name, file, partial(_show, progress, task))


def _show(progress: Progress, task: TaskID, have: int, total: int | None) -> None:
    progress.update(task, completed=have, total=total)


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "names": [entry.name, *(f"{entry.name}/{variant}" for variant in entry.variants)],
        "title": entry.title,
        "origin": entry.origin,
        "licence": entry.licence,
        "split": entry.split,
        "files": {file.name: file.sha256 for file in entry.files},
        "here": _here(entry),
    }


def _here(entry: Entry) -> str:
    from statestream.models.data.set_files import locate

    missing = [file for file in entry.files if locate(entry.name, file) is None]
    if not missing:
        return "yes" if entry.files else "generated on use"
    return "can be fetched" if all(file.url for file in missing) else "no: download by hand from its origin"
