"""The times of every recording stay what they were when the readers were one: a change of unit or clock shows here."""

from __future__ import annotations

import json

import pytest

from tests.support.times_of_sets import STORED, facts, sources

TIMES = json.loads(STORED.read_text())
HERE = sources()


@pytest.mark.parametrize("name", TIMES)
def test_times_are_those_that_were_stored(name: str) -> None:
    if name not in HERE:
        pytest.skip(f"{name}: not on this machine")
    assert facts(HERE[name]()) == TIMES[name]


def test_every_set_and_preset_is_stored() -> None:
    assert set(HERE) <= set(TIMES)
