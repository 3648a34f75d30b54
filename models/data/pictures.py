"""Encoded pictures as arrays: a JPEG as the server decodes it, to the bit. Pillow is imported only for the others, and
where a picture has not the size that is wanted.

Those of a table that says which files they come from are decoded once and kept, mapped into memory: a film is larger
than what is at hand, and training reads pieces of it. Of those that are kept the ones longest not asked for go, when
they come to more than `MOST_BYTES`.
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
"""Rises when what is kept changes its form."""
MOST_BYTES = 10_000_000_000
"""Of all films that are kept; the newest stays whatever its size."""


def decoded(data: bytes, height: int, width: int, mode: Literal["RGB", "L"] = "RGB") -> Array:
    """A JPEG or PNG as uint8 `[height, width, 3]`, or `[height, width]` in grey.

    Of another size, it is resized by areas, as an encoder of frames does it in the graph.

    Raises:
        DataError: it cannot be decoded.
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
    """`[H, W, 3]` by areas; as it is where it has that size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = _pillow()
    return np.asarray(image.fromarray(pixels).resize((width, height), image.Resampling.BOX))


def frames(table: Table, name: str, size: tuple[int, int]) -> Array:
    """The pictures of a table's column at a size (height, width): uint8 `[N, H, W, 3]`.

    Raises:
        DataError: naming the row whose cell is no picture.
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
    """`[N]` bytes: the pictures of a table's column as a camera of that size (height, width) sends them.

    A JPEG of the size stays what it is.

    Raises:
        DataError: naming the row whose cell is no picture.
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
    """Another process may sweep as well; a film that is mapped stays readable to who mapped it."""
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
    """What a cell holds, or reads when it is called."""
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
    """Of what is decoded: other files, another size or another decoder make another film."""
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
