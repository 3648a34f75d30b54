"""Decodes pictures to arrays.

A JPEG bit for bit as the server does.

Pillow is imported only for other formats, and for pictures of another size. Pictures of a table that names its files
are decoded once into a cached file, which is mapped into memory: a film may be larger than memory, and training reads
segments of it. When the cached films exceed `MOST_BYTES`, the least recently used ones are deleted.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from statestream.models import jpeg
from statestream.models.data.cache import cache
from statestream.models.data.tables import DataError, Table
from statestream.models.files import replacing
from statestream.models.spec import Array, InputSpec

CHANNELS = ("red", "green", "blue")
_JPEG = b"\xff\xd8"
_QUALITY = 95
_KEPT = 1
"""Version of the cached files' format."""
MOST_BYTES = 10_000_000_000
"""Most bytes of all cached films; the newest film stays whatever its size."""


def decoded(data: bytes, height: int, width: int, mode: Literal["RGB", "L"] = "RGB") -> Array:
    """Decode a JPEG or PNG to uint8 `[height, width, 3]`, or `[height, width]` in grey.

    A picture of another size is resized by areas, as an encoder of frames does in the graph.

    Raises:
        DataError: the picture cannot be decoded.
    """
    if mode == "RGB" and data.startswith(_JPEG):
        try:
            found = InputSpec(name="x", shape=(*jpeg.size_of(data), 3), dtype="uint8", encoding="jpeg", colours="rgb")
            pixels = np.empty(found.shape, np.uint8)
            jpeg.decode(data, found, pixels)
        except jpeg.FrameError as error:
            raise DataError(f"a picture of {len(data)} bytes cannot be decoded: {error}") from None
        return resized(pixels, height, width)
    image = _pillow()
    try:
        with image.open(BytesIO(data)) as picture:
            converted = picture.convert(mode)
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise DataError(f"a picture of {len(data)} bytes cannot be decoded: {error}") from None
    return np.asarray(converted.resize((width, height), image.Resampling.BOX))


def resized(pixels: Array, height: int, width: int) -> Array:
    """Resize `[H, W, 3]` by areas; unchanged if it has the size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = _pillow()
    return np.asarray(image.fromarray(pixels).resize((width, height), image.Resampling.BOX))


def frames(table: Table, name: str, size: tuple[int, int]) -> Array:
    """Decode a column of pictures at a size (height, width) to uint8 `[N, H, W, 3]`.

    Raises:
        DataError: a cell is no picture; the text names the row.
    """
    shape = (table.rows, *size, len(CHANNELS))
    if not table.files:
        pixels = np.empty(shape, np.uint8)
        _fill(table, name, pixels)
        return pixels
    path = cache() / "frames" / f"{_identity(table, name, size)}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            mapped = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            _fill(table, name, mapped)
            mapped.flush()
        _sweep(path.parent)
    os.utime(path)
    return np.asarray(np.load(path, mmap_mode="r"))


def jpegs(table: Table, name: str, size: tuple[int, int]) -> Array:
    """Encode a column of pictures as JPEGs of a size (height, width): `[N]` bytes objects.

    A JPEG of that size stays unchanged.

    Raises:
        DataError: a cell is no picture; the text names the row.
    """
    found = np.empty(table.rows, object)
    for row, cell in enumerate(table.cells(name)):
        picture = _picture(table, name, row, cell)
        if not isinstance(picture, bytes) or not picture.startswith(_JPEG) or jpeg.size_of(picture) != size:
            picture = jpeg.encode(_pixels(table, name, row, picture, size), quality=_QUALITY)
        found[row] = picture
    return found


def _fill(table: Table, name: str, pixels: Array) -> None:
    for row, cell in enumerate(table.cells(name)):
        pixels[row] = _pixels(table, name, row, _picture(table, name, row, cell), pixels.shape[1:3])


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


def _picture(table: Table, name: str, row: int, cell: object) -> bytes | Array:
    """Return a cell's picture; a callable cell is called to read it."""
    try:
        picture = cell() if callable(cell) else cell
    except OSError as error:
        raise DataError(f"{table.at(row, name)}: {error}") from None
    if not isinstance(picture, (bytes, np.ndarray)):
        raise DataError(f"{table.at(row, name)}: '{picture}' is no picture, and the network takes pictures")
    return picture


def _pixels(table: Table, name: str, row: int, picture: bytes | Array, size: tuple[int, ...]) -> Array:
    try:
        return decoded(picture, size[0], size[1]) if isinstance(picture, bytes) else resized(picture, *size)
    except DataError as error:
        raise DataError(f"{table.at(row, name)}: {error}") from None


def _identity(table: Table, name: str, size: tuple[int, int]) -> str:
    """Hash of a film's files, column, size and decoder, which names its cached file."""
    found = hashlib.sha256(repr((_KEPT, name, size, table.rows, version("simplejpeg"))).encode())
    for path in table.files:
        stat = path.stat()
        found.update(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode())
    return found.hexdigest()[:32]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("this picture needs Pillow: pip install 'statestream[video]'") from None
    return Image
