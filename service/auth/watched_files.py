"""Files that an operator replaces while the server runs: certificates, keys, lists of clients."""

from __future__ import annotations

from pathlib import Path


class WatchedFiles:
    """Tells whether any of several files has changed since the last look."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps = self._look()

    def changed(self) -> bool:
        """Whether a file is another than at the last call, or at the start before the first."""
        before, self._stamps = self._stamps, self._look()
        return self._stamps != before

    def _look(self) -> list[tuple[int, int, int]]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int]:
    """What tells a file from the one that was there before; zeros where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)
