"""Interface of a reader: a file of this package implements it for one format and names it `READER`.

Pictures are cells of a table, by index: encoded bytes, or a function that reads the picture when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array

TIME, RECORDING = "timestamp_ns", "recording"
"""Columns of times and of recordings, as readers call those that they make themselves."""
PICTURE = "picture"
"""Type of a column of pictures."""
_UNEXPLAINED = (LookupError, AssertionError, AttributeError, TypeError, MemoryError)
"""Errors of a library whose text alone says nothing."""


@dataclass(frozen=True)
class Column:
    """A column that a file has."""

    name: str
    type: str
    """`float32`, `text`, `picture`, …, as the file states it."""
    unit: str = ""
    """Empty: the file does not state it."""
    rate_hz: float | None = None
    """Rate of its rows; None: only its times tell it."""


@dataclass(frozen=True)
class Facts:
    """What a user should know of a format; `docs/formats.md` is written from it."""

    title: str
    recognised: str
    """Suffixes of files, or what a folder holds."""
    library: str
    extra: str
    """Extra of `pip install 'statestream[…]'` that has the library; empty: none is needed."""
    columns: str
    """Names of columns."""
    types: str
    time: str
    refused: tuple[tuple[str, str], ...]
    """What is refused, and words of the error."""
    of_topics: bool = False
    """Whether columns are fields of topics, of which the first that is named makes the rows."""


class Reader(Protocol):
    """Reads one format.

    Every error of its methods about a file is a DataError that names the file.
    """

    facts: Facts

    def recognises(self, path: Path) -> bool:
        """Whether a path, a file or a folder, is of this format; reads little or nothing of it."""
        ...

    def columns(self, path: Path) -> tuple[Column, ...]:
        """List the columns that `read` finds, in order."""
        ...

    def read(self, path: Path, names: Sequence[str]) -> Table:
        """Read columns as rows with time.

        Args:
            names: columns that the table must have; a format of one table returns all of its columns.
        """
        ...

    def labels(self, path: Path) -> tuple[Path, ...]:
        """Files beside the path that hold its labels, so are no recordings of their own."""
        return ()


def ends_with(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name has one of the suffixes, in any case."""
    return path.name.lower().endswith(suffixes)


def imported(path: Path, module: str, what: str, facts: Facts) -> Any:
    """Import a module of a format's library.

    Raises:
        DataError: it, or what it needs, is not installed; the text names the extra that has it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing, library = (error.name or module).partition(".")[0], module.partition(".")[0]
        needed = facts.library if missing == library else missing
        raise DataError(f"{path}: reading {what} needs {needed}: pip install 'statestream[{facts.extra}]'") from None


@contextmanager
def errors_of(library: str, path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = str(error)
        if not text or isinstance(error, _UNEXPLAINED):
            text = f"{library} failed with {type(error).__name__}: {text}"
        if isinstance(error, UnicodeDecodeError):
            text = f"{text}; save it as UTF-8, or correct its suffix"
        raise DataError(f"{path}: cannot read it: {text}") from error


def columns_of(table: Table) -> tuple[Column, ...]:
    """Columns of a table that was read, by the types of its cells."""
    return tuple(Column(name, _type(cells)) for name, cells in table.columns.items())


def _type(cells: Array) -> str:
    if cells.dtype.kind in "SU":
        return "text"
    if cells.dtype.kind != "O":
        return str(cells.dtype)
    first = next(iter(cells), "")
    return PICTURE if callable(first) or isinstance(first, bytes) else "text"
