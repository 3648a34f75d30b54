"""Locks between the processes that run tests: one that measures time runs while no other does."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Files that are there anyway, so that no lock is left behind.
_DOOR, _ROOM = Path(__file__), Path(__file__).parents[1] / "conftest.py"


@contextmanager
def alone() -> Iterator[None]:
    """Let no test begin, and wait until those that run have ended."""
    with _locked(_DOOR, fcntl.LOCK_EX), _locked(_ROOM, fcntl.LOCK_EX):
        yield


@contextmanager
def beside_others() -> Iterator[None]:
    """Wait for tests that are `alone` or wait to be, then run beside the others."""
    with _locked(_DOOR, fcntl.LOCK_SH):
        pass
    with _locked(_ROOM, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with path.open() as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a child may have the file, too
