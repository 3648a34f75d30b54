"""JPEG codec shared by training, rollouts, server and clients, bit for bit the same.

Dimensions and scans are checked before decoding, so that a small file cannot cause much work. simplejpeg is imported
only when a picture is decoded or encoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from statestream.models.spec import Array, InputSpec

MAX_SCANS = 64
"""Most scans of a progressive file, which usually has about ten; each is a pass over the whole picture."""
_SPACES = {"rgb": "RGB", "bgr": "BGR", "grey": "GRAY"}


class FrameError(ValueError):
    """A picture that cannot be used; the message has the reason."""


def decode(data: bytes, spec: InputSpec, into: Array) -> None:
    """Decode a JPEG, in the input's order of colours, `into` a contiguous uint8 `[*spec.shape]`.

    Raises:
        FrameError: the data is no JPEG, has another size, is cut off or has too many scans.
    """
    expected = spec.shape[:2]
    if (found := size_of(data)) != expected:
        raise FrameError(f"a picture of {_pixels(found)} pixels, expected {_pixels(expected)}")
    if (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise FrameError(f"a JPEG of {scans} scans, at most {MAX_SCANS}")
    try:
        simplejpeg().decode_jpeg(data, _SPACES[spec.colours or "rgb"], buffer=into)
    except ValueError as error:
        raise FrameError(f"a JPEG that cannot be decoded: {error}") from None


def encode(picture: Array, colours: str = "rgb", quality: int = 90) -> bytes:
    """Encode a picture uint8 `[H, W, 3]`, or `[H, W, 1]` in grey, as a JPEG."""
    data: bytes = simplejpeg().encode_jpeg(np.ascontiguousarray(picture), quality, _SPACES[colours], _sampling(colours))
    return data


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG.

    Raises FrameError if the data is none.
    """
    try:
        height, width = simplejpeg().decode_jpeg_header(data)[:2]
    except ValueError:
        raise FrameError(f"{len(data)} bytes that are no JPEG") from None
    return height, width


def simplejpeg() -> Any:
    """Import the library.

    Raises FrameError, with how to install it, if it is missing.
    """
    try:
        import simplejpeg as library
    except ImportError:
        raise FrameError("frames need simplejpeg: pip install 'statestream[video]'") from None
    return library


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _sampling(colours: str) -> str:
    return "Gray" if colours == "grey" else "420"
