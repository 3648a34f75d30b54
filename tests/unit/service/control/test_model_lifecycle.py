"""Versions that come and go under live sessions: what each of them hears, and what state it goes on with."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from statestream.models.spec import InputSpec, Manifest, OutputSpec, StateSpec
from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.host import Host
from statestream.service.control.model_lifecycle import ModelLifecycle, VersionChange
from statestream.service.control.open_request import Attachment
from statestream.service.errors import AlreadyExists, FailedPrecondition, NotFound
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.protocol.verdict import RowFlag, Verdict
from statestream.service.serving.registry import Role
from statestream.service.serving.shadow import shadow_of
from statestream.service.serving.stats import stats_of
from statestream.service.sessions.policy import Late, Policy
from tests.conftest import FakeClock, leak, leaky_manifest
from tests.support.hosts import FakeSubscriber, advance, asks, keeper_of, leaky_bundle, make_host, state_after
from tests.support.stores import MemoryStore

CARRY, PIN, SHADOW = UpgradePolicy.CARRY, UpgradePolicy.PIN, UpgradePolicy.SHADOW


class Repository:
    """Bundles that `Host.load` finds."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bundles: dict[int, tuple[Any, Any]] = {}
        monkeypatch.setattr(host.repository, "load", lambda name, version: self._bundles[version])

    def put(self, version: int, gain: float = 1.0, **more: Any) -> Manifest:
        manifest = leaky_manifest(version=version).model_copy(update=more)
        self._bundles[version] = leaky_bundle(manifest, gain)
        return manifest


@pytest.fixture
async def host(clock: FakeClock) -> Host:
    """The leaky model, version 1."""
    return await make_host(None, clock)


@pytest.fixture
def repository(host: Host, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return Repository(host, monkeypatch)


@pytest.fixture
def upgrades(host: Host) -> ModelLifecycle:
    return ModelLifecycle(host)


def state_of(host: Host, session_id: str) -> np.ndarray:
    return np.asarray(host.session_manager.registry.find(session_id).table.state(session_id)["h"])


def version_of(host: Host, session_id: str) -> int:
    return host.session_manager.registry.find(session_id).manifest.version


def here(stream: FakeSubscriber, held: Attachment, channel: int = 1) -> Attachment:
    """Where a session that a stream holds is by now."""
    runner, slot = stream.places.get(channel, (held.runner, held.slot))
    return Attachment(held.session_id, runner, slot, held.epoch, held.outputs, held.resumed)


async def test_carried_sessions_take_all_that_is_theirs(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2, gain=10.0)
    stream, gone = FakeSubscriber(), FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    policy = Policy(keep_last=9, late=Late.SUPPRESS, gap_resets=True)
    held.runner.table.set_policy(held.slot, policy)
    await advance(held, 5)
    held.runner.table.acknowledge(held.slot, 2)
    left = await host.session_manager.open(gone, 9, asks("left"))
    await advance(left, 4)
    host.session_manager.detach(left)
    before = held.runner.table.info("robot")

    assert await upgrades.load("leaky", 2, CARRY) == VersionChange(host.versions.find("leaky").manifest, moved=2)
    held = here(stream, held)
    assert held.runner is host.versions.find("leaky")
    assert (version_of(host, "robot"), version_of(host, "left"), gone.places) == (2, 2, {})
    table = held.runner.table
    assert table.info("robot") == before
    assert (table.keep_last[held.slot], table.late[held.slot], table.gap_resets[held.slot]) == (9, Late.SUPPRESS, True)
    known = table.unacked(held.slot)
    assert known is not None
    assert known.seq.tolist() == [3, 4, 5]
    np.testing.assert_allclose(known.outputs["y"][known.out[-1]], 2 * state_after(5), rtol=1e-6)
    await advance(held, 1)
    expected = leak(state_after(5), 10 * np.ones(2, np.float32), 0.1)
    np.testing.assert_allclose(state_of(host, "robot"), expected, rtol=1e-6)
    assert stream.rows == 6
    again = await host.session_manager.open(gone, 1, asks("left", version=1))
    assert (again.runner, again.resumed) == (held.runner, True), "who says the old version means the session"
    old = host.versions.get("leaky", 1)
    assert old is not None
    assert len(old.table) == 0


async def test_rows_that_wait_are_settled_by_the_new_version_as_they_would_have_been(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2, gain=10.0)
    streams = [FakeSubscriber(), FakeSubscriber()]
    held = [await host.session_manager.open(stream, 1, asks(f"s{i}")) for i, stream in enumerate(streams)]
    for one in held:
        await advance(one, 2)
    await upgrades.load("leaky", 2)  # so that it is there, and nothing waits for it
    # Plain rows with one that has no data among them, and a row of a wrong size; none of them has run yet.
    runner = held[0].runner
    x = np.ones((2, 2), "<f4").tobytes()
    runner.offer([held[0].slot] * 3, StepColumns([3, 4, 5], (), [0, RowFlag.SKIP, 0], [("x", x)]))
    runner.offer([held[1].slot], StepColumns([3], columns=[("x", b"short")]))
    await upgrades.load("leaky", 1)
    assert (await upgrades.load("leaky", 2, CARRY)).moved == 2
    first, second = (here(stream, one) for stream, one in zip(streams, held, strict=True))
    await first.runner.settled(first.slot)
    told = first.runner.table.unacked(first.slot)
    assert told is not None
    assert told.verdict.tolist() == [Verdict.APPLIED] * 3 + [Verdict.SKIPPED, Verdict.APPLIED]
    expected = state_after(2)
    for _ in range(2):
        expected = leak(expected, 10 * np.ones(2), 0.1)
    np.testing.assert_allclose(state_of(host, "s0"), expected, rtol=1e-6)
    await second.runner.settled(second.slot)
    told = second.runner.table.unacked(second.slot)
    assert told is not None
    assert told.verdict.tolist() == [Verdict.APPLIED] * 2 + [Verdict.INVALID]


async def test_a_turn_in_a_thread_is_answered_before_its_sessions_move(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await make_host(None, clock, models=())
    bundle, engine = leaky_bundle(leaky_manifest(), batch_s=1.0)
    host.models.add(bundle, engine)
    go, began = threading.Event(), threading.Event()
    step = engine.step

    def slow(*arguments: Any) -> Any:
        began.set()
        assert go.wait(10)
        return step(*arguments)

    monkeypatch.setattr(engine, "step", slow)
    Repository(host, monkeypatch).put(2, gain=10.0)
    stream = FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    x = [("x", np.ones((1, 2), "<f4").tobytes())]
    held.runner.offer([held.slot], StepColumns([1], columns=x))
    while not began.is_set():
        await asyncio.sleep(0)
    held.runner.offer([held.slot], StepColumns([2], columns=x))
    load = asyncio.create_task(ModelLifecycle(host).load("leaky", 2, CARRY))
    while not host.versions.get("leaky", 2):
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert version_of(host, "robot") == 1
    fresh = await host.session_manager.open(FakeSubscriber(), 1, asks("fresh"))
    assert fresh.runner.manifest.version == 2, "new sessions need not wait"
    waits = asyncio.create_task(held.runner.settled(held.slot))
    go.set()
    assert (await load).moved == 1
    await waits
    held = here(stream, held)
    await held.runner.settled(held.slot)
    expected = leak(leak(np.full(2, 0.5, np.float32), np.ones(2), 0.1), 10 * np.ones(2), 0.1)
    np.testing.assert_allclose(state_of(host, "robot"), expected, rtol=1e-6)
    assert stream.rows == 2
    for runner in host.versions:
        runner.close()


async def test_a_session_that_is_being_opened_follows_when_that_is_done(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2)
    await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    async with host.session_manager.locks.hold("robot"):
        load = asyncio.create_task(upgrades.load("leaky", 2, CARRY))
        while not host.versions.get("leaky", 2):
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert version_of(host, "robot") == 1
    assert (await load).moved == 1
    assert version_of(host, "robot") == 2


OTHER_STATES = (StateSpec(name="g", shape=(2,), initial=(0.5,)),)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (
            {"states": OTHER_STATES},
            "states",
            r"the states of leaky:2 \(g \[2\] float32\) are not those of leaky:1 \(h \[2\] float32\)",
        ),
        ({"inputs": (InputSpec(name="x", shape=(3,)),)}, "inputs", r"input 'x': shape is \(3,\) in leaky:2, \(2,\) in"),
        (
            {"inputs": (InputSpec(name="x", shape=(2,), labels=("b", "a")),)},
            "inputs",
            r"input 'x': labels is \('b', 'a'\) in leaky:2, \('a', 'b'\) in leaky:1",
        ),
        ({"inputs": (InputSpec(name="z", shape=(2,)),)}, "inputs", "leaky:2 has no input 'x', which leaky:1 has"),
        (
            {"outputs": (OutputSpec(name="z", shape=(2,), std=(1.0,)),)},
            "outputs",
            "leaky:2 has no output 'y', which leaky:1 has",
        ),
    ],
    ids=["states", "shape", "labels", "input", "output"],
)
async def test_a_version_that_cannot_go_on_with_the_sessions_is_not_loaded(
    host: Host, repository: Repository, upgrades: ModelLifecycle, change: dict[str, Any], field: str, words: str
) -> None:
    repository.put(2, **change)
    await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    with pytest.raises(FailedPrecondition, match=words) as error:
        await upgrades.load("leaky", 2, CARRY)
    assert error.value.field == field
    assert [runner.manifest.version for runner in host.versions] == [1]
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("new"))).runner.manifest.version == 1
    if field != "states":
        with pytest.raises(FailedPrecondition, match=words):
            await upgrades.load("leaky", 2, SHADOW)
        assert shadow_of(host.versions.find("leaky")) is None


async def test_pinned_sessions_stay_and_new_ones_go_to_the_active_version(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    for version in (2, 3):
        repository.put(version)
    old = await host.session_manager.open(FakeSubscriber(), 1, asks("old"))
    assert (await upgrades.load("leaky", 3)).stayed == 1
    await upgrades.load("leaky", 2)
    await advance(old, 1)
    assert version_of(host, "old") == 1
    new = await host.session_manager.open(FakeSubscriber(), 1, asks("new"))
    assert new.runner.manifest.version == 2, "the version last made active, not the newest"
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("other", version=3))).runner.manifest.version == 3
    roles = {runner.manifest.version: host.versions.role(runner) for runner in host.versions}
    assert roles == {1: Role.OPEN, 2: Role.ACTIVE, 3: Role.OPEN}
    with pytest.raises(AlreadyExists, match="leaky:2 is active"):
        await upgrades.load("leaky", 2)


async def test_what_only_the_store_has_goes_where_its_version_went(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await make_host(MemoryStore(clock), clock, max_resident=1)
    repository, upgrades = Repository(host, monkeypatch), ModelLifecycle(host)
    repository.put(2)
    # Another output: what was said before it existed has no value in it.
    outputs = (*leaky_manifest().outputs, OutputSpec(name="z", shape=(1,), std=(1.0,)))
    repository.put(3, outputs=outputs)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await advance(held, 3)
    host.session_manager.detach(held)
    await host.session_manager.open(FakeSubscriber(), 1, asks("other"))
    await keeper_of(host).commit()
    await keeper_of(host).commit()
    assert len(host.session_manager.registry) == 1, "robot is in the store alone"
    await upgrades.load("leaky", 2, CARRY)
    await upgrades.load("leaky", 3, CARRY)
    back = await host.session_manager.open(FakeSubscriber(), 1, asks("robot", version=1))
    assert (back.runner.manifest.version, back.resumed) == (3, True)
    np.testing.assert_allclose(state_of(host, "robot"), state_after(3), rtol=1e-6)
    known = back.runner.table.unacked(back.slot)
    assert known is not None
    np.testing.assert_allclose(known.outputs["y"][known.out[-1]], 2 * state_after(3), rtol=1e-6)
    assert np.isnan(known.outputs["z"]).all()
    # The next snapshot names the new version.
    await keeper_of(host).commit()
    read = await host.session_manager.snapshot("robot")
    await host.session_manager.end("robot")
    assert await host.session_manager.restore(read) == "robot"
    assert version_of(host, "robot") == 3
    await keeper_of(host).stop()


async def test_a_shadow_that_computes_the_same_does_not_diverge_and_one_that_does_not_does(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2)
    repository.put(3, gain=3.0)
    stream = FakeSubscriber()
    early = await host.session_manager.open(stream, 1, asks("early"))
    await advance(early, 7)
    for version in (2, 3):
        assert (await upgrades.load("leaky", version, SHADOW)).manifest.version == version
        shadow = shadow_of(early.runner)
        assert shadow is not None
        late = await host.session_manager.open(stream, 2, asks(f"late{version}"))
        for held in (early, late):
            await advance(held, 1)
            await advance(held, 6)
            held.runner.reset(held.slot)
            await advance(held, 2)
        await early.runner.rest()
        divergence = shadow.divergence["y"]
        assert (divergence.rows, divergence.unusable) == (18, 0)
        if version == 2:
            assert divergence.max == divergence.mean == 0.0
        else:
            # Worst in the last of seven rows: the same start, three times the input.
            expected = 2 * sum(2 * np.exp(-0.1 * k) for k in range(7))
            assert divergence.max == pytest.approx(expected, rel=1e-5)
            assert 0 < divergence.mean < divergence.max
    assert stream.rows == 7 + 2 * 18
    assert [runner.manifest.version for runner in host.versions] == [1], "a shadow takes no sessions"


async def test_the_shadow_skips_what_the_state_guard_rolled_back(
    host: Host, repository: Repository, upgrades: ModelLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put(2)
    held = [await host.session_manager.open(FakeSubscriber(), 1, asks(f"s{i}")) for i in range(2)]
    await upgrades.load("leaky", 2, SHADOW)
    runner = held[0].runner
    shadow = shadow_of(runner)
    assert shadow is not None
    step = runner.engine.step

    def overflow(inputs: Any, dt: Any, states: Any) -> Any:
        y, after = step(inputs, dt, states)
        after["h"][0] = np.inf
        return y, after

    with monkeypatch.context() as patch:
        patch.setattr(runner.engine, "step", overflow)
        x = [("x", np.ones((2, 2), "<f4").tobytes())]
        runner.offer([one.slot for one in held], StepColumns([1, 1], columns=x))
        await runner.settled(held[1].slot)
    for one in held:
        await advance(one, 2)
    await runner.rest()
    np.testing.assert_allclose(state_of(host, "s0"), state_after(2), rtol=1e-6)
    assert shadow.divergence["y"].rows == 1 + 2 * 2
    assert shadow.divergence["y"].max == 0.0


async def test_a_shadow_with_states_that_are_not_finite_is_counted_and_one_that_fails_is_dropped(
    host: Host, repository: Repository, upgrades: ModelLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put(2, gain=float("inf"))
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await upgrades.load("leaky", 2, SHADOW)
    shadow = shadow_of(held.runner)
    assert shadow is not None
    await advance(held, 3)
    await held.runner.rest()
    assert (shadow.divergence["y"].unusable, shadow.divergence["y"].rows) == (3, 0)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(shadow.engine, "step", fail)
    await advance(held, 1)
    await held.runner.rest()
    await advance(held, 3)
    assert shadow_of(held.runner) is None
    assert stats_of(held.runner).failed_shadows == 1
    np.testing.assert_allclose(state_of(host, "robot"), state_after(7), rtol=1e-6)


async def test_promoted_with_the_same_kind_of_state_sessions_keep_theirs(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2, gain=3.0)
    stream = FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    idle = await host.session_manager.open(FakeSubscriber(), 1, asks("idle"))
    await advance(idle, 2)
    await upgrades.load("leaky", 2, SHADOW)
    await advance(held, 5)
    assert await upgrades.promote("leaky") == VersionChange(host.versions.find("leaky").manifest, moved=2)
    assert version_of(host, "robot") == version_of(host, "idle") == 2
    np.testing.assert_allclose(state_of(host, "robot"), state_after(5), rtol=1e-6)
    with pytest.raises(FailedPrecondition, match="no version follows leaky:2"):
        await upgrades.promote("leaky")


async def test_promoted_with_another_kind_of_state_sessions_go_on_with_the_shadows(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2, gain=3.0, states=OTHER_STATES)
    stream, fresh = FakeSubscriber(), FakeSubscriber()
    idle = await host.session_manager.open(FakeSubscriber(), 1, asks("idle"))
    await advance(idle, 2)
    held = await host.session_manager.open(stream, 1, asks("robot"))
    await advance(held, 5)
    await upgrades.load("leaky", 2, SHADOW)
    await advance(held, 4)
    anew = await host.session_manager.open(fresh, 1, asks("anew"))
    await advance(anew, 3)
    assert await upgrades.promote("leaky") == VersionChange(host.versions.find("leaky").manifest, moved=2, stayed=1)
    assert [version_of(host, name) for name in ("robot", "anew", "idle")] == [2, 2, 1]
    for name, rows in (("robot", 4), ("anew", 3)):
        table = host.session_manager.registry.find(name).table
        expected = np.full(2, 0.5, np.float32)
        for _ in range(rows):
            expected = leak(expected, 3 * np.ones(2), 0.1)
        np.testing.assert_allclose(table.state(name)["g"], expected, rtol=1e-6)
    np.testing.assert_allclose(state_of(host, "idle"), state_after(2), rtol=1e-6)
    held = here(stream, held)
    await advance(held, 1)
    assert int(held.runner.table.settled_seq[held.slot]) == 10
    # What cannot go back stays, and new sessions go to the version before.
    assert await upgrades.rollback("leaky") == VersionChange(host.versions.find("leaky").manifest, moved=0, stayed=2)
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("new"))).runner.manifest.version == 1
    assert [version_of(host, name) for name in ("robot", "anew", "idle")] == [2, 2, 1]


async def test_rolled_back_sessions_go_on_with_the_version_before(
    host: Host, repository: Repository, upgrades: ModelLifecycle
) -> None:
    repository.put(2, gain=10.0)
    stream = FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    with pytest.raises(FailedPrecondition, match="there is no version before leaky:1 here"):
        await upgrades.rollback("leaky")
    await advance(held, 2)
    await upgrades.load("leaky", 2, CARRY)
    change = await upgrades.rollback("leaky")
    assert (change.manifest.version, change.moved, change.stayed) == (1, 1, 0)
    held = here(stream, held)
    await advance(held, 2)
    np.testing.assert_allclose(state_of(host, "robot"), state_after(4), rtol=1e-6)
    assert [runner.manifest.version for runner in host.versions] == [1], "a version without sessions is gone"
    again = await host.session_manager.open(FakeSubscriber(), 2, asks("robot", version=2, take_over=True))
    assert again.resumed


async def test_unloading_refuses_waits_or_moves(host: Host, repository: Repository, upgrades: ModelLifecycle) -> None:
    repository.put(2)
    repository.put(3, states=OTHER_STATES)
    stream = FakeSubscriber()
    old = await host.session_manager.open(stream, 1, asks("old"))
    await upgrades.load("leaky", 2)
    with pytest.raises(FailedPrecondition, match="leaky:1 has 1 sessions; close, wait for or move them first"):
        await upgrades.unload("leaky", 1)
    await upgrades.unload("leaky", 1, UnloadPolicy.MOVE)
    assert version_of(host, "old") == 2
    with pytest.raises(FailedPrecondition, match="no other version of 'leaky' to move the sessions to"):
        await upgrades.unload("leaky", 2, UnloadPolicy.MOVE)
    await upgrades.load("leaky", 3)
    with pytest.raises(FailedPrecondition, match="the states of leaky:3"):
        await upgrades.unload("leaky", 2, UnloadPolicy.MOVE)
    waits = asyncio.create_task(upgrades.unload("leaky", 2, UnloadPolicy.WAIT))
    await asyncio.sleep(0)
    assert not waits.done()
    with pytest.raises(NotFound, match=r"has no version 2 here; it has \[3\]"):
        await host.session_manager.open(FakeSubscriber(), 1, asks("late", version=2))
    old = here(stream, old)
    await advance(old, 1)
    await host.session_manager.end("old")
    await waits
    assert [runner.manifest.version for runner in host.versions] == [3]
    # A shadow is dropped by its number.
    repository.put(4, states=OTHER_STATES)
    await upgrades.load("leaky", 4, SHADOW)
    await upgrades.unload("leaky", 4)
    assert shadow_of(host.versions.find("leaky")) is None
