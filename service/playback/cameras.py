"""Live cameras: `webcam:NUMBER` (V4L2) and RTSP addresses.

A thread reads the camera and keeps only the newest frame. PyAV is imported when a camera is opened.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from statestream.models.data.pictures import resized
from statestream.models.spec import Array
from statestream.service.errors import InvalidArgument, Unavailable
from statestream.service.extras import need

_TIMEOUT_S = 10.0
"""Longest wait for an address to answer, and for the next frame, in seconds."""
_RTSP = ("rtsp://", "rtsps://")


class Shot(NamedTuple):
    """A frame of a camera."""

    pixels: Array
    """uint8 `[H, W, 3]`, RGB, of the size requested"""
    t_ns: int
    """Time on the camera's clock, nanoseconds."""


def is_camera(source: str) -> bool:
    """Whether a source is a camera, not a file."""
    return source.startswith(("webcam:", *_RTSP))


def address_of(source: str) -> tuple[str, dict[str, Any]]:
    """The address that PyAV opens, and the options for it.

    Raises:
        InvalidArgument: `webcam:` is not followed by a number.
    """
    if source.startswith(_RTSP):
        # Over TCP no part of a frame is lost, and no incoming port is needed.
        return source, {"options": {"rtsp_transport": "tcp"}}
    number = source.removeprefix("webcam:")
    if not number.isdigit():
        raise InvalidArgument(f"'{source}', expected webcam:NUMBER, such as webcam:0", field="SOURCE")
    return f"/dev/video{number}", {"format": "v4l2"}


class Camera:
    """An open camera.

    A frame not taken before the next one arrives is skipped.

    Args:
        source: `webcam:NUMBER` or an RTSP address.
        size: height and width of the frames; frames of another size are resized.

    Raises:
        Unavailable: there is no such camera, or it has no video.
        FailedPrecondition: PyAV is not installed.
    """

    def __init__(self, source: str, size: tuple[int, int]) -> None:
        self.passed_over = 0
        """Frames that were skipped."""
        self._source, self._size = source, size
        self._container = _opened(source)
        self.rate_hz = float(self._container.streams.video[0].average_rate or 30)
        """Frames per second as declared by the camera."""
        self._loop = asyncio.get_running_loop()
        self._newest: Any = None
        self._ended: str | None = None
        """Why the camera ended; empty: it ended without an error; None: it has not ended."""
        self._news = asyncio.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    async def shots(self) -> AsyncIterator[Shot]:
        """Yield the newest frame whenever the caller is ready for one.

        Raises:
            Unavailable: the camera was disconnected.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            frame, self._newest = self._newest, None
            if frame is not None:
                yield await asyncio.to_thread(self._shot, frame)
            elif self._ended is not None:
                if self._ended:
                    raise Unavailable(f"{shown(self._source)}: {self._ended}", field="SOURCE")
                return
            if self._ended is not None:
                self._news.set()

    def close(self) -> None:
        """Stop reading and release the camera."""
        self._closing = True
        self._thread.join(_TIMEOUT_S)
        self._container.close()

    def _shot(self, frame: Any) -> Shot:
        pixels = resized(np.asarray(frame.to_ndarray(format="rgb24")), *self._size)
        t_ns = time.monotonic_ns() if frame.pts is None else round(frame.pts * frame.time_base * 1_000_000_000)
        return Shot(pixels, t_ns)

    def _read(self) -> None:
        import av

        why = ""
        try:
            for frame in self._container.decode(video=0):
                if self._closing:
                    return
                self._loop.call_soon_threadsafe(self._on_frame, frame)
        except av.FFmpegError as error:
            why = error.strerror or "the camera was disconnected"
        if not self._closing:
            self._loop.call_soon_threadsafe(self._end, why)

    def _on_frame(self, frame: Any) -> None:
        self.passed_over += self._newest is not None
        self._newest = frame
        self._news.set()

    def _end(self, why: str) -> None:
        self._ended = why
        self._news.set()


def shown(source: str) -> str:
    """A source for printing: an address without its user name and password."""
    return re.sub("//[^/@]*@", "//", source)


def _opened(source: str) -> Any:
    av = need("av", "video")
    address, how = address_of(source)
    try:
        container = av.open(address, timeout=_TIMEOUT_S, **how)
    except av.FFmpegError as error:
        raise Unavailable(f"{shown(source)}: {error.strerror}{_others(address)}", field="SOURCE") from None
    if not container.streams.video:
        container.close()
        raise Unavailable(f"{shown(source)}: it has no video", field="SOURCE")
    return container


def _others(address: str) -> str:
    """Names the local cameras, for the error when one cannot be opened."""
    if not address.startswith("/dev/video"):
        return ""
    there = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
    return "; this machine has " + (", ".join(f"webcam:{number}" for number in there) or "no camera")
