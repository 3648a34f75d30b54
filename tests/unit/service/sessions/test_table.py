"""Slots: taken, freed, reused, and never showing one session what was another's."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.spec import NO_TIME
from statestream.service.sessions.columns import DETACHED
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.table import SessionTable, TableColumns
from tests.conftest import FakeClock, leaky_manifest

ONE = np.ones((1, 2), np.float32)


@pytest.fixture
def table(clock: FakeClock) -> SessionTable:
    return SessionTable(leaky_manifest(), clock=clock, capacity=2)


def commit(table: SessionTable, slot: int, seq: int, t_ns: int, state: float) -> None:
    """Settle a session up to `seq`, with a state of equal values."""
    slots, states = np.array([slot]), {"h": np.full((1, 2), state, np.float32)}
    table.commit_rows(slots, np.array([seq]), np.array([t_ns]), slots, states)


def test_a_new_session_in_a_used_slot_starts_from_the_beginning(table: SessionTable) -> None:
    slot = table.create("old")
    table.attach(slot, route=4, channel=9)
    commit(table, slot, 7, 123, 1.0)
    table.acknowledge(slot, 5)
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
        commit(table, slots[number], number, NO_TIME, number)
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
    commit(table, slot, 7, 123, 1.0)
    table.reset(slot)
    assert table.settled_seq[slot] == 7
    assert table.last_ns[slot] == NO_TIME
    np.testing.assert_array_equal(table.state("s")["h"], [0.5, 0.5])


def test_nobody_can_acknowledge_what_is_not_settled(table: SessionTable) -> None:
    slot = table.create("s")
    commit(table, slot, 5, NO_TIME, 1.0)
    table.acknowledge(slot, 2**63)
    assert table.acked_seq[slot] == 5
    table.acknowledge(slot, 3)
    assert table.acked_seq[slot] == 5


@pytest.mark.parametrize("seqs", [(3, 9, 1), (0, 4, 4), (2**61, 2, 6), (1, 1, 1)])
def test_many_acknowledgements_at_once_are_those_one_by_one(seqs: tuple[int, int, int], clock: FakeClock) -> None:
    found = []
    for at_once in (True, False):
        table = SessionTable(leaky_manifest(), clock=clock)
        slots = np.array([table.create("a"), table.create("b")])[[0, 1, 0]]
        for slot, settled in zip(slots[:2].tolist(), (5, 6), strict=True):
            commit(table, slot, settled, NO_TIME, 1.0)
            table.acknowledge(slot, 2)
        if at_once:
            table.acknowledge_each(slots, np.array(seqs))
        else:
            for slot, seq in zip(slots.tolist(), seqs, strict=True):
                table.acknowledge(slot, seq)
        found.append(table.acked_seq.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", TableColumns.__annotations__)
def test_no_column_can_be_written_from_outside(name: str, table: SessionTable) -> None:
    slot = table.create("s")
    for _ in range(2):
        column = getattr(table, name)
        with pytest.raises(ValueError, match="read-only"):
            column[slot] = 1
        table.insert([f"more {table.capacity}.{k}" for k in range(table.capacity)], [""] * table.capacity, {})


def test_states_and_results_can_not_be_written_from_outside(table: SessionTable) -> None:
    slot = table.create("s")
    with pytest.raises(ValueError, match="read-only"):
        table.view(slot)["h"][:] = 1
    for copied in (table.read(slot), table.gather(np.array([slot]))):
        copied["h"][:] = 7
    np.testing.assert_array_equal(table.read(slot)["h"], [0.5, 0.5])
    rows = SettledRows(*(np.array([k]) for k in (slot, 1, 1)), np.ones(1, np.float32), np.zeros(1, int), {"y": ONE})
    table.commit_rows(np.array([slot]), np.array([1]), np.array([NO_TIME]), np.array([], int), {})
    table.log_results(rows)
    unacked = table.unacked(slot)
    assert unacked is not None
    unacked.outputs["y"][:] = 7
    again = table.unacked(slot)
    assert again is not None
    np.testing.assert_array_equal(again.outputs["y"], ONE)


def test_writable_columns_are_lent_once(table: SessionTable) -> None:
    slot = table.create("s")
    lent = table.lend()
    lent.columns.settled_seq[slot] = 3
    lent.arena.put(slot, {"h": np.full((1, 2), 2, np.float32)})
    assert table.info("s").settled_seq == 3
    np.testing.assert_array_equal(table.state("s")["h"], [2, 2])
    with pytest.raises(RuntimeError, match="lent already"):
        table.lend()


def test_several_sessions_come_at_once_or_not_at_all(table: SessionTable) -> None:
    table.create("b")
    with pytest.raises(KeyError, match="b"):
        table.insert(["a", "b"], ["", ""], {})
    assert table.ids == ["b"]
    slots = table.insert(["a", "c"], ["x", "y"], {"epoch": np.array([3, 4]), "last_ns": 9})
    assert [table.owner_of(slot) for slot in slots.tolist()] == ["x", "y"]
    assert table.epoch[slots].tolist() == [3, 4]
    assert table.last_ns[slots].tolist() == [9, 9]


def test_a_session_is_clean_once_its_copy_is_stored_and_not_before(table: SessionTable) -> None:
    slot = table.create("s")
    commit(table, slot, 3, NO_TIME, 1.0)
    taken = table.copy_live(table.unsaved())
    assert table.unsaved().tolist() == [slot], "the copy may be lost"
    table.mark_durable(taken, np.array([True]))
    assert not len(table.unsaved())
    assert table.durable_seq[slot] == 3


def test_what_changes_while_a_copy_is_stored_is_stored_again(table: SessionTable) -> None:
    slot = table.create("s")
    commit(table, slot, 3, NO_TIME, 1.0)
    taken = table.copy_live(table.unsaved())
    table.attach(slot, route=0, channel=0)
    table.mark_durable(taken, np.array([True]))
    assert table.unsaved().tolist() == [slot]
    taken = table.copy_live(table.unsaved())
    commit(table, slot, 4, NO_TIME, 1.0)
    table.mark_durable(taken, np.array([True]))
    assert (table.unsaved().tolist(), table.durable_seq[slot]) == ([slot], 3)


def test_another_servers_session_is_neither_durable_nor_saved_again(table: SessionTable) -> None:
    slot = table.create("s")
    commit(table, slot, 3, NO_TIME, 1.0)
    table.mark_durable(table.copy_live(table.unsaved()), np.array([False]))
    assert not len(table.unsaved())
    assert table.durable_seq[slot] == 0
