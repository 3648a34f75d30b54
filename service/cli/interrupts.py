"""Ctrl-C handling: a first Ctrl-C, or SIGTERM, ends a command in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """Yield an event that a first Ctrl-C or SIGTERM sets.

    A second one ends the process, Ctrl-C by KeyboardInterrupt.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        yield stop
    finally:
        restore()
