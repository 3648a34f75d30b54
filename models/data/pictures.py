"""Decodes pictures to levels, uint8 arrays of a network's size.

A JPEG is decoded bit for bit as the server does. Pictures of more than 8 bits need a range (see `levels`).

Pillow is imported only for other formats, and for pictures of another size. Pictures of a table that names its files
are decoded once into a cached file, which is mapped into memory: a film may be larger than memory, and training reads
segments of it. When the cached films exceed `MOST_BYTES`, the least recently used ones are deleted.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from statestream.models import jpeg
from statestream.models.data.cache import cache
from statestream.models.data.picture_formats import JPEG, grey_of, pillow, pixels_of
from statestream.models.data.tables import DataError, Table
from statestream.models.files import replacing
from statestream.models.levels import levels
from statestream.models.npy import unhindered
from statestream.models.spec import Array, PictureRange

CHANNELS = ("red", "green", "blue")
_QUALITY = 95
_KEPT = 2
"""Version of the cached files' format."""
MOST_BYTES = 10_000_000_000
"""Most bytes of all cached films; the newest film stays whatever its size."""


def decoded(
    picture: bytes | Array,
    height: int,
    width: int,
    mode: Literal["RGB", "L"] = "RGB",
    span: PictureRange | None = None,
) -> Array:
    """Convert a picture, encoded or decoded, to uint8 `[height, width, 3]`, or `[height, width]` in grey.

    A picture of another size is resized by areas, as an encoder of frames does in the graph.

    Args:
        span: values of a picture of more than 8 bits that become 0 and 255; None: such a picture is refused.

    Raises:
        DataError: the picture cannot be decoded, or has another depth than `span` is for.
    """
    if mode == "L" and isinstance(picture, bytes):
        return resized(grey_of(picture), height, width)
    pixels = pixels_of(picture) if isinstance(picture, bytes) else picture
    return resized(_levels(pixels, span), height, width)


def resized(pixels: Array, height: int, width: int) -> Array:
    """Resize `[H, W, 3]` or `[H, W]` by areas; unchanged if it has the size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = pillow()
    return np.asarray(image.fromarray(pixels).resize((width, height), image.Resampling.BOX))


def as_jpeg(picture: bytes | Array, size: tuple[int, int], span: PictureRange | None = None) -> bytes:
    """Convert a picture to a JPEG of a size (height, width); a JPEG of that size stays unchanged.

    Raises:
        DataError: the picture cannot be decoded, or has another depth than `span` is for.
    """
    with suppress(jpeg.FrameError):
        if isinstance(picture, bytes) and picture.startswith(JPEG) and not span and jpeg.size_of(picture) == size:
            return picture
    return jpeg.encode(decoded(picture, *size, span=span), quality=_QUALITY)


def _levels(pixels: Array, span: PictureRange | None) -> Array:
    eight = pixels.dtype == np.uint8
    if eight and span:
        raise DataError(f"the picture has 8 bits, and data.picture_range = {list(span)} is for pictures of more")
    if not eight and not span:
        raise DataError(
            f"the picture's values are {pixels.dtype}, from {pixels.min()} to {pixels.max()}; set "
            "data.picture_range = [LOW, HIGH], whose values become the levels 0 and 255 that the network takes"
        )
    return levels(pixels, span) if span else pixels


def first_pixels(table: Table, name: str) -> Array:
    """Decode the first picture of a column: uint8 `[H, W, 3]`, or the values `[H, W]` of more than 8 bits.

    Raises:
        DataError: it is no picture; the text names the row.
    """
    with _named(table, name, 0):
        picture = _picture(table, name, 0)
        return pixels_of(picture) if isinstance(picture, bytes) else picture


def frames(table: Table, name: str, size: tuple[int, int], span: PictureRange | None = None) -> Array:
    """Decode a column of pictures at a size (height, width) to uint8 `[N, H, W, 3]`; see `decoded`.

    Raises:
        DataError: a cell is no picture; the text names the row. Or there is no room for the pictures.
    """
    shape = (table.rows, *size, len(CHANNELS))
    try:
        return _film(table, name, shape, span) if table.files else _filled(table, name, np.empty(shape, np.uint8), span)
    except (MemoryError, OSError) as error:  # Of the memory, of its addresses, or of the cache's disk.
        raise DataError(f"{table.path}: its pictures, {math.prod(shape):,} bytes, cannot be kept: {error}") from error


def _film(table: Table, name: str, shape: tuple[int, ...], span: PictureRange | None) -> Array:
    """Pictures of a table in a cached file, mapped into memory."""
    _, height, width, _ = shape
    path = cache() / "frames" / f"{_identity(table, name, (height, width), span)}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            _filled(table, name, np.lib.format.open_memmap(temporary, "w+", np.uint8, shape), span).flush()
        _sweep(path.parent)
    os.utime(path)
    return np.asarray(unhindered(np.load, path, mmap_mode="r"))


def jpegs(table: Table, name: str, size: tuple[int, int], span: PictureRange | None = None) -> Array:
    """Encode a column of pictures as JPEGs of a size (height, width): `[N]` bytes objects; see `as_jpeg`.

    Raises:
        DataError: a cell is no picture; the text names the row.
    """
    found = np.empty(table.rows, object)
    for row in range(table.rows):
        with _named(table, name, row):
            found[row] = as_jpeg(_picture(table, name, row), size, span)
    return found


def _filled(table: Table, name: str, pixels: Any, span: PictureRange | None) -> Any:
    """Decode a column of pictures into `pixels`, an array or a mapped file."""
    _, height, width, _ = pixels.shape
    for row in range(table.rows):
        with _named(table, name, row):
            pixels[row] = decoded(_picture(table, name, row), height, width, span=span)
    return pixels


def _sweep(folder: Path) -> None:
    """Delete the least recently used films beyond `MOST_BYTES`.

    Other processes may do so at the same time; a deleted film stays readable where it is mapped.
    """
    found = []
    for film in folder.glob("[!.]*.npy"):
        with suppress(FileNotFoundError):
            stat = film.stat()
            found.append((stat.st_mtime_ns, stat.st_size, film))
    kept = 0
    for _, size, film in sorted(found, reverse=True):
        kept += size
        if kept > MOST_BYTES and kept > size:
            film.unlink(missing_ok=True)


def _picture(table: Table, name: str, row: int) -> bytes | Array:
    """Return a cell's picture; a callable cell is called to read it."""
    cell = table.cells(name)[row]
    picture = cell() if callable(cell) else cell
    if not isinstance(picture, (bytes, np.ndarray)):
        raise DataError(f"'{picture}' is no picture, and the network takes pictures")
    return picture


@contextmanager
def _named(table: Table, name: str, row: int) -> Iterator[None]:
    """Name the cell in errors of its picture."""
    try:
        yield
    except (DataError, OSError, ValueError) as error:  # ValueError: a path with a null byte.
        raise DataError(f"{table.at(row, name)}: {error}") from None
    except MemoryError:
        raise DataError(f"{table.at(row, name)}: the picture is too large for the memory") from None


def _identity(table: Table, name: str, size: tuple[int, int], span: PictureRange | None) -> str:
    """Hash of a film's files, column, size, range and decoder, which names its cached file."""
    found = hashlib.sha256(repr((_KEPT, name, size, span, table.rows, version("simplejpeg"))).encode())
    for path in table.files:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot read it: {error.strerror}") from None
        found.update(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode())
    return found.hexdigest()[:32]
