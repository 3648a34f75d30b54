"""Watchdog: ends a server that hangs, so that its supervisor starts another. Its sessions are in the store.

The event loop beats. Each beat checks whether an engine is still in the same run as at the last one; a thread checks
whether the loop still beats. Both count beats instead of seconds, so that a process that was stopped for a while, or a
machine that slept, does not count as stuck.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping

from statestream.service.server.systemd import notify, watchdog_s

log = logging.getLogger(__name__)

EXIT_CODE = 70
_BEATS = 8
"""Beats in the time after which something is stuck."""
_SLOWEST_S = 5.0
_LAST_WORDS_S = 5.0


class Watchdog:
    """Watches one event loop and the engines that run beside it.

    Args:
        stuck_s: time after which a run or the loop is stuck.
        runs: number of the current run of each engine, by the engine's name, without idle ones.
        last_words: awaited on the loop before the process ends, if the loop still works.
    """

    def __init__(
        self, stuck_s: float, *, runs: Callable[[], Mapping[str, int]], last_words: Callable[[], Awaitable[None]]
    ) -> None:
        self._asked_s = watchdog_s()
        self._beat_s = min(stuck_s / _BEATS, _SLOWEST_S, (self._asked_s or _SLOWEST_S) / 2)
        self._patience = max(2, round(stuck_s / self._beat_s))
        """Beats after which something is stuck."""
        self._runs = runs
        self._last_words = last_words
        self._same: dict[str, tuple[int, int]] = {}
        """For each running engine: its run, and for how many beats it has been in it."""
        self._beats = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    async def run(self) -> None:
        """Watch until cancelled, or until something is stuck, which ends the process."""
        self._thread.start()
        try:
            while True:
                if (stuck := self._beat()) is not None:
                    await self._end(f"model {stuck} has been in one run for {self._patience * self._beat_s:g} s")
                    return
                await asyncio.sleep(self._beat_s)
        finally:
            self._stopped.set()

    def _beat(self) -> str | None:
        """Count a beat, and notify the supervisor unless an engine may hang. Returns a stuck engine, if any."""
        self._beats += 1
        was = self._same
        self._same = {
            name: (number, was[name][1] + 1 if was.get(name, (0, 0))[0] == number else 0)
            for name, number in self._runs().items()
        }
        if self._asked_s is not None and not any(beats for _, beats in self._same.values()):
            notify("WATCHDOG=1")
        return next((name for name, (_, beats) in self._same.items() if beats >= self._patience), None)

    async def _end(self, why: str) -> None:
        log.critical("stuck: %s; ending the process", why)
        try:
            await asyncio.wait_for(self._last_words(), _LAST_WORDS_S)
        except Exception:
            log.exception("storing the sessions before the end failed")
        _die()

    def _watch(self) -> None:
        seen, still = -1, 0
        while not self._stopped.wait(self._beat_s):
            seen, still = self._beats, still + 1 if seen == self._beats else 0
            if still >= self._patience:
                log.critical(
                    "stuck: the event loop has been blocked for %g s; ending the process", still * self._beat_s
                )
                faulthandler.dump_traceback(sys.__stderr__ or 2)
                _die()


def _die() -> None:
    """End the process at once: any other way would wait for what hangs."""
    logging.shutdown()
    os._exit(EXIT_CODE)
