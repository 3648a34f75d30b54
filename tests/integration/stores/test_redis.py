"""The Redis store against the one in a dictionary, and against what a Redis does."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings

from statestream.service.durability.stores.base import FENCED, Durability, Save
from statestream.service.durability.stores.redis import RedisStore
from tests.support.redis_server import RedisServer
from tests.support.store_operations import operations
from tests.support.stores import MemoryStore, alike


@given(given_operations=operations)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_does_as_the_dictionary_does(
    redis_server: RedisServer, given_operations: list[tuple[str, tuple[object, ...]]]
) -> None:
    store = RedisStore(redis_server.url)
    store._redis.flushall()
    alike(store, MemoryStore(), given_operations)
    store.close()


def test_it_says_what_a_snapshot_survives(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    assert store.open() is Durability.PROCESS
    store.close()
    redis_server.stop()
    redis_server.start("--appendonly", "yes", "--appendfsync", "always")
    assert store.open() is Durability.POWER
    store.close()


def test_it_comes_back_after_an_outage_with_what_it_had(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    store.save("a", [Save("s", 1, 1, True, b"one")], 10)
    redis_server.stop()
    with pytest.raises(Exception, match="refused"):
        store.save("a", [Save("s", 1, 2, True, b"two")], 10)
    redis_server.start()
    record = store.read(["s"])[0]
    assert record is not None
    assert record.snapshot == b"one"
    assert store.save("b", [Save("s", 0, 2, True, b"two")], 10) == [FENCED]
    store.close()


def test_silence_and_age_are_judged_by_its_own_clock(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    store.save("a", [Save("held", 1, 0, True, b"x"), Save("left", 1, 0, False, b"y")], alive_s=0.1)
    record = store.read(["held"])[0]
    assert record is not None
    assert record.held
    time.sleep(0.15)
    record = store.read(["held"])[0]
    assert record is not None
    assert not record.held
    assert store.expire(10, 10) == 0
    assert store.expire(0.1, 0.05) == 2
    assert store.count() == 0
    time.sleep(0.1)
    assert store.read(["left"]) == [None]
    store.close()


def test_many_sessions_expire_in_one_go(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    store.save("a", [Save(f"s{i}", 1, 0, False, b"x") for i in range(2500)], 10)
    assert store.expire(-1, 10) == 2500
    store.close()
