"""What a command shows while it runs, and keeps for the documentation."""

from __future__ import annotations

import time


class Said:
    """What was shown, line by line, as it happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._start_s = time.monotonic()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        print(f"{time.monotonic() - self._start_s:6.1f} s  {line}", flush=True)
