"""JPEG as everybody here reads and writes it: training, offline rollouts, server and clients decode alike, to the bit.

Dimensions and scans are looked at before anything is decoded, so that a small file cannot ask for much work. simplejpeg
is imported only for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from statestream.models.spec import Array, InputSpec

MAX_SCANS = 64
"""A progressive file has about ten; each is a pass over the whole picture, however little it holds."""
_SPACES = {"rgb": "RGB", "bgr": "BGR", "grey": "GRAY"}


class FrameError(ValueError):
    """A picture that cannot be used, and why."""


def decode(data: bytes, spec: InputSpec, into: Array) -> None:
    """Write a JPEG as the input wants it, in its order of colours, `into` a contiguous uint8 `[*spec.shape]`.

    Raises:
        FrameError: it is no JPEG, has another size, is cut off or would take too long.
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
    """A picture uint8 `[H, W, 3]`, or `[H, W, 1]` in grey, as a JPEG."""
    data: bytes = simplejpeg().encode_jpeg(np.ascontiguousarray(picture), quality, _SPACES[colours], _sampling(colours))
    return data


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG; FrameError where it is none."""
    try:
        height, width = simplejpeg().decode_jpeg_header(data)[:2]
    except ValueError:
        raise FrameError(f"{len(data)} bytes that are no JPEG") from None
    return height, width


def simplejpeg() -> Any:
    """The library; FrameError says how to install it."""
    try:
        import simplejpeg as library
    except ImportError:
        raise FrameError("frames need simplejpeg: pip install 'statestream[video]'") from None
    return library


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _sampling(colours: str) -> str:
    return "Gray" if colours == "grey" else "420"
