"""Encoded pictures as arrays. Pillow is imported only for them."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np

from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array

CHANNELS = ("red", "green", "blue")


def decoded(data: bytes, height: int, width: int, mode: Literal["RGB", "L"] = "RGB") -> Array:
    """A JPEG or PNG as uint8 `[height, width, 3]`, or `[height, width]` in grey.

    Of another size, it is resized by areas, as an encoder of frames does it in the graph.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError("decoding pictures needs Pillow: pip install 'statestream[mcap]'") from None
    try:
        with Image.open(BytesIO(data)) as picture:
            pixels = picture.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"a picture of {len(data)} bytes cannot be decoded: {error}") from None
    return np.asarray(pixels.resize((width, height), Image.Resampling.BOX))


def frames(table: Table, name: str, size: tuple[int, int]) -> Array:
    """The pictures of a table's column at a size (height, width): uint8 `[N, H, W, 3]`.

    Raises:
        DataError: naming the row whose cell is no picture.
    """
    cells = table.cells(name)
    pixels = np.empty((len(cells), *size, len(CHANNELS)), np.uint8)
    for row, cell in enumerate(cells):
        if not isinstance(cell, bytes):
            raise DataError(f"{table.at(row, name)}: '{cell}' is no picture, and the network takes pictures")
        try:
            pixels[row] = decoded(cell, *size)
        except DataError as error:
            raise DataError(f"{table.at(row, name)}: {error}") from None
    return pixels
