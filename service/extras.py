"""Optional packages, which extras of the distribution install."""

from __future__ import annotations

import importlib
from types import ModuleType

from statestream.service.errors import FailedPrecondition


def need(module: str, extra: str) -> ModuleType:
    """Import a module that needs the packages of an extra.

    Raises:
        FailedPrecondition: a package is missing; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "statestream").partition(".")[0] == "statestream":
            raise
        raise FailedPrecondition(f"{error.name} is not installed: pip install 'statestream[{extra}]'") from error
