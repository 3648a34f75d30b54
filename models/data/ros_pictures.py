"""Pictures in messages of ROS: raw images, and depth images that `compressed_depth_image_transport` packed.

A raw image is read when it is needed: its bytes stand in the message as the camera gave them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from statestream.models.data.picture_formats import pixels_of
from statestream.models.data.tables import DataError
from statestream.models.spec import Array

Picture = bytes | Callable[[], Array]
"""Encoded bytes, or a function that decodes the picture."""

_COLOURS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}
"""Places of red, green and blue in a pixel, whose bytes are named by the encoding."""
_GREY = {
    "mono8": "u1",
    "8UC1": "u1",
    "mono16": "u2",
    "16UC1": "u2",
    "16SC1": "i2",
    "32SC1": "i4",
    "32FC1": "f4",
    "64FC1": "f8",
}
_DEPTH = "compressedDepth"
_HEAD = struct.Struct("<iff")
"""Before a packed depth image: the format, and two constants of the inverse depths of floats."""


def picture_in(message: Any) -> Picture | None:
    """The picture of a message with `data`; None: it is no image."""
    if all(hasattr(message, name) for name in ("encoding", "step", "is_bigendian", "data")):
        order = ">" if message.is_bigendian else "<"
        size = (int(message.height), int(message.width))
        return RawImage(str(message.encoding), size, int(message.step), order, bytes(message.data))
    if hasattr(message, "data") and _DEPTH in (kind := str(getattr(message, "format", ""))):
        return PackedDepth(kind, bytes(message.data))
    return None


@dataclass(frozen=True)
class RawImage:
    """A `sensor_msgs/Image`."""

    encoding: str
    size: tuple[int, int]
    """Height and width."""
    step: int
    """Bytes from one row to the next."""
    order: str
    """`<` or `>`, the order of bytes in a value."""
    data: bytes

    def __call__(self) -> Array:
        """Decode it: uint8 `[H, W, 3]`, red first, or values `[H, W]` of more than 8 bits.

        Raises:
            DataError: the encoding is not read, or the message is shorter than its image.
        """
        if self.encoding in _COLOURS:
            return self._values("u1", len(self.encoding) - 1)[..., _COLOURS[self.encoding]]
        if self.encoding not in _GREY:
            raise DataError(f"an image of encoding '{self.encoding}'; read are {', '.join((*_COLOURS, *_GREY))}")
        grey = self._values(_GREY[self.encoding], 1)
        return np.repeat(grey, 3, axis=-1) if grey.dtype == np.uint8 else grey[..., 0]

    def _values(self, kind: str, channels: int) -> Array:
        height, width = self.size
        dtype = np.dtype(f"{self.order}{kind}")
        row = width * channels * dtype.itemsize
        if not row or not height or self.step < row or len(self.data) < self.step * (height - 1) + row:
            raise DataError(
                f"an image of {width}x{height} {self.encoding} in rows of {self.step} bytes has {len(self.data)} bytes"
            )
        padded = np.frombuffer(self.data.ljust(self.step * height, b"\0")[: self.step * height], np.uint8)
        rows = np.ascontiguousarray(padded.reshape(height, self.step)[:, :row])
        return rows.view(dtype).reshape(height, width, channels).astype(dtype.newbyteorder("="))


@dataclass(frozen=True)
class PackedDepth:
    """A `sensor_msgs/CompressedImage` of format `16UC1; compressedDepth png`, or with 32FC1."""

    format: str
    data: bytes

    def __call__(self) -> Array:
        """Decode it to values `[H, W]`: those of the camera, or metres; NaN where nothing was measured.

        Raises:
            DataError: the format is not read, or the picture is damaged.
        """
        encoding = self.format.partition(";")[0].strip()
        if encoding not in ("16UC1", "32FC1") or "rvl" in self.format.lower() or len(self.data) < _HEAD.size:
            raise DataError(f"a depth image of format '{self.format}'; read are 16UC1 and 32FC1 as PNG")
        packed = pixels_of(self.data[_HEAD.size :])
        if packed.dtype == np.uint8:
            raise DataError(f"a depth image of format '{self.format}' in a picture of 8 bits")
        if encoding == "16UC1":
            return packed
        _, factor, offset = _HEAD.unpack_from(self.data)
        inverse = packed.astype(np.float32)
        with np.errstate(all="ignore"):
            return np.where(packed == 0, np.float32(np.nan), np.float32(factor) / (inverse - np.float32(offset)))
