"""Precise timer: a kernel timer wakes within some 50 µs, an event loop's timer within 1 ms."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class PreciseTimer:
    """Sleeps until a time of `time.monotonic_ns`, by timerfd if available, else by the loop's timers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS) if hasattr(self._libc, "timerfd_create") else -1
        self._waiter: asyncio.Future[None] | None = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._expired)

    async def until(self, when_ns: int) -> None:
        """Sleep until `when_ns`; if that has passed, only let other tasks run."""
        if when_ns <= time.monotonic_ns():
            await asyncio.sleep(0)
        elif self._fd < 0:
            await asyncio.sleep((when_ns - time.monotonic_ns()) / 1e9)
        else:
            self._waiter = self._loop.create_future()
            spec = struct.pack("qqqq", 0, 0, when_ns // 1_000_000_000, when_ns % 1_000_000_000)
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, spec, None)
            await self._waiter

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
