"""The process that clients work in: neither gRPC nor an event loop survives a fork."""

from __future__ import annotations

import os
from typing import NoReturn

from statestream.service.errors import FailedPrecondition

_home = 0
"""The process that made the first client; 0 before there is one."""


def adopt_process() -> None:
    """Make this process the one that clients work in; called for each client that is made.

    Raises:
        FailedPrecondition: this process is a fork of one that had clients, so that gRPC cannot work here.
    """
    global _home
    _home = _home or os.getpid()
    check_process()


def forked() -> bool:
    """Whether this process is a fork of the one that clients work in."""
    return _home not in (0, os.getpid())


def check_process() -> None:
    """Raise FailedPrecondition in a fork of the process that clients work in."""
    if forked():
        raise FailedPrecondition(
            f"process {os.getpid()} was forked from process {_home}, which had clients already; connections do not "
            "survive a fork: start the child with the method 'spawn' (multiprocessing.get_context('spawn')) and make "
            "its client there"
        )


def refuse_pickle(client: object) -> NoReturn:
    """Raise FailedPrecondition where a client is pickled: as `__reduce__`."""
    raise FailedPrecondition(
        f"{type(client).__name__} is a connection of its process and cannot be pickled; give the other process the "
        "address, and make a client there"
    )
