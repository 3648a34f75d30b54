"""Opens text files, with or without gzip, and names recordings after them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, cast

PACKED = ".gz"


def opened(path: Path) -> IO[str]:
    """Open a file of UTF-8, with or without a byte order mark, for reading; unpack `.gz`."""
    if path.name.lower().endswith(PACKED):
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def with_packed(*suffixes: str) -> tuple[str, ...]:
    """Suffixes, and each with `.gz`."""
    return (*suffixes, *(f"{suffix}{PACKED}" for suffix in suffixes))


def title_of(path: Path) -> str:
    """Name of a file's recording: without its suffix, and without `.gz`."""
    name = path.name
    return Path(name[: -len(PACKED)] if name.lower().endswith(PACKED) else name).stem
