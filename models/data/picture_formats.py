"""Decodes encoded pictures to pixels of the depth that they have: 8 bits, 16 bits or floats.

What Pillow would reduce in silence, to 8 bits or by leaving out what is transparent, is refused by its mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np

from statestream.models import jpeg
from statestream.models.data.tables import DataError
from statestream.models.spec import Array, InputSpec

JPEG = b"\xff\xd8"
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
_DEEP = ("I;16", "I;16B", "I;16L", "I", "F")
"""Pillow's modes of more than 8 bits."""
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_OPAQUE = ("1", "L", "P", "RGB", "YCbCr")
_PNG, _PNG_BITS = b"\x89PNG", 24
"""First bytes of a PNG, and where it states the bits of a sample."""
_TIFF_BITS = 258
"""Tag of a TIFF with the bits of each sample."""
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PPM = re.compile(rb"P[2356]" + _GAP + rb"\d+" + _GAP + rb"\d+" + _GAP + rb"(\d+)\s")
"""Start of a PGM or PPM, up to the largest value that its samples may have."""


def pixels_of(data: bytes) -> Array:
    """Decode a picture: uint8 `[H, W, 3]`, red first, or the values `[H, W]` of a picture of more than 8 bits.

    A JPEG is decoded bit for bit as the server does.

    Raises:
        DataError: the picture cannot be decoded, or its mode is not read.
    """
    if data.startswith(JPEG):
        return _of_jpeg(data)
    with _opened(data) as picture:
        return np.asarray(picture if picture.mode in _DEEP else _opaque(picture).convert("RGB"))


def grey_of(data: bytes) -> Array:
    """Decode a picture of 8 bits to uint8 `[H, W]`.

    Raises:
        DataError: the picture cannot be decoded, or its mode is not read.
    """
    with _opened(data) as picture:
        if picture.mode in _DEEP:
            raise DataError(f"a picture of mode {picture.mode}; expected one of 8 bits")
        return np.asarray(_opaque(picture).convert("L"))


def pillow() -> Any:
    """Import Pillow.

    Raises DataError, with how to install it, if it is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError("this picture needs Pillow: pip install 'statestream[video]'") from None
    return Image


def _of_jpeg(data: bytes) -> Array:
    try:
        found = InputSpec(name="x", shape=(*jpeg.size_of(data), 3), dtype="uint8", encoding="jpeg", colours="rgb")
        pixels = np.empty(found.shape, np.uint8)
        jpeg.decode(data, found, pixels)
    except jpeg.FrameError as error:
        raise DataError(f"a picture of {len(data)} bytes cannot be decoded: {error}") from None
    return pixels


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """Open a picture of a mode that is read."""
    try:
        with pillow().open(BytesIO(data), formats=_FORMATS) as picture:
            _check(picture, data)
            yield picture
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files.
        raise DataError(f"a picture of {len(data)} bytes cannot be decoded: {error}") from None


def _check(picture: Any, data: bytes) -> None:
    """Raise DataError if converting the picture would lose something."""
    mode = picture.mode
    if getattr(picture, "n_frames", 1) > 1:
        raise DataError(f"a file of {picture.n_frames} pictures; a row has one")
    if mode not in (*_DEEP, *_TRANSPARENT, *_OPAQUE):
        raise DataError(f"a picture of mode {mode}; convert it to RGB")
    if mode not in _DEEP and _bits(picture, data) > 8:
        raise DataError(f"a picture of mode {mode} with {_bits(picture, data)} bits per colour; convert it to 8 bits")
    if (found := _PPM.match(data)) and int(found[1]) != 255:  # Pillow scales its values, to 8 or to 16 bits.
        raise DataError(f"a PGM or PPM with values up to {int(found[1])}, not 255; convert it to PNG")
    if mode in _DEEP and "transparency" in picture.info:
        raise DataError(f"a picture of mode {mode} with a transparent value; remove its transparency")
    if (mode in _TRANSPARENT or "transparency" in picture.info) and _least_alpha(picture) < 255:
        raise DataError(f"a picture of mode {mode} with transparent pixels; convert it to RGB")


def _bits(picture: Any, data: bytes) -> int:
    """Bits per sample that the file states; Pillow keeps 8 of more where there are several channels."""
    if data.startswith(_PNG):
        return data[_PNG_BITS]
    return int(max(picture.tag_v2.get(_TIFF_BITS, (8,)))) if picture.format == "TIFF" else 8


def _opaque(picture: Any) -> Any:
    """The picture, one with a palette without its transparency."""
    return picture.convert("RGBA") if picture.mode == "P" and "transparency" in picture.info else picture


def _least_alpha(picture: Any) -> int:
    return int(picture.convert("RGBA").getchannel("A").getextrema()[0])
