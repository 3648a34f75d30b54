"""One behaviour: the same queued rows have the same results and states, by C++ and by the batcher, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from statestream.models.bundle import Bundle
from statestream.models.demo import REPOSITORY
from statestream.models.spec import NO_TIME
from statestream.service.batching.batcher import Batcher, Limits, TurnFailed
from statestream.service.batching.native_turn import native_turns
from statestream.service.batching.results import Results
from statestream.service.batching.step_columns import StepColumns
from statestream.service.engine.choice import lacking
from statestream.service.engine.onnx import Engine
from statestream.service.protocol.verdict import RowFlag, Verdict
from statestream.service.serving.stats import ModelStats
from statestream.service.sessions.columns import COLUMNS
from statestream.service.sessions.policy import Late, Policy
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock
from tests.support.bundles import write_leaky
from tests.support.own_bundles import LEAK, node, step_graph, weight, write_own

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "it was built"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]

SESSIONS = 5
LIMITS = Limits(credit_rows=12, max_unacked=24, max_batch=4, turn_steps=6)
POLICIES = (Policy(), Policy(keep_last=2), Policy(late=Late.DROP), Policy(late=Late.SUPPRESS), Policy(gap_resets=True))


class Engines(NamedTuple):
    """One bundle, opened both ways."""

    native: Engine
    python: Engine


@pytest.fixture(scope="module", params=["leaky", "gappy", "rover"])
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    bundle = Bundle.open(REPOSITORY / "rover" / "1")
    if request.param != "rover":
        bundle = write_leaky(tmp_path_factory.mktemp("repository"))
    both = [Engine.open(bundle, native=native) for native in (True, False)]
    if request.param == "gappy":
        (x,) = bundle.manifest.inputs
        x = x.model_copy(update={"nan": "not_measured"})
        for engine in both:
            engine.manifest = bundle.manifest.model_copy(update={"inputs": (x,)})
    return Engines(*both)


class Row(NamedTuple):
    session: int
    t_ns: int
    value: float
    flags: int = 0
    skew: int = 0
    """Added to the seq that is next."""


class Part(NamedTuple):
    """Rows of one message, and what comes before it."""

    rows: list[Row]
    after_ms: int = 0
    budget_us: int | None = None
    acknowledge: bool = False
    turn: bool = True
    """Whether a turn begins after it."""


class Server:
    """A batcher, and what it has said."""

    def __init__(self, engine: Engine, *, native: bool) -> None:
        self.engine, self.clock = engine, FakeClock()
        self.table = SessionTable(engine.manifest, clock=self.clock, capacity=2)
        self.batcher = Batcher(engine.manifest, self.table, LIMITS, self.clock)
        self.batcher.plain_turns = native_turns(engine, self.batcher) if native else None
        self.slots: list[int] = []
        self.seq = [0] * SESSIONS
        self.said: list[Any] = []
        self.stats = ModelStats()

    def open(self, session: int) -> int:
        """The slot of a session, which begins with its first row: the table grows between turns."""
        while len(self.slots) <= session:
            slot = self.table.create(f"s{len(self.slots)}")
            self.table.attach(slot, route=len(self.slots) % 2, channel=len(self.slots))
            self.table.set_policy(slot, POLICIES[len(self.slots)])
            self.slots.append(slot)
        return self.slots[session]

    def play(self, script: list[Part]) -> None:
        for part in script:
            self.clock.now_s += part.after_ms * 1e-3
            self.offer(part)
            if part.acknowledge:
                for session, slot in enumerate(self.slots):
                    self.table.acknowledge(slot, self.seq[session] - 1)
            while part.turn and len(self.batcher.queue):
                results = self.batcher.run(self.engine, float)
                assert results is not None
                self.said.append(said(results))
                self.stats.after_commit(results)

    def offer(self, part: Part) -> None:
        slots = [self.open(row.session) for row in part.rows]
        seqs = []
        for row in part.rows:
            seqs.append(max(1, self.seq[row.session] + 1 + row.skew))
            self.seq[row.session] = max(self.seq[row.session], seqs[-1])
        with_data = [row for row in part.rows if not row.flags & RowFlag.SKIP]
        columns = [(t.name, inputs(with_data, t.shape).tobytes()) for t in self.engine.manifest.inputs]
        message = StepColumns(
            seq=seqs,
            t_ns=[row.t_ns for row in part.rows],
            flags=[row.flags for row in part.rows] if any(row.flags for row in part.rows) else (),
            columns=columns if with_data else [],
            budget_us=[] if part.budget_us is None else [part.budget_us] * len(part.rows),
        )
        self.batcher.queue.add(slots, message)

    @property
    def native_rows(self) -> int:
        return self.stats.native_rows

    def everything(self) -> dict[str, Any]:
        """All that the table has of its sessions."""
        found: dict[str, Any] = {name: getattr(self.table, name)[self.slots].tobytes() for name in COLUMNS}
        for session, slot in enumerate(self.slots):
            found[f"state {session}"] = {name: state.tobytes() for name, state in self.table.read(slot).items()}
            rows = self.table.unacked(slot)
            found[f"rows {session}"] = rows and [
                *(column.tolist() for column in (rows.seq, rows.verdict, rows.dt_s, rows.out)),
                {name: y.tobytes() for name, y in rows.outputs.items()},
            ]
        return found


def inputs(rows: list[Row], shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    return np.array([[row.value] + [row.session + k / 7 for k in range(size - 1)] for row in rows], np.float32)


def said(results: Results) -> list[Any]:
    """What clients get of a turn: by session and row, however the turn was laid out."""
    batch = results.by_route()
    rows = [
        (
            batch.channel[row], batch.seq[row], batch.verdict[row], np.float32(batch.dt_s[row]), batch.epoch[row],
            batch.flags[row] if batch.flags else 0, batch.original[row] if batch.original else 0,
            batch.answer(row), batch.details.get(row),
        )
        for row in range(len(batch.seq))
    ]  # fmt: skip
    return [list(batch.spans), rows, batch.batch, batch.queue_us, batch.compute_us]


def play(engines: Engines, script: list[Part]) -> tuple[Server, Server]:
    servers = Server(engines.native, native=True), Server(engines.python, native=False)
    for server in servers:
        server.play(script)
    return servers


values = st.sampled_from([*np.linspace(-2, 2, 9).tolist()] * 4 + [float("nan"), float("inf"), 3e38])


@st.composite
def scripts(draw: st.DrawFn) -> list[Part]:
    """Mostly what control loops send: a row of each session, or a burst of one; sometimes anything."""
    now_ns, script = 10**9, []
    for _ in range(draw(st.integers(1, 10))):
        layout = draw(st.sampled_from(["each", "each", "burst", "lone", "mixed"]))
        if layout == "each":
            sessions = draw(st.permutations(range(SESSIONS)))[: draw(st.integers(1, SESSIONS))]
        elif layout == "mixed":
            sessions = draw(st.lists(st.integers(0, SESSIONS - 1), min_size=1, max_size=8))
        else:
            sessions = [draw(st.integers(0, SESSIONS - 1))] * (1 if layout == "lone" else draw(st.integers(2, 15)))
        odd = draw(st.integers(0, 3)) == 0
        rows = []
        for session in sessions:
            now_ns += draw(st.sampled_from([10**8] * 6 + [0, 10**5, 20 * 10**9] + [-(10**7)] * odd))
            t_ns = NO_TIME if draw(st.integers(0, 9)) == 0 else now_ns
            flags = draw(st.sampled_from([0] * 9 + [1, 2, 4])) if odd else 0
            skew = draw(st.sampled_from([0] * 9 + [-1, 1])) if odd else 0
            rows.append(Row(session, t_ns, draw(values) if odd else draw(st.floats(-2, 2, width=32)), flags, skew))
        budget_us = draw(st.sampled_from([None, None, 0, 10**6]))
        after_ms, acknowledge, turn = draw(st.sampled_from([0, 5])), draw(st.booleans()), draw(st.integers(0, 3)) > 0
        script.append(Part(rows, after_ms, budget_us, acknowledge, turn))
    return script


@settings(max_examples=200, deadline=None)
@given(script=scripts())
def test_any_rows_in_any_turns_have_the_same_results_and_states(engines: Engines, script: list[Part]) -> None:
    native, python = play(engines, script)
    assert native.said == python.said
    assert native.everything() == python.everything()
    assert python.native_rows == 0


def rows_of(*sessions: int, first_ns: int = 10**9, value: float = 1.0) -> Part:
    return Part([Row(session, first_ns + k, value) for k, session in enumerate(sessions)], budget_us=10**6)


@pytest.mark.parametrize(
    ("script", "native_rows"),
    [
        ([rows_of(0)], 1),
        ([rows_of(0, 1, 2, 3)], 4),
        ([rows_of(0, 0, 0, 0, 0, 0, 0, 0)], 8),
        ([rows_of(1, 1)], 2),
        ([rows_of(0, 1, 2, 3, 4)], 0),
        ([rows_of(0, 0, 1)], 0),
        ([rows_of(1, 1, 1)], 0),
        ([rows_of(*[0] * 13)], 6),
        ([rows_of(0, value=float("inf"))], 0),
        ([Part([Row(0, 1, 1.0, flags=4)])], 0),
        ([Part([Row(0, 1, 1.0, skew=1)])], 0),
        ([Part([Row(2, 1, 1.0)], budget_us=0, turn=False), Part([Row(0, 2, 1.0)], after_ms=1)], 0),
        ([Part([Row(0, 1, 1.0)], budget_us=0, turn=False), Part([Row(1, 2, 1.0)], after_ms=1)], 2),
        ([rows_of(4), Part([Row(4, 10**12, 1.0)])], 1),
        ([rows_of(0), Part([Row(0, 10**12, 1.0)])], 2),
        ([rows_of(0), Part([Row(0, 10**9 - 1, 1.0)])], 1),
    ],
    ids=[
        "a lone row", "a row of each", "a burst, in two turns", "within keep_last", "more sessions than a batch",
        "a burst and a row", "beyond keep_last", "beyond credit, and then within", "infinity", "a flag", "a gap",
        "late for a deadline", "late without a deadline", "a gap that resets", "a gap that clamps", "backwards in time",
    ],
)  # fmt: skip
def test_plain_turns_run_in_cpp_and_no_others(engines: Engines, script: list[Part], native_rows: int) -> None:
    native, python = play(engines, script)
    assert (native.native_rows, native.stats.python_rows) == (native_rows, python.stats.python_rows - native_rows)
    assert native.said == python.said
    assert native.everything() == python.everything()


def test_a_state_that_is_not_finite_is_left_to_the_batcher_which_keeps_the_one_before(tmp_path: Path) -> None:
    engine = Engine.open(write_leaky(tmp_path), native=True)
    server = Server(engine, native=True)
    server.play([rows_of(0, value=3e38), rows_of(0, value=3e38, first_ns=10**9 + 10**7)])
    assert [turn[1][0][2] for turn in server.said] == [Verdict.APPLIED, Verdict.INVALID]
    assert (server.native_rows, server.table.settled_seq[server.slots[0]]) == (1, 2)
    server.play([rows_of(0, value=-3e38, first_ns=10**9 + 10**8)])
    assert server.native_rows == 2


def test_a_graph_that_fails_is_run_and_reported_by_the_batcher(tmp_path: Path) -> None:
    """`Gather` finds no row at an index of 5."""
    nodes = [*LEAK, node("Cast", "x", "index", to=TensorProto.INT64), node("Gather", "rows index", "y")]
    bundle = write_own(tmp_path, step_graph(nodes, [weight("rows", [1.0, 2.0, 3.0])]))
    server = Server(Engine.open(bundle, native=True), native=True)
    server.play([rows_of(0)])
    with pytest.raises(TurnFailed) as failed:
        server.play([rows_of(0, value=5.0, first_ns=2 * 10**9)])
    assert (failed.value.rows.n, server.table.settled_seq[server.slots[0]], server.native_rows) == (1, 1, 1)
