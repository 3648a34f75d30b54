"""Decodes video of which each message holds one frame, as `foxglove.CompressedVideo` does.

A frame follows from those before it, back to a key frame. Frames before the first one cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers.messages import Packet
from statestream.models.data.readers.reader import Facts, imported
from statestream.models.data.tables import DataError
from statestream.models.spec import Array

_DECODERS = {"h264": "h264", "h265": "hevc", "vp9": "vp9", "av1": "libdav1d"}
"""Decoders of PyAV by the formats of messages."""
FORMATS = tuple(_DECODERS)


class MessageVideo:
    """Frames of a topic's messages, decoded on demand.

    Reading them in order takes one pass; after a jump back, decoding continues from the last known key frame before.
    """

    def __init__(self, path: Path, topic: str, packets: Sequence[Packet], facts: Facts) -> None:
        self._av = imported(path, "av", "videos", facts)
        self._place = f"{path}: video of {topic}"
        self._packets = packets
        self._kind = packets[0].format
        if any(packet.format != self._kind for packet in packets):
            raise DataError(f"{self._place}: its format changes")
        self._keys = {0}
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next = len(packets)

    @cached_property
    def first(self) -> int:
        """Index of the first frame that can be decoded.

        Raises:
            DataError: there is none.
        """
        first = next((index for index, _ in self._decode(0)), None)
        if first is None:
            raise DataError(f"{self._place}: none of {len(self._packets)} messages has a key frame of {self._kind}")
        return first

    def picture(self, index: int) -> Array:
        """Decode the frame of a message to uint8 `[H, W, 3]`, RGB.

        Raises:
            DataError: it cannot be decoded.
        """
        if index < self._next:
            self._frames = self._decode(max(key for key in self._keys if key <= index))
        for found, frame in self._frames:
            self._next = found + 1
            if found == index:
                return np.asarray(frame.to_ndarray(format="rgb24"))
            if found > index:
                break
        raise DataError(f"{self._place}: the frame of message {index} cannot be decoded")

    def _decode(self, start: int) -> Iterator[tuple[int, Any]]:
        """Indices and frames, from a key frame on."""
        context = self._av.CodecContext.create(_DECODERS[self._kind], "r")
        context.thread_count = 1  # A context with threads of its own may hang when it is freed.
        begun = False
        for index in range(start, len(self._packets)):
            packet = self._av.Packet(self._packets[index].data)
            packet.pts = packet.dts = index
            try:
                frames = context.decode(packet)
            except Exception as error:
                if begun:
                    text = f"the frame of message {index} cannot be decoded: {error}"
                    raise DataError(f"{self._place}: {text}") from error
                continue  # The frames that it follows from are not in the log.
            for frame in frames:
                begun = True
                yield self._known(frame)
        yield from map(self._known, context.decode(None))

    def _known(self, frame: Any) -> tuple[int, Any]:
        if frame.key_frame:
            self._keys.add(frame.pts)
        return frame.pts, frame
