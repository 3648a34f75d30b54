"""Slots: taken, freed, reused, and never showing one session what was another's."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.spec import NO_TIME
from statestream.service.sessions.table import DETACHED, SessionTable
from tests.conftest import FakeClock, leaky_manifest


@pytest.fixture
def table(clock: FakeClock) -> SessionTable:
    return SessionTable(leaky_manifest(), clock=clock, capacity=2)


def test_a_new_session_in_a_used_slot_starts_from_the_beginning(table: SessionTable) -> None:
    slot = table.create("old")
    table.attach(slot, route=4, channel=9)
    table.settled_seq[slot], table.acked_seq[slot], table.last_ns[slot] = 7, 5, 123
    table.arena.scatter(np.array([slot]), {"h": np.ones((1, 2), np.float32)})
    table.end("old")
    again = table.create("new")
    assert again == slot
    info = table.info("new")
    assert (info.settled_seq, info.acked_seq, info.last_timestamp_ns, info.epoch) == (0, 0, None, 0)
    assert table.route[again] == DETACHED
    np.testing.assert_array_equal(table.state("new")["h"], [0.5, 0.5])


def test_growing_keeps_every_session(table: SessionTable) -> None:
    slots = {}
    for number in range(100):
        slots[number] = table.create(f"s{number}")
        table.settled_seq[slots[number]] = number
        table.arena.scatter(np.array([slots[number]]), {"h": np.full((1, 2), number, np.float32)})
    assert len(set(slots.values())) == 100
    for number in range(100):
        assert table.info(f"s{number}").settled_seq == number
        np.testing.assert_array_equal(table.state(f"s{number}")["h"], [number, number])


def test_an_id_can_be_taken_once(table: SessionTable) -> None:
    table.create("s")
    with pytest.raises(KeyError):
        table.create("s")


def test_only_sessions_that_nobody_holds_grow_idle(table: SessionTable, clock: FakeClock) -> None:
    held, left = table.create("held"), table.create("left")
    table.attach(held, route=0, channel=0)
    table.attach(left, route=0, channel=1)
    clock.now_s += 50
    table.detach(left)
    clock.now_s += 50
    assert table.idle(ttl_s=60) == []
    clock.now_s += 20
    assert table.idle(ttl_s=60) == ["left"]
    assert table.info("left").idle_s == 70


def test_a_reset_forgets_state_and_time_but_not_seqs(table: SessionTable) -> None:
    slot = table.create("s")
    table.settled_seq[slot], table.last_ns[slot] = 7, 123
    table.arena.scatter(np.array([slot]), {"h": np.ones((1, 2), np.float32)})
    table.reset(slot)
    assert table.settled_seq[slot] == 7
    assert table.last_ns[slot] == NO_TIME
    np.testing.assert_array_equal(table.state("s")["h"], [0.5, 0.5])


def test_nobody_can_acknowledge_what_is_not_settled(table: SessionTable) -> None:
    slot = table.create("s")
    table.settled_seq[slot] = 5
    table.acknowledge(slot, 2**63)
    assert table.acked_seq[slot] == 5
    table.acknowledge(slot, 3)
    assert table.acked_seq[slot] == 5
