"""Console output of the commands: tables, JSON and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console

from statestream.models.bundle import BundleError
from statestream.service.errors import InvalidArgument, StatestreamError

# A wide console, so that output to a file or a pipe is not cut off.
out = Console(width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def version() -> str:
    """The installed version of statestream."""
    try:
        return metadata.version("statestream")
    except metadata.PackageNotFoundError:
        return "unknown"


@contextmanager
def working(text: str) -> Iterator[None]:
    """Say what a long, silent piece of work does: a spinner on a terminal, else a line; on stderr."""
    if err.is_terminal:
        with err.status(text):
            yield
    else:
        err.print(f"{text} …", highlight=False, markup=False, soft_wrap=True)
        yield


def print_error(error: Exception) -> None:
    """Print an error as one line on stderr."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (StatestreamError, BundleError, ValueError, OSError)):
        text = f"{type(error).__name__}: {text} (a bug in statestream; STATESTREAM_DEBUG=1 shows where)"
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    err.print(f"[bold red]error:[/] {_escape(text)}", soft_wrap=True, highlight=False)


def print_warning(text: str) -> None:
    """Print a warning on stderr."""
    err.print(f"[bold yellow]warning:[/] {_escape(text)}", soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    out.print_json(json.dumps(value, default=str))


def name_and_version(text: str) -> tuple[str, int]:
    """Parse `NAME` or `NAME:VERSION`; version 0: none was given."""
    name, colon, number = text.partition(":")
    if not name or (colon and not number.isdigit()):
        raise InvalidArgument(f"'{text}', expected NAME or NAME:VERSION", field="model")
    return name, int(number or 0)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
