"""Every import path that documents named or modules exported leads to what it led to."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest

from tests.compatibility import stored_lists

IMPORTS = stored_lists.read("imports")


@pytest.mark.parametrize("module", IMPORTS)
def test_public_imports_are_there(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in IMPORTS[module] if not hasattr(found, name)]
    assert [name for name in missing if find_spec(f"{module}.{name}") is None] == []


def test_a_moved_module_takes_no_functions_place() -> None:
    importlib.import_module("statestream.service.client.merge")
    from statestream.service.client import merge

    assert callable(merge)
