"""Who has a session: one server at a time, whatever the others believe, and as the store last knew it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.service.auth.identity import Identity, Role
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment
from statestream.service.durability.stores.base import Damage, Label, StoreReplacedError
from statestream.service.errors import (
    AlreadyExists,
    Expired,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from statestream.service.serving.subscriber import DetachReason
from statestream.service.sessions.columns import DETACHED
from tests.conftest import FakeClock
from tests.support.hosts import FakeSubscriber, advance, asks, keeper_of, make_host, state_after
from tests.support.stores import MemoryStore


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


def state_of(host: Host, session_id: str) -> np.ndarray:
    return np.asarray(host.session_manager.registry.find(session_id).table.state(session_id)["h"])


async def test_a_session_is_stored_when_opened_and_its_rows_with_the_next_tick(
    store: MemoryStore, clock: FakeClock
) -> None:
    host, stream = await make_host(store, clock), FakeSubscriber()
    held = await host.session_manager.open(stream, 3, asks("robot"))
    assert (held.epoch, held.resumed) == (1, False)
    assert store.entries["robot"].settled_seq == 0
    await advance(held, 5)
    assert await keeper_of(host).commit()
    assert stream.durable == {3: 5}
    assert stream.lags_s[-1] == 0
    assert int(held.runner.table.durable_seq[held.slot]) == 5
    assert threading.get_ident() not in store.threads, "the loop never waits for the store"


async def test_what_one_server_stored_another_goes_on_with(store: MemoryStore, clock: FakeClock) -> None:
    a, b, old, new = await make_host(store, clock), await make_host(store, clock), FakeSubscriber(), FakeSubscriber()
    held = await a.session_manager.open(old, 1, asks("robot"))
    await advance(held, 5)
    held.runner.table.acknowledge(held.slot, 2)
    await keeper_of(a).commit()
    await advance(held, 3)  # never stored: void
    with pytest.raises(AlreadyExists, match="set take_over"):
        await b.session_manager.open(new, 1, asks("robot"))
    taken = await b.session_manager.open(new, 1, asks("robot", take_over=True))
    assert (taken.epoch, taken.resumed) == (2, True)
    np.testing.assert_allclose(state_of(b, "robot"), state_after(5), rtol=1e-6)
    table = taken.runner.table
    known = table.unacked(taken.slot)
    assert known is not None
    assert known.seq.tolist() == [3, 4, 5], "what was settled and not acknowledged is told again"
    await keeper_of(a).commit()
    await keeper_of(a).dropped()
    assert old.lost_channels == {1: DetachReason.MOVED}
    assert len(a.session_manager.registry) == 0
    assert store.entries["robot"].server == keeper_of(b).store.server
    assert store.entries["robot"].settled_seq == 5


async def test_a_server_that_lost_a_session_unawares_does_not_resume_its_old_copy(
    store: MemoryStore, clock: FakeClock
) -> None:
    a, b = await make_host(store, clock), await make_host(store, clock)
    held = await a.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await advance(held, 2)
    await keeper_of(a).commit()
    a.session_manager.detach(held)
    moved = await b.session_manager.open(FakeSubscriber(), 1, asks("robot", take_over=True))
    await advance(moved, 4)
    await keeper_of(b).commit()
    back = await a.session_manager.open(FakeSubscriber(), 1, asks("robot", take_over=True))
    assert int(back.runner.table.settled_seq[back.slot]) == 6
    assert back.epoch == 3
    np.testing.assert_allclose(state_of(a, "robot"), state_after(6), rtol=1e-6)


async def test_a_detached_session_is_free_once_that_is_stored_and_a_dead_servers_once_it_is_silent(
    store: MemoryStore, clock: FakeClock
) -> None:
    a, b = await make_host(store, clock), await make_host(store, clock)
    left = await a.session_manager.open(FakeSubscriber(), 1, asks("left"))
    await a.session_manager.open(FakeSubscriber(), 1, asks("orphan"))
    await keeper_of(a).commit()
    a.session_manager.detach(left)
    await keeper_of(a).commit()
    assert (await b.session_manager.open(FakeSubscriber(), 1, asks("left"))).epoch == 2
    with pytest.raises(AlreadyExists):
        await b.session_manager.open(FakeSubscriber(), 2, asks("orphan"))
    clock.now_s += 3 * 3600 + 1
    assert (await b.session_manager.open(FakeSubscriber(), 2, asks("orphan"))).resumed


async def test_while_the_store_fails_streams_go_on_and_what_may_exist_is_not_started_anew(
    store: MemoryStore, clock: FakeClock
) -> None:
    host, stream = await make_host(store, clock), FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    await advance(held, 1)
    await keeper_of(host).commit()
    store.broken = OSError("no space left on device")
    await advance(held, 2)
    clock.now_s += 2
    assert not await keeper_of(host).commit()
    clock.now_s += 3
    assert keeper_of(host).store.health.lag_s == 5
    assert not keeper_of(host).store.health.up
    await advance(held, 2)
    for name in ("robot", "another"):
        with pytest.raises(Unavailable, match="store") as refused:
            await host.session_manager.open(FakeSubscriber(), 1, asks(name, take_over=True))
        assert refused.value.retry_after_s > 0
    assert stream.lost_channels == {}, "a refused take-over takes nothing away"
    made = await host.session_manager.open(FakeSubscriber(), 1, asks(""))
    await advance(made, 3)
    await keeper_of(host).commit()
    assert stream.durable[1] == 1
    assert stream.lags_s[-1] == 5

    store.broken = StoreReplacedError("it comes back with nothing")
    store.entries.clear()
    assert not await keeper_of(host).commit()
    store.broken = None
    assert await keeper_of(host).commit()
    assert store.entries["robot"].settled_seq == 5
    assert store.entries[made.session_id].settled_seq == 3
    assert keeper_of(host).store.health.lag_s == 0
    assert stream.durable[1] == 5
    assert [channel for channel, _ in stream.fallen] == [1], "its durable_seq went back before it went on"
    again = await host.session_manager.open(FakeSubscriber(), 1, asks(made.session_id, take_over=True))
    assert again.epoch == 2


async def test_a_claim_whose_answer_was_lost_is_still_ours(
    store: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await make_host(store, clock)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await advance(held, 4)
    right = store.claim

    def claims_and_fails(*arguments: object) -> list[bool]:
        right(*arguments)  # type: ignore[arg-type]
        raise TimeoutError("the answer got lost")

    with monkeypatch.context() as patch:
        patch.setattr(store, "claim", claims_and_fails)
        for name in ("robot", "new"):
            with pytest.raises(Unavailable):
                await host.session_manager.open(FakeSubscriber(), 1, asks(name, take_over=True))
            await keeper_of(host).commit()
    again = await host.session_manager.open(FakeSubscriber(), 1, asks("robot", take_over=True))
    assert again.epoch == 3
    assert int(again.runner.table.settled_seq[again.slot]) == 4
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("new"))).epoch == 2


async def test_a_server_that_cannot_take_a_session_leaves_it_where_it_is(store: MemoryStore, clock: FakeClock) -> None:
    a, b, stream = await make_host(store, clock), await make_host(store, clock, models=["other"]), FakeSubscriber()
    held = await a.session_manager.open(stream, 1, asks("robot"))
    await advance(held, 2)
    await keeper_of(a).commit()
    with pytest.raises(NotFound, match="no model 'leaky' here; there are 'other'"):
        await b.session_manager.open(FakeSubscriber(), 1, asks("robot", model="", take_over=True))
    c = await make_host(store, clock, models=["leaky", "other"])
    with pytest.raises(FailedPrecondition, match="is of model leaky:1, not other:1"):
        await c.session_manager.open(FakeSubscriber(), 1, asks("robot", model="other", take_over=True))
    with pytest.raises(AlreadyExists, match="exists already"):
        await c.session_manager.open(FakeSubscriber(), 1, asks("robot", may_resume=False, take_over=True))
    assert (len(b.session_manager.registry), len(c.session_manager.registry)) == (0, 0)
    await advance(held, 1)
    await keeper_of(a).commit()
    assert stream.durable == {1: 3}
    assert stream.lost_channels == {}


async def test_a_damaged_snapshot_is_refused_and_starts_nothing(store: MemoryStore, clock: FakeClock) -> None:
    a = await make_host(store, clock)
    a.session_manager.detach(await a.session_manager.open(FakeSubscriber(), 1, asks("robot")))
    await keeper_of(a).stop()
    entry = store.entries["robot"]
    store.entries["robot"] = entry.__class__(**(entry.__dict__ | {"snapshot": entry.snapshot[:-1] + b"!"}))
    b = await make_host(store, clock)
    with pytest.raises(FailedPrecondition, match="unusable: damaged"):
        await b.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    assert len(b.session_manager.registry) == 0
    assert store.entries["robot"].epoch == 1


@pytest.mark.parametrize("durable", [True, False])
async def test_an_expired_session_says_so_and_can_only_be_begun_anew(clock: FakeClock, durable: bool) -> None:
    store = MemoryStore(clock) if durable else None
    host = await make_host(store, clock, idle_ttl_s=60)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await advance(held, 2)
    host.session_manager.detach(held)
    if durable:
        await keeper_of(host).commit()
    clock.now_s += 100
    if durable:
        await keeper_of(host).commit()
    assert host.eviction.expire() == ([] if durable else ["robot"])
    clock.now_s += 7
    for more in ({}, {"may_create": False}):
        with pytest.raises(Expired, match="expired 7 s ago: no stream held it for longer than 60 s"):
            await host.session_manager.open(FakeSubscriber(), 1, asks("robot", **more))
    assert len(host.session_manager.registry) == 0
    anew = await host.session_manager.open(FakeSubscriber(), 1, asks("robot", may_resume=False))
    assert not anew.resumed
    assert int(anew.runner.table.settled_seq[anew.slot]) == 0
    host.session_manager.detach(anew)
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))).resumed


async def test_sessions_beyond_those_that_fit_spill_and_come_back(store: MemoryStore, clock: FakeClock) -> None:
    host = await make_host(store, clock, max_resident=4)
    for number in range(20):
        held = await host.session_manager.open(FakeSubscriber(), 1, asks(f"s{number}"))
        await advance(held, number)
        clock.now_s += 1
        host.session_manager.detach(held)
        if number % 5 == 0:
            await keeper_of(host).commit()
    busy = await host.session_manager.open(FakeSubscriber(), 1, asks("s19"))
    await keeper_of(host).commit()
    assert len(host.session_manager.registry) == 4
    assert host.session_manager.registry.of(None) == ["s16", "s17", "s18", "s19"], "the least used go first"
    for number in range(19):
        held = await host.session_manager.open(FakeSubscriber(), 1, asks(f"s{number}"))
        np.testing.assert_allclose(state_of(host, f"s{number}"), state_after(number), rtol=1e-6)
        assert held.epoch == 2
    assert busy.runner.table.route[busy.slot] != DETACHED


async def test_what_a_damaged_store_lost_is_said_and_what_is_here_is_stored_again(
    store: MemoryStore, clock: FakeClock
) -> None:
    host = await make_host(store, clock, spill_after_s=1)
    here = await host.session_manager.open(FakeSubscriber(), 1, asks("here"))
    await advance(here, 3)
    stream = FakeSubscriber()
    idle = await host.session_manager.open(stream, 1, asks("idle"))
    assert await keeper_of(host).commit()
    idle.runner.table.detach(idle.slot)
    assert await keeper_of(host).commit()
    clock.now_s += 10
    store.entries.clear()
    store.found_damage = Damage("the store is damaged", ("here", "idle", "gone"), 2)
    assert await keeper_of(host).commit()
    assert store.entries["here"].settled_seq == 3
    assert "idle" in store.entries, "it did not leave memory while the store had lost it"
    assert (keeper_of(host).counts.damages, keeper_of(host).counts.lost) == (1, 1), "of three, two are here"
    assert not keeper_of(host).store.health.intact


async def test_nothing_spills_where_there_is_no_store(clock: FakeClock) -> None:
    host = await make_host(None, clock, max_resident=1, spill_after_s=1)
    for number in range(5):
        host.session_manager.detach(await host.session_manager.open(FakeSubscriber(), 1, asks(f"s{number}")))
    clock.now_s += 100
    assert host.eviction.expire() == []
    assert len(host.session_manager.registry) == 5


async def test_a_failure_has_only_what_changed_stored_again(store: MemoryStore, clock: FakeClock) -> None:
    host, stream = await make_host(store, clock), FakeSubscriber()
    held = [await host.session_manager.open(stream, channel, asks(f"s{channel}")) for channel in range(5)]
    for one in held:
        await advance(one, 1)
    assert await keeper_of(host).commit()
    store.broken = OSError("locked")
    await advance(held[2], 1)
    assert not await keeper_of(host).commit()
    store.broken, before = None, keeper_of(host).counts.snapshots
    assert await keeper_of(host).commit()
    assert keeper_of(host).counts.snapshots == before + 1
    assert [store.entries[f"s{channel}"].settled_seq for channel in range(5)] == [1, 1, 2, 1, 1]


async def test_an_unsaved_or_waiting_session_never_spills(store: MemoryStore, clock: FakeClock) -> None:
    host = await make_host(store, clock, spill_after_s=1)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await keeper_of(host).commit()
    await advance(held, 1)
    host.session_manager.detach(held)
    clock.now_s += 100
    assert host.eviction.spill() == 0
    store.broken = OSError()
    await keeper_of(host).commit()
    assert host.eviction.spill() == 0
    store.broken = None
    await keeper_of(host).commit()
    assert len(host.session_manager.registry) == 0


async def test_openings_share_transactions(store: MemoryStore, clock: FakeClock) -> None:
    host = await make_host(store, clock)
    store.calls.clear()
    await asyncio.gather(*(host.session_manager.open(FakeSubscriber(), 1, asks(f"s{i}")) for i in range(200)))
    assert Counter(store.calls)["claim"] < 10
    assert len(store.entries) == 200


async def test_openings_of_one_id_are_one_after_the_other(store: MemoryStore, clock: FakeClock) -> None:
    hosts = [await make_host(store, clock) for _ in range(2)]
    held = await asyncio.gather(
        *(hosts[i % 2].session_manager.open(FakeSubscriber(), 1, asks("prize", take_over=True)) for i in range(20)),
        return_exceptions=True,
    )
    epochs = [one.epoch for one in held if isinstance(one, Attachment)]
    assert len(set(epochs)) == len(epochs)
    assert all(isinstance(one, Attachment) or (isinstance(one, Unavailable) and one.retry_after_s) for one in held)
    assert store.entries["prize"].epoch == max(epochs)


async def test_an_ended_session_is_gone_from_the_store_even_if_that_fails_at_first(
    store: MemoryStore, clock: FakeClock
) -> None:
    host = await make_host(store, clock)
    for name in ("one", "two"):
        host.session_manager.detach(await host.session_manager.open(FakeSubscriber(), 1, asks(name)))
    await keeper_of(host).commit()
    await host.session_manager.end("one")
    assert "one" not in store.entries
    with pytest.raises(NotFound):
        await host.session_manager.end("one")
    store.broken = OSError()
    await host.session_manager.end("two")
    store.broken = None
    await keeper_of(host).commit()
    assert not (await host.session_manager.open(FakeSubscriber(), 1, asks("two"))).resumed


async def test_a_fork_goes_its_own_way(store: MemoryStore, clock: FakeClock) -> None:
    host, other = await make_host(store, clock), await make_host(MemoryStore(clock), clock)
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await advance(held, 4)
    data = await host.session_manager.snapshot("robot")
    with pytest.raises(AlreadyExists):
        await host.session_manager.restore(data)
    assert await host.session_manager.restore(data, "fork") == "fork"
    assert await other.session_manager.restore(data) == "robot"
    await advance(held, 1)
    for there, name, rows in ((host, "robot", 5), (host, "fork", 4), (other, "robot", 4)):
        np.testing.assert_allclose(state_of(there, name), state_after(rows), rtol=1e-6)
    assert await host.session_manager.snapshot("fork") != data
    fork = await host.session_manager.open(FakeSubscriber(), 1, asks("fork"))
    await advance(fork, 1)
    np.testing.assert_allclose(state_of(host, "fork"), state_of(host, "robot"))
    stranger = await make_host(None, clock, models=["other"])
    with pytest.raises(NotFound, match="no model 'leaky' here"):
        await stranger.session_manager.restore(data)


async def test_a_full_server_refuses_and_claims_nothing(store: MemoryStore, clock: FakeClock) -> None:
    a, b = await make_host(store, clock), await make_host(store, clock, max_sessions=1)
    held = await a.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    a.session_manager.detach(held)
    await keeper_of(a).commit()
    await b.session_manager.open(FakeSubscriber(), 1, asks("only"))
    for name in ("robot", "new"):
        with pytest.raises(ResourceExhausted):
            await b.session_manager.open(FakeSubscriber(), 1, asks(name))
    assert store.entries["robot"].epoch == 1
    assert "new" not in store.entries


events = st.lists(
    st.tuples(
        st.sampled_from(["open", "rows", "commit", "detach", "die", "store"]), st.integers(0, 1), st.integers(1, 3)
    ),
    max_size=40,
)


@given(events)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_no_epoch_has_two_owners_and_durable_rows_stay(told: list[tuple[str, int, int]]) -> None:
    asyncio.run(two_servers(told))


async def two_servers(told: list[tuple[str, int, int]]) -> None:
    """Two servers, one session, one store: a client that wanders, processes that die, a store that fails."""
    clock = FakeClock()
    store = MemoryStore(clock)
    hosts = [await make_host(store, clock) for _ in range(2)]
    held: list[Attachment | None] = [None, None]
    owners: dict[int, int] = {}
    durable = 0
    owner = None
    for event, which, n in told:
        host, mine = hosts[which], held[which]
        if event == "open":
            try:
                opened = await host.session_manager.open(FakeSubscriber(), 1, asks("robot", take_over=True))
            except Unavailable:
                continue
            assert opened.epoch not in owners, "an epoch has one owner"
            owners[opened.epoch] = which
            assert opened.epoch == max(owners)
            held[which], owner = opened, which
            settled = int(opened.runner.table.settled_seq[opened.slot])
            assert settled >= durable, "what was durable is there"
            np.testing.assert_allclose(state_of(host, "robot"), state_after(settled), rtol=1e-5)
        elif event == "rows" and mine is not None and mine.runner.table.route[mine.slot] != DETACHED:
            await advance(mine, n)
        elif event == "commit":
            await keeper_of(host).commit()
            await keeper_of(host).dropped()
            if which == owner and mine is not None and "robot" in host.session_manager.registry.of(None):
                durable = max(durable, int(mine.runner.table.durable_seq[mine.slot]))
        elif event == "detach" and mine is not None and mine.runner.table.route[mine.slot] != DETACHED:
            host.session_manager.detach(mine)
            held[which] = None
        elif event == "die":
            hosts[which] = await make_host(store, clock) if store.broken is None else host
            held[which] = None if hosts[which] is not host else mine
        elif event == "store":
            store.broken = OSError("gone") if store.broken is None else None
    for host in hosts:
        ticking = keeper_of(host)._ticking
        assert ticking is not None
        ticking.cancel()


async def test_a_server_with_nothing_to_say_writes_little_but_stays_alive(store: MemoryStore, clock: FakeClock) -> None:
    host, other = await make_host(store, clock, store_tick_s=1.0), await make_host(store, clock, store_tick_s=1.0)
    await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await keeper_of(host).commit()
    store.calls.clear()
    for _ in range(60):
        clock.now_s += 1
        assert await keeper_of(host).commit()
        with pytest.raises(AlreadyExists):
            await other.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    assert Counter(store.calls)["save"] == 30


async def test_a_session_is_its_owners_in_memory_in_the_store_and_when_restored(
    store: MemoryStore, clock: FakeClock
) -> None:
    host = await make_host(store, clock, max_sessions_per_client=2)
    arm, leg = (Identity(name, frozenset({Role.STREAM})) for name in ("arm", "leg"))
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("left", owner="arm"))
    await advance(held, 3)
    host.session_manager.detach(held)
    other = await make_host(store, clock)
    await keeper_of(host).commit()
    taken = await host.session_manager.snapshot("left", arm)
    for there in (host, other):
        with pytest.raises(PermissionDenied):
            await there.session_manager.open(FakeSubscriber(), 1, asks("left", owner="leg", take_over=True))
        with pytest.raises(PermissionDenied):
            await there.session_manager.snapshot("left", leg)
        with pytest.raises(PermissionDenied):
            await there.session_manager.end("left", leg)
        with pytest.raises(PermissionDenied):
            await there.session_manager.restore(taken, "fork", leg)
    assert other.session_manager.registry.of(None) == []
    assert await host.session_manager.restore(taken, "fork", arm) == "fork"
    assert host.session_manager.registry.of("arm") == ["fork", "left"]
    with pytest.raises(ResourceExhausted, match="'arm' has 2 sessions"):
        await host.session_manager.open(FakeSubscriber(), 1, asks("third", owner="arm"))
    await host.session_manager.open(FakeSubscriber(), 1, asks("legs", owner="leg"))
    await host.session_manager.end("fork", arm)
    assert (await host.session_manager.open(FakeSubscriber(), 1, asks("third", owner="arm"))).resumed is False


async def test_no_snapshot_is_decoded_to_ask_whose_it_is(
    store: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, other = await make_host(store, clock), await make_host(store, clock)
    arm, leg = (Identity(name, frozenset({Role.STREAM})) for name in ("arm", "leg"))
    host.session_manager.detach(await host.session_manager.open(FakeSubscriber(), 1, asks("left", owner="arm")))
    await keeper_of(host).commit()
    assert store.entries["left"].label == Label("arm", "leaky")

    def decodes(_: bytes) -> None:
        raise AssertionError("it decodes")

    monkeypatch.setattr("statestream.service.sessions.snapshot.decode", decodes)
    for refused in (
        other.session_manager.open(FakeSubscriber(), 1, asks("left", owner="leg")),
        other.session_manager.end("left", leg),
        other.session_manager.snapshot("left", leg),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    await other.session_manager.end("left", arm)
    assert "left" not in store.entries


@pytest.mark.parametrize("label", [Label("leg", "leaky"), Label("arm", "other")])
async def test_a_label_that_is_not_its_snapshots_is_refused(store: MemoryStore, clock: FakeClock, label: Label) -> None:
    host = await make_host(store, clock, models=["leaky", "other"])
    host.session_manager.detach(await host.session_manager.open(FakeSubscriber(), 1, asks("left", owner="arm")))
    await keeper_of(host).commit()
    store.entries["left"] = replace(store.entries["left"], label=label)
    other = await make_host(store, clock, models=["leaky", "other"])
    with pytest.raises(FailedPrecondition, match="its label in the store differs"):
        await other.session_manager.open(FakeSubscriber(), 1, asks("left", model="", owner=label.owner))
