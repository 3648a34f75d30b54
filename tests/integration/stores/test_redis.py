"""The Redis store against the one in a dictionary, and against what a Redis does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings

from examples.server import free_port
from statestream.service.durability.stores.base import (
    FENCED,
    Claim,
    Durability,
    Label,
    Save,
    Store,
    StoreReplacedError,
)
from statestream.service.durability.stores.redis import RedisStore
from statestream.service.durability.stores.sqlite import SqliteStore
from statestream.service.sessions.snapshot import sealed
from tests.conftest import FakeClock
from tests.support import earlier_store
from tests.support.redis_server import Cluster, RedisServer, Sentinels
from tests.support.store_operations import operations
from tests.support.stores import MemoryStore, alike

CLAIM_WITHOUT_SNAPSHOT = [
    ("save", ("one", [Save("a", 4, 0, False, sealed(b"x"))], 1000.0)),
    ("expire", (-10.0, 1000.0)),
    ("claim", ("one", [Claim("a", 4, 5, 0, b"")])),
    ("count", ()),
]
"""An expired session that is claimed without a snapshot stays expired."""


@given(given_operations=operations)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cluster_does_as_the_dictionary_does(
    redis_cluster: Cluster, given_operations: list[tuple[str, tuple[object, ...]]]
) -> None:
    store = RedisStore(redis_cluster.url)
    for node in redis_cluster.nodes:
        node.client().flushall()
    alike(store, MemoryStore(), given_operations)
    store.close()


@given(given_operations=operations)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_sentinels_name_does_as_the_dictionary_does(
    sentinels: Sentinels, given_operations: list[tuple[str, tuple[object, ...]]]
) -> None:
    store = RedisStore(sentinels.url)
    store._connection.client.flushall()
    alike(store, MemoryStore(), given_operations)
    store.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A primary and a sentinel with passwords of their own; hosts and service of a URL."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    primary = RedisServer(tmp_path / "primary", free_port(), "--requirepass", "s/tore")
    sentinel = RedisServer(tmp_path / "sentinel", free_port())
    config = tmp_path / "sentinel" / "sentinel.conf"
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {config.parent}\nrequirepass watch&er\n"
        f"sentinel monitor robots 127.0.0.1 {primary.port} 1\nsentinel auth-pass robots s/tore\n"
    )
    try:
        primary.start()
        sentinel.run("redis-server", str(config), "--sentinel")
        yield f"127.0.0.1:{sentinel.port}/robots/0"
    finally:
        sentinel.stop()
        primary.stop()


@pytest.mark.parametrize("user", ["", "&sentinel_username=default"])
def test_sentinels_may_have_a_password_of_their_own(guarded: str, user: str) -> None:
    store = RedisStore(f"redis+sentinel://:s%2Ftore@{guarded}?sentinel_password=watch%26er{user}")
    store.open()
    assert store.claim("one", [Claim("a", 0, 1, 0, sealed(b"x"))]) == [True]
    (record,) = store.read(["a"])
    assert record is not None
    assert record.snapshot == sealed(b"x")
    store.close()


@pytest.mark.parametrize("query", ["", "?sentinel_password=no"])
def test_a_sentinel_that_wants_another_password_says_so(guarded: str, query: str) -> None:
    store = RedisStore(f"redis+sentinel://:s%2Ftore@{guarded}{query}")
    words = r"^no sentinel of 127.0.0.1:\d+ names a primary of 'robots': .*[Aa]uth.*; give their own password as \?sent"
    with pytest.raises(redis.RedisError, match=words) as error:
        store.open()
    assert "tore" not in str(error.value)
    assert "redis.client" not in str(error.value)
    store.close()


def test_sentinels_that_do_not_know_the_service_or_are_gone_are_named(guarded: str) -> None:
    host = guarded.partition("/")[0]
    for url, words in (
        (
            f"{host}/others?sentinel_password=watch%26er",
            r"names a primary of 'others': none is watched under this name$",
        ),
        (f"127.0.0.1:{free_port()}/robots", r"names a primary of 'robots': .*ConnectionError"),
    ):
        with pytest.raises(redis.RedisError, match=words):
            RedisStore(f"redis+sentinel://{url}").open()


@given(given_operations=operations)
@example(CLAIM_WITHOUT_SNAPSHOT)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_does_as_the_dictionary_does(
    redis_server: RedisServer, given_operations: list[tuple[str, tuple[object, ...]]]
) -> None:
    store = RedisStore(redis_server.url)
    store._connection.client.flushall()
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
    with pytest.raises(StoreReplacedError):
        store.save("a", [], 10)
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


def test_a_store_of_earlier_versions_is_read_as_it_is(redis_server: RedisServer) -> None:
    """Their records have no time of last use, and their order is all that knows it."""
    client = redis.Redis(port=redis_server.port)
    now_ms = round(time.time() * 1000)
    for i, (session_id, held, used_ms) in enumerate(
        [("new", "0", now_ms), ("old", "0", now_ms - 10**6), ("left", "1", now_ms - 10**6)]
    ):
        record = {"epoch": 3, "server": "before", "held": held, "settled": 7 + i, "snapshot": b"of before"}
        client.hset(f"statestream:session:{session_id}", mapping=record)
        client.zadd("statestream:used", {session_id: used_ms})
    client.set("statestream:server:before", 1, px=100_000)
    store = RedisStore(redis_server.url)
    found = store.read(["new", "old", "left"])
    assert [r and (r.epoch, r.server, r.held, r.snapshot) for r in found] == [
        (3, "before", held, b"of before") for held in (False, False, True)
    ]
    assert store.expire(100, 100) == 1, "the one that is old, and that no living server holds"
    assert [r and r.expired_s is not None for r in store.read(["new", "old", "left"])] == [False, True, False]
    assert store.save("before", [Save("new", 3, 9, True, b"of now")], None) == [7]
    assert store.claim("after", [Claim("new", 3, 4), Claim("left", 2, 3)]) == [True, False]
    store.close()


async def test_a_server_goes_on_with_a_store_of_the_version_before_labels(
    redis_server: RedisServer, clock: FakeClock
) -> None:
    client = redis.Redis(port=redis_server.port)
    now_ms = round(time.time() * 1000)
    for session_id, (seq, snapshot) in earlier_store.SESSIONS.items():
        record = {"epoch": 1, "server": "before", "held": 0, "used": now_ms, "settled": seq, "snapshot": snapshot}
        client.hset(f"statestream:session:{session_id}", mapping=record)
        client.zadd("statestream:used", {session_id: now_ms})
    await earlier_store.a_server_goes_on(RedisStore(redis_server.url), clock)


def test_a_label_counts_beside_the_snapshot_it_was_written_with(redis_server: RedisServer) -> None:
    """A server of the version before labels may write another owner's session between, and leaves the label."""
    store, label = RedisStore(redis_server.url), Label("ann", "leaky")
    store.save("a", [Save("s", 1, 1, False, b"of ann", label)], 10)
    assert [r and r.label for r in store.read(["s"])] == [label]
    redis.Redis(port=redis_server.port).hset("statestream:session:s", mapping={"epoch": 2, "snapshot": b"of ben"})
    assert [r and r.label for r in store.read(["s"])] == [None]
    store.close()


def test_an_order_of_last_use_that_is_behind_or_gone_is_put_right(redis_server: RedisServer) -> None:
    client = redis.Redis(port=redis_server.port)
    store = RedisStore(redis_server.url)
    store.save("a", [Save(i, 1, 0, False, b"x") for i in ("behind", "gone", "expired")], 10)
    client.zadd("statestream:used", {"behind": 1, "ended": 1})
    client.zrem("statestream:used", "gone")
    client.hset("statestream:session:expired", "expired", 1)
    client.zrem("statestream:used", "expired")
    assert store.expire(100, 100) == 0
    assert store.count() == 2
    assert set(client.zrange("statestream:used", 0, -1)) == {b"behind", b"gone"}
    score = client.zscore("statestream:used", "behind")
    assert score is not None
    assert abs(score - time.time() * 1000) < 100_000
    assert store.expire(-10, 100) == 2
    store.close()


def test_a_key_of_another_program_refuses_its_session_alone(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither what is saved with it, nor what expires, nor what is looked for with it, waits for it."""
    store = RedisStore(redis_server.url)
    store.save("a", [Save(f"s{i}", 1, i, False, b"x") for i in range(3)], 10)
    client = redis.Redis(port=redis_server.port)
    client.delete("statestream:session:s1")
    client.rpush("statestream:session:s1", "not ours")
    client.delete("statestream:looked", "statestream:used")
    assert [record is None for record in store.read(["s0", "s1", "s2"])] == [False, True, False]
    assert store.claim("b", [Claim(f"s{i}", int(i != 1), 2, 0, b"y") for i in range(3)]) == [True, False, True]
    assert store.save("b", [Save(f"s{i}", 2, 7, False, b"z") for i in range(3)], 10) == [0, FENCED, 0]
    store.end([("s0", 2), ("s1", 2)])
    assert store.expire(-1, 10) == 1
    assert client.lrange("statestream:session:s1", 0, -1) == [b"not ours"]
    assert "the key statestream:session:s1 of the store was written by another program" in caplog.text
    client.set("statestream:used", "not ours")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        store.save("b", [Save("s2", 3, 8, False, b"z")], 10)
    store.close()


def test_a_server_that_forgot_its_scripts_gets_them_again(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    store.save("a", [Save("s", 1, 1, True, b"one")], 10)
    redis.Redis(port=redis_server.port).script_flush()
    assert store.save("a", [Save("s", 1, 2, True, b"two")], None) == [1]
    store.close()


def test_a_redis_that_began_again_is_no_longer_trusted_to_have_everything(redis_server: RedisServer) -> None:
    """A client may reconnect unseen; the server's sessions must be saved again all the same."""
    store = RedisStore(redis_server.url)
    store.save("a", [Save("s", 1, 1, True, b"one")], 10)
    for primary in (("127.0.0.1", 1), ("NO", "ONE")):
        redis.Redis(port=redis_server.port).execute_command("REPLICAOF", *primary)
    with pytest.raises(StoreReplacedError, match="it may lack the last snapshots"):
        store.save("a", [], 10)
    assert store.save("a", [Save("s", 1, 2, True, b"two")], 10) == [1]
    store.close()


@pytest.mark.parametrize("kind", ["redis", "sqlite", "memory"])
def test_of_two_servers_that_were_granted_one_epoch_the_later_one_has_it(
    redis_server: RedisServer, tmp_path: Path, kind: str
) -> None:
    """The first grant was lost in a failover, and its server does not know."""
    stores: dict[str, Store] = {
        "redis": RedisStore(redis_server.url),
        "sqlite": SqliteStore(f"{tmp_path}/s.db"),
        "memory": MemoryStore(),
    }
    store = stores[kind]
    assert store.claim("later", [Claim("s", 0, 2, 0, sealed(b"x"))]) == [True]
    assert store.save("first", [Save("s", 2, 5, True, sealed(b"y"))], 10) == [FENCED]
    assert store.save("later", [Save("s", 2, 6, True, sealed(b"z"))], 10) == [0]
    for each in stores.values():
        each.close()
