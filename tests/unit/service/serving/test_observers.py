"""Observers of a model's turns: what they see, and that a runner treats all of them alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from statestream.service.batching.results import Results
from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.host import Host
from statestream.service.serving.observers import TurnObserver
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.stats import ModelStats, stats_of
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock, leaky_manifest
from tests.support.hosts import FakeSubscriber, advance, asks, leaky_bundle, make_host, state_after
from tests.unit.test_import_rules import edges

IN_THREAD_S = 2e-3


class Witness(TurnObserver):
    """Writes down what it sees, with the session's state at that moment."""

    def __init__(self, runner: ModelRunner, slot: int) -> None:
        self.seen: list[tuple[str, int]] = []
        self.states: list[Any] = []
        self.results: list[Results] = []
        self._runner = runner
        self._slot = slot

    def _note(self, what: str, rows: int) -> None:
        self.seen.append((what, rows))
        self.states.append(self._runner.table.read(self._slot)["h"].copy())

    def after_commit(self, results: Results) -> None:
        self._note("after", results.n)
        self.results.append(results)

    def failed(self, rows: Any) -> None:
        self._note("failed", rows.n)

    def reset(self, slot: int) -> None:
        self._note("reset", slot)


class Planner(Witness):
    """Sees plans too, and defers work after each turn."""

    needs_plans = True

    def before_commit(self, turn: Any, outcomes: Any, table: SessionTable) -> None:
        assert len(turn.runs) == len(outcomes)
        self._note("before", turn.rows.n)

    def after_commit(self, results: Results) -> None:
        super().after_commit(results)
        self._runner.defer(lambda: results.n, lambda rows: self._note("deferred", rows))


@pytest.fixture(params=[1e-5, IN_THREAD_S], ids=["loop", "thread"])
async def host(request: pytest.FixtureRequest, clock: FakeClock) -> Any:
    host = await make_host(None, clock, models=(), max_turn_ms=100.0)
    host.models.add(*leaky_bundle(leaky_manifest(), batch_s=request.param))
    yield host
    host.models.close()


async def test_an_observer_sees_what_is_in_the_table_and_one_of_plans_what_was_there_before(host: Host) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("one"))
    runner, slot = held.runner, held.slot
    plain, planner = Witness(runner, slot), Planner(runner, slot)
    runner.attach(plain)
    await advance(held, 1)
    runner.attach(planner)
    await advance(held, 1)
    await advance(held, 3)
    await runner.rest()
    runner.reset(slot)
    runner.detach(planner)
    await advance(held, 1)
    assert plain.seen == [("after", 1), ("after", 1), ("after", 3), ("reset", slot), ("after", 1)]
    assert planner.seen == [
        *(("before", 1), ("after", 1), ("deferred", 1)),
        *(("before", 3), ("after", 3), ("deferred", 3), ("reset", slot)),
    ]
    expected = [state_after(n) for n in (1, 2, 2, 2, 5, 5, 0)]
    np.testing.assert_allclose(planner.states, expected, rtol=1e-6)
    assert stats_of(runner).batch.n == 4


async def test_deferred_work_comes_before_the_next_turn(host: Host) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("one"))
    planner = Planner(held.runner, held.slot)
    held.runner.attach(planner)
    x = np.ones((1, 2), "<f4").tobytes()
    held.runner.offer([held.slot], StepColumns([1], columns=[("x", x)]))
    while not planner.seen:
        await held.runner._next_turn()
    held.runner.offer([held.slot], StepColumns([2], columns=[("x", x)]))  # while the work is being done
    await held.runner.settled(held.slot)
    await held.runner.rest()
    assert planner.seen == [("before", 1), ("after", 1), ("deferred", 1)] * 2


async def test_a_failed_turn_is_seen_as_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgiving(FakeSubscriber):
        def failed(self, *_: Any) -> None:
            pass

    held = await host.session_manager.open(Forgiving(), 1, asks("one"))
    planner = Planner(held.runner, held.slot)
    held.runner.attach(planner)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(held.runner.engine, "step", fail)
        await advance(held, 1)
    assert planner.seen == [("failed", 1)]
    assert (stats_of(held.runner).failed_turns, stats_of(held.runner).batch.n) == (1, 0)


async def test_a_row_reads_alike_alone_and_as_a_grid(host: Host) -> None:
    """What recorder, probe and statistics take from results does not show how the row was run."""
    rows = []
    for number, kind in enumerate((Witness, Planner)):
        held = await host.session_manager.open(FakeSubscriber(), number, asks(f"s{number}"))
        observer = kind(held.runner, held.slot)
        held.runner.attach(observer)
        await advance(held, 1)
        await held.runner.rest()
        held.runner.detach(observer)
        (result,) = observer.results
        rows.append((*_values(result), result.flags.tolist(), result.n, result.batch, result.plain, result.decode_s))
    assert rows[0] == rows[1]


def _values(results: Results) -> Iterator[Any]:
    rows = results.rows
    for column in (rows.seq, rows.verdict, rows.dt_s, rows.out, *rows.outputs.values(), *results.inputs.values()):
        yield column.tolist()


def test_a_runner_knows_no_observer_by_name() -> None:
    known = edges("service.serving.runner")
    assert "service.serving.observers" in known
    observers = {kind.__module__.removeprefix("statestream.") for kind in TurnObserver.__subclasses__()}
    assert {"service.serving.shadow", "service.serving.stats"} <= observers
    assert not known & observers


def test_a_model_served_has_one_set_of_statistics(host: Host) -> None:
    (runner,) = host.versions
    assert runner.attached(ModelStats) == [stats_of(runner)]
