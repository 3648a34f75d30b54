"""Where the files of a public data set are: `STATESTREAM_DATA`, then a cache, then their origin.

`STATESTREAM_DATA/SET/FILE` and `~/.cache/statestream/SET/FILE` (`XDG_CACHE_HOME` moves it). A file may be packed
(`FILE.gz`). Nothing is read whose sha256, unpacked, is not the one expected.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from statestream.models.data.cache import cache
from statestream.models.data.download import download
from statestream.models.data.tables import DataError

if TYPE_CHECKING:
    from statestream.models.data.recordings import Dataset


@dataclass(frozen=True)
class File:
    """One file of a data set."""

    name: str
    sha256: str
    """Of what the file holds, unpacked."""
    url: str = ""
    """Empty: it is not at its origin in this form."""


@dataclass(frozen=True)
class Entry:
    """What is known of a data set."""

    name: str
    title: str
    origin: str
    licence: str
    split: str
    """How its papers split it, in words; `split.by = "standard"` where the recordings carry that."""
    load: Callable[[], Dataset]
    variants: Mapping[str, Callable[[], Dataset]] = field(default_factory=dict)
    """The same data cut otherwise: `data.dataset = "NAME/VARIANT"`."""
    files: tuple[File, ...] = ()
    """Empty: made by a program, or fetched as a package."""


def read(folder: str, file: File) -> bytes:
    """The content of a file, unpacked, fetched if need be.

    Raises:
        DataError: it is nowhere, cannot be fetched, or is not what it should be.
    """
    path = locate(folder, file) or fetch(folder, file)
    content = unpacked(path)
    check(path, content, file)
    return content


def locate(folder: str, file: File) -> Path | None:
    """The file on this machine, if it is there."""
    for place in places(folder):
        for name in (file.name, f"{file.name}.gz"):
            if (place / name).is_file():
                return place / name
    return None


def places(folder: str) -> list[Path]:
    """Folders to look in, the cache last."""
    given = os.environ.get("STATESTREAM_DATA")
    return [*([Path(given) / folder] if given else []), cache() / folder]


def fetch(folder: str, file: File, progress: Callable[[int, int | None], None] | None = None) -> Path:
    """Download a file into the cache; see `download`."""
    if not file.url:
        raise DataError(
            f"{folder}: {file.name} is not on this machine, and its origin has it in another form; put the file "
            f"(sha256 {file.sha256[:12]}…) into STATESTREAM_DATA/{folder} (`statestream data list` names the origin)"
        )
    packed = ".gz" if file.url.endswith(".gz") and not file.name.endswith(".gz") else ""
    path = cache() / folder / f"{file.name}{packed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    download(file.url, path, lambda part: check(part, unpacked(part, packed=bool(packed)), file), progress)
    return path


def check(path: Path, content: bytes, file: File) -> None:
    """Raises `DataError` if the content is not the file's."""
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(f"{path}: sha256 is {found}, expected {file.sha256} for {file.name}; it was not read")


def unpacked(path: Path, *, packed: bool | None = None) -> bytes:
    """What a file holds."""
    content = path.read_bytes()
    if not (path.suffix == ".gz" if packed is None else packed):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot unpack it: {error}") from error
