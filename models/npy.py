"""Reads numpy's arrays again where threads of Python 3.11 disturbed each other.

numpy parses the header of an array with `ast`. Python 3.11 counts its depth in one place for all threads: two that
parse at once may end in a SystemError, whatever the files hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from statestream.models.spec import Array

Parameters = ParamSpec("Parameters")
Read = TypeVar("Read", bound=Array)
_TRIES = 10
"""Calls before the error is taken for one of the file: threads that did nothing else met in 1 call of 60."""


def unhindered(read: Callable[Parameters, Read], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Read:
    """Array that a call reads, called again while it ends in SystemError."""
    for _ in range(_TRIES - 1):
        try:
            return read(*args, **kwargs)
        except SystemError:
            continue
    return read(*args, **kwargs)
