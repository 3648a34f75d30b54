"""A session as bytes: what goes in comes out, and whatever else comes in is refused."""

from __future__ import annotations

import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.models.spec import NO_TIME, InputSpec, Manifest, OutputSpec, StateSpec, TensorSpec, TimeSpec
from statestream.service.errors import FailedPrecondition
from statestream.service.protocol.verdict import NO_OUTPUT, Verdict
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.snapshot import _HEADER, MAGIC, SessionColumns, SnapshotError, decode, encode
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock

MANIFEST = Manifest(
    name="arm",
    version=3,
    inputs=(InputSpec(name="x", shape=(2,)),),
    outputs=(
        OutputSpec(name="y", shape=(2,), std=(1.0,)),
        OutputSpec(name="mask", shape=(3,), dtype="uint8", std=(1,)),
    ),
    aux=(TensorSpec(name="tau", shape=(1,)),),
    states=(StateSpec(name="h", shape=(2, 2)), StateSpec(name="c", shape=(3,), dtype="uint8")),
    time=TimeSpec(nominal_s=0.1, min_s=0.01, max_s=10),
)


def filled(seed: int, sessions: int = 3) -> SessionTable:
    """A table of sessions with states, acknowledged rows and rows that are not."""
    rng = np.random.default_rng(seed)
    table = SessionTable(MANIFEST, clock=FakeClock(), capacity=2)
    for number in range(sessions):
        slot = table.create(f"robot-{number}-é")
        states = {"h": rng.normal(size=(1, 2, 2)).astype(np.float32), "c": rng.integers(0, 255, (1, 3), np.uint8)}
        n, slots = int(rng.integers(0, 6)), np.array([slot])
        table.commit_rows(slots, np.array([n]), np.array([rng.choice([NO_TIME, 0, 10**18])]), slots, states)
        table.set_epoch(slot, int(rng.integers(0, 5)))
        if n:
            verdict = rng.integers(1, 6, n)
            has = verdict == Verdict.APPLIED
            m = int(has.sum())
            out = np.full(n, NO_OUTPUT)
            out[has] = rng.permutation(m)
            outputs = {
                "y": rng.normal(size=(m, 2)).astype(np.float32),
                "mask": rng.integers(0, 255, (m, 3), np.uint8),
                "aux_tau": rng.normal(size=(m, 1)).astype(np.float32),
            }
            dt_s = rng.random(n).astype(np.float32)
            table.log_results(SettledRows(np.full(n, slot), np.arange(1, n + 1), verdict, dt_s, out, outputs))
            table.acknowledge(slot, int(rng.integers(0, n + 1)))
    return table


def everything(table: SessionTable) -> SessionColumns:
    return table.copy(np.array([table.slot(i) for i in sorted(table._slots)]))


@pytest.mark.parametrize("seed", range(20))
def test_a_session_restored_is_the_session_that_was(seed: int) -> None:
    table = filled(seed)
    taken = everything(table)
    for session_id, data in zip(taken.ids, encode(table.layout, taken), strict=True):
        other = SessionTable(MANIFEST, clock=FakeClock())
        other.create("a neighbour")
        snapshot = decode(data)
        assert (snapshot.session_id, snapshot.model, snapshot.version, snapshot.owner) == (session_id, "arm", 3, "")
        slot = other.restore("a fork", snapshot)
        was, now = table.info(session_id), other.info("a fork")
        for name in ("epoch", "settled_seq", "acked_seq", "last_timestamp_ns"):
            assert getattr(now, name) == getattr(was, name)
        assert now.durable_seq == was.settled_seq
        for name, state in table.state(session_id).items():
            np.testing.assert_array_equal(other.state("a fork")[name], state)
        told, again = table.unacked(table.slot(session_id)), other.unacked(slot)
        if told is None:
            assert again is None
            continue
        assert again is not None
        for column in ("seq", "verdict", "dt_s"):
            np.testing.assert_array_equal(getattr(again, column), getattr(told, column))
        has = told.out != NO_OUTPUT
        np.testing.assert_array_equal(again.out != NO_OUTPUT, has)
        for name, values in told.outputs.items():
            np.testing.assert_array_equal(again.outputs[name][again.out[has]], values[told.out[has]])


GOOD = encode(filled(1).layout, everything(filled(1)))


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_refused(good: bytes, data: st.DataObject) -> None:
    damage = data.draw(st.sampled_from(["cut", "flip", "grow"]))
    if damage == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    elif damage == "grow":
        bad = good + data.draw(st.binary(min_size=1, max_size=20))
    else:
        bits = bytearray(good)
        bits[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        bad = bytes(bits)
    with pytest.raises(SnapshotError):
        decode(bad)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    for bad in (data, MAGIC + data, sealed(data.ljust(_HEADER.itemsize, b"\0"))):
        with pytest.raises(SnapshotError):
            restore(bad)


@given(st.sampled_from(GOOD), st.integers(8, 200), st.binary(min_size=1, max_size=8))
@settings(max_examples=500, deadline=None)
def test_bytes_made_to_deceive_are_refused_or_make_a_sound_session(good: bytes, at: int, planted: bytes) -> None:
    """Whoever can compute a checksum can write any header: lengths, counts and numbers of every size."""
    bad = bytearray(good)
    bad[at : at + len(planted)] = planted
    try:
        table = restore(sealed(bytes(bad)))
    except (SnapshotError, FailedPrecondition):
        return
    info = table.info("s")
    assert 0 <= info.acked_seq <= info.settled_seq < 2**62
    rows = table.unacked(table.slot("s"))
    assert (0 if rows is None else rows.n) == info.settled_seq - info.acked_seq


def sealed(data: bytes) -> bytes:
    """`data` with the right beginning and checksum."""
    return MAGIC + zlib.crc32(data[8:]).to_bytes(4, "little") + data[8:]


def restore(data: bytes) -> SessionTable:
    table = SessionTable(MANIFEST, clock=FakeClock())
    table.restore("s", decode(data))
    return table


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"states": (StateSpec(name="h", shape=(2, 2)),)}, "states of arm:3"),
        ({"outputs": MANIFEST.outputs[:1]}, "outputs of arm:3"),
        ({"name": "leg"}, "of model 'arm', not 'leg'"),
    ],
)
def test_another_model_is_refused_and_says_what_differs(change: dict[str, object], words: str) -> None:
    table = SessionTable(MANIFEST.model_copy(update=change), clock=FakeClock())
    with_rows = next(data for data in GOOD if len(decode(data).verdict))
    with pytest.raises(FailedPrecondition, match=words):
        table.restore("s", decode(with_rows))
    assert len(table) == 0


def test_a_newer_version_with_the_same_schema_takes_the_session() -> None:
    table = SessionTable(MANIFEST.model_copy(update={"version": 4}), clock=FakeClock())
    table.restore("s", decode(GOOD[0]))
    assert "s" in table


def test_a_state_that_is_not_finite_is_refused_and_leaves_no_session() -> None:
    table = filled(0)
    table.lend().arena.put(
        table.slot("robot-0-é"), {"h": np.full((1, 2, 2), np.inf, np.float32), "c": np.zeros((1, 3), np.uint8)}
    )
    other = SessionTable(MANIFEST, clock=FakeClock())
    with pytest.raises(SnapshotError, match="state 'h' is not finite"):
        other.restore("s", decode(encode(table.layout, everything(table))[0]))
    assert len(other) == 0


def test_encoding_a_session_costs_no_more_among_many() -> None:
    """Columns, not objects: the cost of a session does not grow with their number."""

    def cost_s(sessions: int) -> float:
        """The least of several turns, in CPU time: neighbours take cores, and what the caches held."""
        table = filled(0, sessions)
        taken, turns_s = everything(table), []
        for _ in range(15):
            begin_s = time.thread_time()
            encode(table.layout, taken)
            turns_s.append(time.thread_time() - begin_s)
        return min(turns_s) / sessions

    assert cost_s(2000) < 4 * cost_s(200)


def test_only_what_changed_is_taken_and_a_new_session_in_the_slot_is_told_apart() -> None:
    table = filled(2)
    taken = table.copy_live(table.unsaved())
    assert taken.ids
    table.mark_durable(taken, np.ones(len(taken.ids), np.bool_))
    assert not len(table.unsaved())
    slot = table.slot("robot-1-é")
    table.mark_dirty(slot)
    unsaved = table.unsaved()
    taken = table.copy_live(unsaved)
    assert taken.ids == ["robot-1-é"]
    assert table.still(taken).tolist() == [True]
    table.end("robot-1-é")
    assert not len(table.unsaved())
    assert table.copy_live(unsaved).ids == [], "it ended between the one and the other"
    assert table.create("another") == slot
    assert table.still(taken).tolist() == [False]


def test_only_sessions_that_are_stored_as_they_are_can_be_spared(clock: FakeClock) -> None:
    table = SessionTable(MANIFEST, clock=clock)
    slots = []
    for name in ("young", "old", "held", "moved on", "never saved"):
        slots.append(table.create(name))
        clock.now_s += 1
    own = table.lend().columns
    own.last_active_s[slots[1]] = 0
    own.settled_seq[slots[:4]] = own.acked_seq[slots[:4]] = 3
    table.mark_durable(table.copy(np.array(slots[:4])), np.ones(4, np.bool_))
    own.route[slots[2]] = 0
    own.settled_seq[slots[3]] = 4
    table.mark_dirty(slots[4])
    assert [table.id_of(slot) for slot in table.spare().tolist()] == ["old", "young"]
