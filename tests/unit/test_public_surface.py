"""What users see stays: settings, commands and messages equal the stored lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compatibility import stored_lists, surface
from tests.unit.test_import_rules import MOVED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["settings", "commands", "messages"])
def test_names_users_know_equal_the_stored_list(name: str) -> None:
    now = getattr(surface, name)()
    assert sorted(stored_lists.lines(stored_lists.read(name)) ^ stored_lists.lines(now)) == [], stored_lists.ADVICE


def test_documents_name_no_path_that_moved() -> None:
    moved = {f"statestream.{path}" for path in MOVED}
    assert {module for module, _ in surface.documented(ROOT)} & moved == set()


def test_a_difference_is_found() -> None:
    before = {"address": {"default": "a", "kind": {"one of": ["x", "y"]}, "least": 1}}
    after = {"address": {"default": "b", "kind": {"one of": ["y", "x", "z"]}, "least": 1}}
    assert stored_lists.lines(before) - stored_lists.lines(after) == {'/address/default = "a"'}
    assert stored_lists.lines(after) - stored_lists.lines(before) == {
        '/address/default = "b"',
        '/address/kind/one of has "z"',
    }
    assert stored_lists.lines({"a": {}}) - stored_lists.lines({}) == {"/a"}
