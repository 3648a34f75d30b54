"""Every import path that documents named or modules exported leads to what it led to."""

from __future__ import annotations

import importlib

import pytest

from tests.compatibility import stored_lists

IMPORTS = stored_lists.read("imports")


@pytest.mark.parametrize("module", IMPORTS)
def test_public_imports_are_there(module: str) -> None:
    importlib.import_module(module)
    for name in IMPORTS[module]:
        exec(f"from {module} import {name}")


def test_a_moved_module_takes_no_functions_place() -> None:
    importlib.import_module("statestream.service.client.merge")
    from statestream.service.client import merge

    assert callable(merge)
