"""Cameras that are there now: `webcam:NUMBER` (V4L2) and RTSP addresses, read in a thread that keeps the newest frame
alone. PyAV is imported when one is opened.
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
"""For an address to answer, and for the next frame to come."""
_RTSP = ("rtsp://", "rtsps://")


class Shot(NamedTuple):
    """What a camera saw."""

    pixels: Array
    """uint8 `[H, W, 3]`, red first, of the size that was asked for"""
    t_ns: int
    """By the camera's own clock."""


def is_camera(source: str) -> bool:
    """Whether a source is a camera, rather than a file."""
    return source.startswith(("webcam:", *_RTSP))


def address_of(source: str) -> tuple[str, dict[str, Any]]:
    """What PyAV is to open, and how.

    Raises:
        InvalidArgument: no number stands behind `webcam:`.
    """
    if source.startswith(_RTSP):
        # Over TCP nothing of a frame is lost, and no port has to be open for it.
        return source, {"options": {"rtsp_transport": "tcp"}}
    number = source.removeprefix("webcam:")
    if not number.isdigit():
        raise InvalidArgument(f"'{source}', expected webcam:NUMBER, such as webcam:0", field="SOURCE")
    return f"/dev/video{number}", {"format": "v4l2"}


class Camera:
    """A camera that is being read. A frame that nobody has taken when the next one comes is passed over.

    Args:
        source: `webcam:NUMBER` or an RTSP address.
        size: height and width of its pictures; another size of its own is resized.

    Raises:
        Unavailable: there is none, or it gives no video.
        FailedPrecondition: PyAV is missing.
    """

    def __init__(self, source: str, size: tuple[int, int]) -> None:
        self.passed_over = 0
        """Frames that nobody took."""
        self._source, self._size = source, size
        self._container = _opened(source)
        self.rate_hz = float(self._container.streams.video[0].average_rate or 30)
        """Frames a second, as it says itself."""
        self._loop = asyncio.get_running_loop()
        self._newest: Any = None
        self._ended: str | None = None
        """Why no more frames come; empty: they just end."""
        self._news = asyncio.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    async def shots(self) -> AsyncIterator[Shot]:
        """Each frame, as soon as the one before has been dealt with.

        Raises:
            Unavailable: the camera went away.
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
        """Read no more; returns when the camera is free again."""
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
                self._loop.call_soon_threadsafe(self._came, frame)
        except av.FFmpegError as error:
            why = error.strerror or "the camera went away"
        if not self._closing:
            self._loop.call_soon_threadsafe(self._end, why)

    def _came(self, frame: Any) -> None:
        self.passed_over += self._newest is not None
        self._newest = frame
        self._news.set()

    def _end(self, why: str) -> None:
        self._ended = why
        self._news.set()


def shown(source: str) -> str:
    """A source as it may be printed: without the name and password of an address."""
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
        raise Unavailable(f"{shown(source)}: there is no video in it", field="SOURCE")
    return container


def _others(address: str) -> str:
    """Which cameras there are, where one of this machine cannot be opened."""
    if not address.startswith("/dev/video"):
        return ""
    there = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
    return "; there is " + (", ".join(f"webcam:{number}" for number in there) or "no camera here")
