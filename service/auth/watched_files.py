"""Watched files, which an operator may replace while the server runs: certificates, keys, lists of clients."""

from __future__ import annotations

from pathlib import Path


class WatchedFiles:
    """Detects changes to any of several files."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps = self._current_stamps()

    def changed(self) -> bool:
        """Whether a file has changed since the last call; the first compares with the start."""
        before, self._stamps = self._stamps, self._current_stamps()
        return self._stamps != before

    def _current_stamps(self) -> list[tuple[int, int, int]]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Inode, size and time of a file, which differ when it changes; zeros if it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)
