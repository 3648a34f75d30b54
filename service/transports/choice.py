"""Choice of the transport: what a setting means on this machine."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib import import_module
from typing import Literal

from statestream.service.errors import FailedPrecondition

log = logging.getLogger(__name__)

Transport = Literal["grpc", "native"]
Wanted = Literal["auto", "grpc", "native"]
_CORE = "statestream.service.transports.native._core"
_GAIN = "with it a message of one of many streams takes about a third of the CPU time"
_NEEDS = "it needs g++ and libnghttp2-dev when statestream is installed"


def lacking() -> str:
    """What the native transport lacks on this machine, and what it would bring; empty: it lacks nothing."""
    if sys.platform != "linux":
        return f"the native transport is for Linux; {_GAIN}"
    try:
        import_module(_CORE)
    except ModuleNotFoundError:
        return f"the native transport was not built: {_NEEDS}; {_GAIN}"
    except ImportError as error:
        return f"the native transport cannot be loaded: {error}; {_GAIN}"
    return ""


def choose(wanted: Wanted) -> Transport:
    """Choose the transport; `auto` is the native one if it works in the running event loop, which uvloop must be.

    Raises:
        FailedPrecondition: the native one is wanted, and was not built.
    """
    if wanted == "grpc":
        return "grpc"
    if lack := lacking():
        if wanted == "native":
            raise FailedPrecondition(lack, field="transport")
        log.info("%s", lack)
        return "grpc"
    if wanted == "native" or _on_uvloop():
        return "native"
    log.info("the native transport is for uvloop's event loop")
    return "grpc"


def _on_uvloop() -> bool:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop"
