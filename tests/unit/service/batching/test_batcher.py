"""The batcher against a reference that knows nothing of columns: sessions one by one, rows one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.models.spec import NO_TIME, Float32Array, Tensors
from statestream.service.batching.batcher import Batcher, Limits, TurnFailed
from statestream.service.batching.results import Results, TurnResults
from statestream.service.batching.single_row import SingleResult
from statestream.service.batching.step_columns import StepColumns
from statestream.service.protocol.verdict import NO_OUTPUT, ResultFlag, RowFlag, Verdict
from statestream.service.sessions.policy import Late, Policy
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock, LeakyModel, leak, leaky_manifest

NOMINAL_S, MIN_S, MAX_S = 0.1, 0.001, 10.0
NEVER = 2**32 - 1


@dataclass
class Row:
    session: int
    seq: int
    t_ns: int
    flags: int
    x: tuple[float, float]
    budget_us: int = NEVER


Told = tuple[Verdict, np.ndarray | None, float, int]
"""Verdict, output, dt_s, flags."""


@dataclass
class Reference:
    """One session, by the words of the protocol."""

    policy: Policy
    settled: int = 0
    last_ns: int | None = None
    h: np.ndarray = field(default_factory=lambda: np.full(2, 0.5, np.float32))
    told: dict[int, Told] = field(default_factory=dict)
    heard: list[Told] = field(default_factory=list)

    def take(self, row: Row, *, stale: bool, late: bool) -> Told:
        if row.seq <= self.settled:
            return Verdict.DUPLICATE, self.told[row.seq][1], 0.0, 0
        if row.seq > self.settled + 1:
            return Verdict.GAP, None, 0.0, 0
        self.settled += 1
        told = self.judge(row, stale=stale, late=late)
        self.told[row.seq] = told
        return told

    def judge(self, row: Row, *, stale: bool, late: bool) -> Told:
        if row.flags & RowFlag.SKIP:
            return Verdict.SKIPPED, None, 0.0, 0
        exempt = bool(row.flags & RowFlag.REPLAY)
        if not exempt and (stale or (late and self.policy.late == Late.DROP)):
            return Verdict.STALE, None, 0.0, 0
        if not np.isfinite(row.x).all():
            return Verdict.INVALID, None, 0.0, 0
        last = None if row.flags & RowFlag.NEW_CLOCK else self.last_ns
        flags = 0
        if row.t_ns == NO_TIME:
            dt_s = NOMINAL_S
            self.last_ns = last
        else:
            if last is not None and row.t_ns < last:
                return Verdict.INVALID, None, 0.0, 0
            passed_s = NOMINAL_S if last is None else (row.t_ns - last) / 1e9
            dt_s = min(max(passed_s, MIN_S), MAX_S)
            flags = ResultFlag.TIME_RAISED if passed_s < MIN_S else 0
            if passed_s > MAX_S:
                flags = ResultFlag.TIME_CLAMPED
                if self.policy.gap_resets:
                    flags, dt_s, self.h = ResultFlag.RESET, NOMINAL_S, np.full(2, 0.5, np.float32)
            self.last_ns = row.t_ns
        self.h = leak(self.h, np.asarray(row.x, np.float32), dt_s)
        if late and not exempt and self.policy.late == Late.SUPPRESS:
            return Verdict.SUPPRESSED, None, dt_s, flags
        return Verdict.APPLIED, 2 * self.h, dt_s, flags

    def take_waiting(self, rows: list[Row], turn_steps: int, now_us: int) -> list[Told]:
        """What the rows that wait when a turn begins are told; those that stay for the next are judged again there."""
        told = []
        while rows:
            droppable = [i for i, row in enumerate(rows) if not row.flags & (RowFlag.SKIP | RowFlag.REPLAY)]
            stale = set(droppable[: -self.policy.keep_last]) if self.policy.keep_last else set()
            now = min(turn_steps, self.until_gap(rows))
            told += [self.take(row, stale=i in stale, late=row.budget_us < now_us) for i, row in enumerate(rows[:now])]
            rows = rows[now:]
        self.heard += told
        return told

    def until_gap(self, rows: list[Row]) -> int:
        """Rows before a gap within a line, by the rule that says how lines are cut."""
        if not self.policy.gap_resets:
            return len(rows)
        times = [row.t_ns for row in rows]
        for i, t in enumerate(times):
            if t != NO_TIME and (NO_TIME in times[:i] or (t - min(times[: i + 1])) * 1e-9 > MAX_S * (1 - 1e-9)):
                return i
        return len(rows)


def make_batcher(clock: FakeClock | None = None, **limits: int) -> Batcher:
    manifest, clock = leaky_manifest(), clock or FakeClock()
    return Batcher(manifest, SessionTable(manifest, clock=clock, capacity=2), Limits(**limits), clock)


def offer(batcher: Batcher, slots: list[int], rows: list[Row]) -> None:
    x = np.array([row.x for row in rows if not row.flags & RowFlag.SKIP], np.float32)
    message = StepColumns(
        seq=[row.seq for row in rows],
        t_ns=[row.t_ns for row in rows],
        flags=[row.flags for row in rows],
        columns=[("x", x.tobytes())] if len(x) else [],
        budget_us=[row.budget_us for row in rows] if any(row.budget_us != NEVER for row in rows) else [],
    )
    batcher.queue.add([slots[row.session] for row in rows], message)


def turn_or_row(batcher: Batcher, slots: list[int]) -> list[list[Told]]:
    """What a turn told each session, run as the server would: a single plain row by the short way."""
    results = batcher.run(LeakyModel(), float)
    assert results is not None
    return [[told for _, *told in answers(results, slot)] for slot in slots]


def turn(batcher: Batcher, model: LeakyModel | None = None) -> TurnResults:
    taken = batcher.take()
    planned = None if taken is None else batcher.plan(taken)
    assert planned is not None
    return batcher.commit(planned, planned.execute(model or LeakyModel()))


def answers(results: Results, slot: int) -> list[tuple[int, Verdict, np.ndarray | None, float, int]]:
    found = []
    for i in np.flatnonzero(results.rows.slot == slot):
        seq, verdict, dt_s = results.rows.seq[i], Verdict(int(results.rows.verdict[i])), results.rows.dt_s[i]
        out = int(results.rows.out[i])
        y = None if out == NO_OUTPUT else results.rows.outputs["y"][out]
        found.append((int(seq), verdict, y, float(dt_s), int(np.atleast_1d(results.flags)[i])))
    return found


finite = st.floats(-3, 3, width=32)
values = st.one_of(finite, finite, finite, st.sampled_from([float("nan"), float("inf")]))


@st.composite
def messages(draw: st.DrawFn) -> list[list[Row]]:
    """Messages of rows of up to four sessions: mostly in order, sometimes not; time mostly forward, sometimes not."""
    seq, t_ns = [0] * 4, [10**9] * 4
    out = []
    for _ in range(draw(st.integers(1, 12))):
        rows = []
        for _ in range(draw(st.sampled_from([1, 1, draw(st.integers(1, 24))]))):
            s = draw(st.integers(0, 3))
            kind = draw(st.integers(0, 19))
            step = {0: 0, 1: 2}.get(kind, 1)
            seq[s] = max(1, seq[s] + step)
            t_ns[s] += {2: 10**11, 9: 11 * 10**9}.get(kind) or draw(st.integers(-(10**7), 3 * 10**8))
            flags = {3: RowFlag.SKIP, 4: RowFlag.NEW_CLOCK, 5: RowFlag.REPLAY}.get(kind, 0)
            t = NO_TIME if kind == 6 else t_ns[s]
            budget_us = 0 if kind in (7, 8) else NEVER
            rows.append(Row(s, seq[s], t, int(flags), (draw(values), draw(finite)), budget_us))
            if kind == 1:
                seq[s] -= 2
        out.append(rows)
    return out


policies = st.builds(Policy, st.sampled_from([0, 0, 1, 3]), st.sampled_from(Late), st.booleans())


@pytest.mark.slow
@given(messages(), st.integers(1, 8), st.integers(1, 3), st.integers(1, 2), st.lists(policies, min_size=4, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_rows_in_any_turns_are_what_one_by_one_would_give(
    sent: list[list[Row]], turn_steps: int, max_batch: int, together: int, chosen: list[Policy]
) -> None:
    clock = FakeClock()
    batcher = make_batcher(clock, turn_steps=turn_steps, max_batch=max_batch)
    slots = [batcher.table.create(f"s{i}") for i in range(4)]
    for channel, (slot, policy) in enumerate(zip(slots, chosen, strict=True)):
        batcher.table.attach(slot, route=0, channel=channel)
        batcher.table.set_policy(slot, policy)
    references = [Reference(policy) for policy in chosen]
    for gathered in (sent[i : i + together] for i in range(0, len(sent), together)):
        for rows in gathered:
            offer(batcher, slots, rows)
        clock.now_s += 1e-3
        waiting = [[row for rows in gathered for row in rows if row.session == i] for i in range(4)]
        expected = [references[i].take_waiting(waiting[i], turn_steps, now_us=1000) for i in range(4)]
        got: list[list[Told]] = [[] for _ in range(4)]
        while len(batcher.queue):
            for mine, told in zip(got, turn_or_row(batcher, slots), strict=True):
                mine += told
        for i in range(4):
            assert [verdict for verdict, *_ in got[i]] == [verdict for verdict, *_ in expected[i]]
            for (_, y, dt_s, flags), (_, want, want_dt, want_flags) in zip(got[i], expected[i], strict=True):
                assert dt_s == pytest.approx(want_dt, rel=1e-6)
                assert (y is None) == (want is None)
                assert flags == want_flags
                if want is not None:
                    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
            assert batcher.table.settled_seq[slots[i]] == references[i].settled
            np.testing.assert_allclose(batcher.table.state(f"s{i}")["h"], references[i].h, rtol=1e-5, atol=1e-6)
            told_of = Counter(verdict.name for verdict, *_ in references[i].heard)
            assert batcher.table.info(f"s{i}").verdicts == told_of


def plain(session: int, seq: int, x: float = 1.0, t_ns: int = NO_TIME) -> Row:
    return Row(session, seq, t_ns, 0, (x, x))


def test_single_steps_of_many_sessions_run_as_one_batch_of_the_step_graph() -> None:
    batcher, model = make_batcher(), LeakyModel()
    slots = [batcher.table.create(f"s{i}") for i in range(5)]
    for i in range(5):
        offer(batcher, slots, [plain(i, 1)])
    results = turn(batcher, model)
    assert model.batches == [(5, 1)]
    assert results.batch == 5
    assert results.plain


class GappyModel(LeakyModel):
    """Takes a NaN for nothing measured, and adds nothing."""

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        return super().step({"x": np.nan_to_num(inputs["x"])}, dt_B1, states)


def test_a_nan_that_says_not_measured_runs_alone_and_in_a_batch_and_infinity_does_not() -> None:
    (x,) = leaky_manifest().inputs
    manifest = leaky_manifest().model_copy(update={"inputs": (x.model_copy(update={"nan": "not_measured"}),)})
    clock, model = FakeClock(), GappyModel()
    batcher = Batcher(manifest, SessionTable(manifest, clock=clock, capacity=2), Limits(), clock)
    slots = [batcher.table.create(f"s{i}") for i in range(3)]
    offer(batcher, slots, [Row(0, 1, NO_TIME, 0, (np.nan, 1.0))])
    alone = batcher.run(model, float)
    assert isinstance(alone, SingleResult)
    h = leak(np.full(2, 0.5, np.float32), np.array([0, 1], np.float32), NOMINAL_S)
    np.testing.assert_allclose(alone.rows.outputs["y"][0], 2 * h, rtol=1e-6)
    offer(batcher, slots, [Row(0, 2, NO_TIME, 0, (np.inf, np.nan))])
    unusable = batcher.run(model, float)
    assert isinstance(unusable, TurnResults)
    offer(batcher, slots, [Row(k, 1, NO_TIME, 0, (1.0, np.nan)) for k in (1, 2)])
    results = turn(batcher, model)
    told = [answers(results, slot)[0][1] for slot in slots[1:]]
    assert (unusable.rows.verdict.tolist(), told) == ([Verdict.INVALID], [Verdict.APPLIED, Verdict.APPLIED])
    assert unusable.details[0].text == "steps.columns['x']: element 0 ('a') is inf"


def test_a_message_without_rows_leaves_nothing_behind() -> None:
    batcher = make_batcher()
    slots = [batcher.table.create("s")]
    batcher.queue.add([], StepColumns([]))
    assert batcher.take() is None
    offer(batcher, slots, [plain(0, 1)])
    assert turn_or_row(batcher, slots)[0][0][0] == Verdict.APPLIED


def test_a_long_chunk_is_cut_into_turns_and_others_run_between() -> None:
    batcher, model = make_batcher(turn_steps=8), LeakyModel()
    slots = [batcher.table.create(f"s{i}") for i in range(2)]
    offer(batcher, slots, [plain(0, seq) for seq in range(1, 21)])
    offer(batcher, slots, [plain(1, 1)])
    first = turn(batcher, model)
    assert [seq for seq, *_ in answers(first, slots[0])] == list(range(1, 9))
    assert [verdict for _, verdict, *_ in answers(first, slots[1])] == [Verdict.APPLIED]
    assert [seq for seq, *_ in answers(turn(batcher, model), slots[0])] == list(range(9, 17))
    assert [seq for seq, *_ in answers(turn(batcher, model), slots[0])] == list(range(17, 21))


def test_rows_beyond_credit_are_busy_and_come_again_from_the_first_of_them() -> None:
    batcher = make_batcher(credit_rows=4, turn_steps=2)
    slots = [batcher.table.create("s")]
    offer(batcher, slots, [plain(0, seq) for seq in range(1, 8)])
    results = turn(batcher)
    assert [(seq, verdict) for seq, verdict, *_ in answers(results, slots[0])] == [
        (1, Verdict.APPLIED),
        (2, Verdict.APPLIED),
        (5, Verdict.BUSY),
        (6, Verdict.BUSY),
        (7, Verdict.BUSY),
    ]
    assert {detail.resend_from for detail in results.details.values()} == {5}
    turn(batcher)
    offer(batcher, slots, [plain(0, seq) for seq in range(5, 8)])
    assert [verdict for _, verdict, *_ in answers(turn(batcher), slots[0])] == [Verdict.APPLIED] * 2


def test_rows_beyond_max_unacked_are_busy_until_the_client_acknowledges() -> None:
    batcher = make_batcher(max_unacked=3)
    slots = [batcher.table.create("s")]
    offer(batcher, slots, [plain(0, seq) for seq in range(1, 6)])
    results = turn(batcher)
    assert [v for _, v, *_ in answers(results, slots[0])] == [Verdict.APPLIED] * 3 + [Verdict.BUSY] * 2
    assert "acked_seq 0" in results.details[3].text
    batcher.table.acknowledge(slots[0], 2)
    offer(batcher, slots, [plain(0, seq) for seq in (4, 5)])
    assert [v for _, v, *_ in answers(turn(batcher), slots[0])] == [Verdict.APPLIED] * 2


def test_a_repeated_seq_gets_the_answer_it_had_until_that_is_acknowledged() -> None:
    batcher = make_batcher()
    slots = [batcher.table.create("s")]
    offer(batcher, slots, [plain(0, 1), plain(0, 2)])
    first = answers(turn(batcher), slots[0])
    batcher.table.acknowledge(slots[0], 1)
    offer(batcher, slots, [plain(0, 1), plain(0, 2)])
    again = turn(batcher)
    (_, verdict1, y1, *_), (_, verdict2, y2, *_) = answers(again, slots[0])
    assert (verdict1, verdict2) == (Verdict.DUPLICATE, Verdict.DUPLICATE)
    assert y1 is None
    np.testing.assert_array_equal(y2, first[1][2])
    assert again.original is not None
    assert again.original.tolist() == [Verdict.UNSPECIFIED, Verdict.APPLIED]


def test_a_state_that_is_no_longer_finite_is_taken_back_and_harms_nobody() -> None:
    batcher = make_batcher()
    slots = [batcher.table.create("bad"), batcher.table.create("good")]
    offer(batcher, slots, [Row(0, 1, 1, 0, (3e38, 0)), Row(1, 1, 1, 0, (1, 1))])
    with np.errstate(over="ignore"):
        turn(batcher)
    before = batcher.table.state("bad")["h"]
    offer(batcher, slots, [Row(0, 2, 2, 0, (3e38, 0)), Row(1, 2, 2, 0, (1, 1))])
    with np.errstate(over="ignore"):
        results = turn(batcher)
    assert [v for _, v, *_ in answers(results, slots[0])] == [Verdict.INVALID]
    assert "not finite" in results.details[0].text
    assert [v for _, v, *_ in answers(results, slots[1])] == [Verdict.APPLIED]
    assert (results.rows.out == NO_OUTPUT).tolist() == [True, False]
    np.testing.assert_array_equal(batcher.table.state("bad")["h"], before)
    assert batcher.table.info("bad").last_timestamp_ns == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([("x", bytes(12))], ["'x'", "12 bytes", "expected 8", "float32"]),
        ([("x", bytes(16))], ["'x'", "16 bytes", "expected 8"]),
        ([("z", bytes(8))], ["no input 'z'", "'x'"]),
        ([], ["'x' is missing"]),
        ([("x", np.array([1, np.nan], np.float32).tobytes())], ["'x'", "element 1", "'b'", "nan"]),
    ],
)
def test_unusable_data_is_invalid_and_says_which_field(columns: list[tuple[str, bytes]], words: list[str]) -> None:
    batcher = make_batcher()
    slot = batcher.table.create("s")
    batcher.queue.add([slot], StepColumns([1], columns=columns))
    results = turn(batcher)
    assert results.rows.verdict.tolist() == [Verdict.INVALID]
    for word in words:
        assert word in results.details[0].text
    np.testing.assert_array_equal(batcher.table.state("s")["h"], [0.5, 0.5])


def test_time_backwards_names_both_timestamps() -> None:
    batcher = make_batcher()
    slots = [batcher.table.create("s")]
    offer(batcher, slots, [plain(0, 1, t_ns=500)])
    turn(batcher)
    offer(batcher, slots, [plain(0, 2, t_ns=499)])
    results = turn(batcher)
    assert results.rows.verdict.tolist() == [Verdict.INVALID]
    assert "499" in results.details[0].text
    assert "500" in results.details[0].text


@pytest.mark.parametrize("turns", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0, 1, 2], [3]], [[0], [1], [2], [3]]], ids=str)
def test_time_backwards_names_the_row_before_it_however_rows_share_turns(turns: list[list[int]]) -> None:
    """Not the last row of its turn, which load decides."""
    batcher, told = make_batcher(), []
    slots, times = [batcher.table.create("s")], [500, 600, 550, 900]
    for rows in turns:
        offer(batcher, slots, [plain(0, row + 1, t_ns=times[row]) for row in rows])
        told += [detail.text for detail in turn(batcher).details.values()]
    assert told == [
        "steps.timestamp_ns: 550 is earlier than 600 of a row before it; rows of another recording need a session of "
        'their own: a new session_id (resume="new" refuses one that exists); after a clock was set: new_clock()'
    ]


@pytest.mark.parametrize("flags", [0, RowFlag.NEW_CLOCK])
def test_a_row_without_a_time_of_its_own_is_not_told_that_it_is_early(flags: int) -> None:
    batcher = make_batcher()
    slots = [batcher.table.create("s")]
    offer(batcher, slots, [Row(0, 1, 500, 0, (3e38, 0))])
    with np.errstate(over="ignore"):
        turn(batcher)
    offer(batcher, slots, [Row(0, 2, 400 if flags else NO_TIME, flags, (3e38, 0))])
    with np.errstate(over="ignore"):
        results = turn(batcher)
    assert results.rows.verdict.tolist() == [Verdict.INVALID]
    assert "not finite" in results.details[0].text


class BrokenModel(LeakyModel):
    """Fails at every run."""

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        raise RuntimeError("the engine is broken")


@pytest.mark.parametrize("sessions", [1, 2])
def test_a_failed_turn_names_its_rows_and_stores_nothing(sessions: int) -> None:
    batcher = make_batcher()
    slots = [batcher.table.create(f"s{k}") for k in range(sessions)]
    offer(batcher, slots, [plain(k, 1) for k in range(sessions)])
    with pytest.raises(TurnFailed) as failed:
        batcher.run(BrokenModel(), float)
    assert failed.value.rows.slot.tolist() == slots
    assert isinstance(failed.value.__cause__, RuntimeError)
    assert (len(batcher.queue), batcher.table.settled_seq[slots].tolist()) == (0, [0] * sessions)
    assert batcher.run(LeakyModel(), float) is None


def test_a_lone_row_and_a_grid_give_the_same_values_to_their_streams() -> None:
    batcher = make_batcher()
    slots = [batcher.table.create(f"s{k}") for k in range(3)]
    for k, slot in enumerate(slots):
        batcher.table.attach(slot, route=k % 2, channel=10 + k)
    batches = []
    for rows in ([plain(0, 1)], [plain(k, 1) for k in (1, 2)]):
        offer(batcher, slots, rows)
        done = batcher.run(LeakyModel(), float)
        assert done is not None
        batches.append(done.by_route())
    alone, grid = batches
    assert (list(alone.spans), list(alone.channel)) == ([(0, 0, 1)], [10])
    assert (list(grid.spans), list(grid.channel)) == ([(0, 0, 1), (1, 1, 2)], [12, 11])
    assert (alone.answer(0).outputs, np.float32(alone.dt_s[0])) == (grid.answer(0).outputs, grid.dt_s[0])
    assert (alone.plain, grid.plain, alone.batch, grid.batch) == (True, True, 1, 2)
