"""Progress lines: what a long command prints from time to time where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

LINE_EVERY_S = 10.0
"""Longest silence without a terminal."""


class ProgressLines:
    """Lines of progress for logs and pipes, one every `LINE_EVERY_S`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._due_s = clock() + LINE_EVERY_S

    def show(self, text: Callable[[], str]) -> None:
        """Print a line if one is due and there is no terminal."""
        if self._console.is_terminal or self._clock() < self._due_s:
            return
        self._due_s = self._clock() + LINE_EVERY_S
        self._console.print(text(), highlight=False, markup=False, soft_wrap=True)
