"""`statestream init`: looks at recordings and writes a first training file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from statestream.service.cli.console import out
from statestream.service.errors import FailedPrecondition

if TYPE_CHECKING:
    from statestream.models.config import Config
    from statestream.models.data.survey import ColumnSurvey, Survey
    from statestream.models.training.first_file import Roles
    from statestream.models.training.separation import Separation

_SHOWN = 6
"""Most values of a column that are listed."""


def init(
    recordings: Annotated[Path, typer.Argument(help="A recording, or a folder of them, in any format that is read.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Column to predict, may be repeated.", show_default="one that looks like labels"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write.", show_default="NAME.toml of the recordings")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file where it exists.")] = False,
) -> None:
    """Look at recordings, and write a training file for them, with the reason beside each choice.

    Of a log of topics it takes the one with the most messages; `statestream data columns` lists the others.

    [bold]Examples[/]

      statestream init recordings/

      statestream init walk.csv --target activity --out walk.toml
    """
    from statestream.models.config import load_config
    from statestream.models.data.survey import survey
    from statestream.models.training.first_file import first_file, may_vibrate, roles_of

    file = file or Path(f"{recordings.resolve().stem}.toml")
    if file.exists() and not overwrite:
        raise FailedPrecondition(f"{file} exists; --overwrite replaces it, --out names another")
    found = survey(recordings, target or ())
    roles = roles_of(found, target or ())
    text = first_file(found, roles, file)
    _print(found, roles)
    _write(file, text)
    config = load_config(file)
    if may_vibrate(found, roles):
        _write(file, first_file(found, roles, file, _separation(config)))
    out.print(f"wrote {file}", highlight=False, markup=False)
    out.print(f"next: statestream train {file}", highlight=False, markup=False)


def _write(file: Path, text: str) -> None:
    from statestream.models.files import replacing

    with replacing(file) as temporary:
        temporary.write_text(text)


def _separation(config: Config) -> Separation | None:
    """Compare levels and frequencies; None: there is no validation split, or `train` will refuse the recordings."""
    from statestream.models.data.tables import DataError
    from statestream.models.training.dataset import load_dataset
    from statestream.models.training.separation import separation
    from statestream.models.training.splits import split_dataset

    try:
        dataset = load_dataset(config)
        split = split_dataset(dataset, config.split, classes=True)
    except DataError:
        return None
    return separation(split, len(dataset.labels)) if split.validation else None


def _print(found: Survey, roles: Roles) -> None:
    rows, shortest, longest = sum(found.lengths), min(found.lengths), max(found.lengths)
    each = f"{shortest:,} to {longest:,} each" if shortest != longest else f"{shortest:,} each"
    facts = {"recordings": f"{len(found.lengths):,} of {rows:,} rows, {each}", "time": _time(found)}
    for name, text in facts.items():
        out.print(f"{name:14} {text}", highlight=False, markup=False)
    table = Table("column", "type", "values", "missing", "role", box=None)
    for column in found.columns:
        missing = f"{column.missing:.1%}" if column.missing else ""
        table.add_row(column.name, column.kind, _values(column), missing, _role(column, roles))
    out.print(table)


def _time(found: Survey) -> str:
    if not found.time:
        return "no column of times: set data.period_s"
    unit = "" if found.unit is None else f" in {found.unit[0]} ({found.unit[1]})"
    if found.steps_s is None:
        return f"{found.time}{unit}"
    shortest, median, longest = found.steps_s
    return f"{found.time}{unit}; rows come {median:.4g} s apart, 98 % of them {shortest:.4g} to {longest:.4g} s"


def _values(column: ColumnSurvey) -> str:
    if column.kind == "text" or 0 < len(column.values) <= _SHOWN:
        more = f" and {len(column.values) - _SHOWN} more" if len(column.values) > _SHOWN else ""
        return ", ".join(column.values[:_SHOWN]) + more or "many"
    return f"{column.range[0]:.4g} to {column.range[1]:.4g}" if column.range else ""


def _role(column: ColumnSurvey, roles: Roles) -> str:
    if column.name in roles.target:
        return "target"
    if column.name == roles.group:
        return "group"
    if column.name in roles.features:
        return "feature"
    if column.is_still:
        return "left out: never changes"
    return "target?" if column.name in roles.others else "left out"
