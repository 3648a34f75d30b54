"""Sequences over a host without transport: how they rest, come back, move, are lost, and what a crash does to them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from statestream.service.auth.identity import GUEST, SERVER, Identity, Role
from statestream.service.control.host import Host
from statestream.service.control.model_lifecycle import ModelLifecycle
from statestream.service.errors import Internal, InvalidArgument, PermissionDenied, Unavailable
from statestream.service.oip.request import InferRequest, InputTensor, Parameter
from statestream.service.oip.sequences import SequenceFrontend
from statestream.service.protocol.upgrade_policy import UpgradePolicy
from tests.conftest import FakeClock, leaky_manifest
from tests.support.hosts import FakeSubscriber, asks, keeper_of, leaky_bundle, make_host, state_after
from tests.support.stores import MemoryStore

NOT_STARTED = "inference request for sequence 7 to model 'leaky' must specify the START flag on the first request"


def request(*, start: bool = False, end: bool = False, sequence: int = 7, **parameters: int) -> InferRequest:
    """A row of ones."""
    flags = {"sequence_start": Parameter("bool_param", start), "sequence_end": Parameter("bool_param", end)}
    numbers = {"sequence_id": sequence, **parameters}
    return InferRequest(
        model="leaky",
        version="",
        id="",
        parameters=flags | {name: Parameter("int64_param", value) for name, value in numbers.items()},
        inputs=[InputTensor("x", "FP32", (1, 2), None, ())],
        outputs=[],
        raw=[np.ones((1, 2), "<f4").tobytes()],
    )


async def step(sequences: SequenceFrontend, who: Identity = SERVER, **more: Any) -> np.ndarray:
    """The state that the output of a row of ones shows."""
    response = await sequences.infer(request(**more), who)
    return np.frombuffer(response.outputs[0].data, "<f4") / 2


def settled_held(host: Host) -> tuple[bool, int, int]:
    """Whether the sequence is held, how many rows it has settled, and how many of them are remembered."""
    table = host.session_manager.registry.find("leaky/7").table
    info = table.info("leaky/7")
    return info.attached, info.settled_seq, info.settled_seq - info.acked_seq


async def test_what_is_answered_is_acknowledged(clock: FakeClock) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    for rows in range(1, 6):
        np.testing.assert_allclose(await step(sequences, start=rows == 1), state_after(rows), rtol=1e-6)
        assert settled_held(host) == (True, rows, 0)


async def test_a_sequence_that_rests_is_let_go_of_and_comes_back(clock: FakeClock) -> None:
    host = await make_host(None, clock, idle_ttl_s=60.0)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    sequences.detach_idle()
    assert settled_held(host)[0], "a request has just come"
    sequences.detach_idle()
    assert not settled_held(host)[0]
    np.testing.assert_allclose(await step(sequences), state_after(2), rtol=1e-6)
    assert settled_held(host)[0]
    for _ in range(2):
        sequences.detach_idle()
    clock.now_s += 61
    assert host.eviction.expire() == ["leaky/7"]
    clock.now_s += 5
    with pytest.raises(InvalidArgument, match=f"{NOT_STARTED} of the sequence .session 'leaky/7' expired 5 s ago"):
        await step(sequences)
    np.testing.assert_allclose(await step(sequences, start=True), state_after(1), rtol=1e-6)


async def test_sequences_go_on_after_an_orderly_restart_and_not_after_a_crash(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    first = await make_host(store, clock, idle_ttl_s=1e6)
    sequences = SequenceFrontend(first)
    await step(sequences, start=True)
    sequences.release()
    await keeper_of(first).stop()

    second = await make_host(store, clock, idle_ttl_s=1e6)
    sequences = SequenceFrontend(second)
    np.testing.assert_allclose(await step(sequences), state_after(2), rtol=1e-6)
    await keeper_of(second).commit()
    await step(sequences)  # answered, and lost with the server
    clock.now_s += 1e5

    third = await make_host(store, clock, idle_ttl_s=1e6)
    sequences = SequenceFrontend(third)
    with pytest.raises(InvalidArgument, match=f"{NOT_STARTED} .*died, and rows of it may be lost"):
        await step(sequences)
    np.testing.assert_allclose(await step(sequences, start=True), state_after(1), rtol=1e-6)


async def test_a_sequence_goes_with_its_version(clock: FakeClock) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    host.repository.load = lambda name, version=0: leaky_bundle(leaky_manifest(version=2))  # type: ignore[method-assign]
    upgrades = ModelLifecycle(host)
    await upgrades.load("leaky", 2, UpgradePolicy.CARRY)
    response = await sequences.infer(request(), SERVER)
    assert response.version == 2
    np.testing.assert_allclose(np.frombuffer(response.outputs[0].data, "<f4") / 2, state_after(2), rtol=1e-6)


async def test_a_stream_may_take_a_sequence_over_and_give_it_back(clock: FakeClock) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("leaky/7", take_over=True))
    with pytest.raises(InvalidArgument, match=f"{NOT_STARTED} .*a stream holds session 'leaky/7'"):
        await step(sequences)
    host.session_manager.detach(held)
    np.testing.assert_allclose(await step(sequences), state_after(2), rtol=1e-6)
    await host.session_manager.end("leaky/7")
    with pytest.raises(InvalidArgument, match=f"{NOT_STARTED} .*no session 'leaky/7' here"):
        await step(sequences)


async def test_a_request_that_waits_too_long_changes_nothing(clock: FakeClock) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    late = asyncio.ensure_future(sequences.infer(request(timeout=1000), SERVER))
    await asyncio.sleep(0)
    clock.now_s += 0.002
    with pytest.raises(Unavailable, match="Request timeout expired"):
        await late
    np.testing.assert_allclose(await step(sequences, timeout=1000), state_after(2), rtol=1e-6)


async def test_a_turn_that_fails_is_told_and_changes_nothing(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    runner = host.versions.find("leaky")
    with monkeypatch.context() as broken:
        broken.setattr(runner.engine, "step", lambda *_: 1 / 0)
        with pytest.raises(Internal, match="the session is as it was"):
            await step(sequences)
    np.testing.assert_allclose(await step(sequences), state_after(2), rtol=1e-6)
    statistics = sequences.statistics(runner)
    assert (statistics.success.count, statistics.fail.count) == (2, 1)


async def test_nothing_is_begun_while_the_server_drains(clock: FakeClock) -> None:
    host = await make_host(None, clock)
    sequences = SequenceFrontend(host)
    await step(sequences, start=True)
    host.session_manager.drain()
    for start in (False, True):
        with pytest.raises(Unavailable, match="the server is draining"):
            await step(sequences, start=start)
    sequences.release()
    assert not settled_held(host)[0]
    assert not len(host.router)


async def test_a_sequence_is_that_of_who_started_it(clock: FakeClock) -> None:
    host = await make_host(MemoryStore(clock), clock)
    sequences = SequenceFrontend(host)
    ann, bob = (Identity(name, frozenset({Role.STREAM})) for name in ("ann", "bob"))
    await step(sequences, ann, start=True)
    for resting in (False, True):
        for more in ({}, {"start": True}, {"end": True}):
            for stranger in (bob, GUEST):
                with pytest.raises(PermissionDenied, match="'leaky/7' belongs to another client"):
                    await step(sequences, stranger, **more)
        if not resting:
            assert settled_held(host)[0], "nobody took it from its owner"
            for _ in range(2):
                sequences.detach_idle()
    np.testing.assert_allclose(await step(sequences, ann, end=True), state_after(2), rtol=1e-6)
    await step(sequences, bob, start=True)
    assert [info.owner for _, info in host.session_manager.infos()] == ["bob"]
