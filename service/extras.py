"""Optional packages: each belongs to an extra of the distribution."""

from __future__ import annotations

import importlib
from types import ModuleType

from statestream.service.errors import FailedPrecondition


def need(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings, or one of ours that stands on such.

    Raises:
        FailedPrecondition: a package is missing; the text says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "statestream").partition(".")[0] == "statestream":
            raise
        raise FailedPrecondition(f"{error.name} is not installed: pip install 'statestream[{extra}]'") from error
