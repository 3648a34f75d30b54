"""Public calls with every keyword they have: what was callable stays callable, and a new keyword is listed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Any

import pytest

from statestream.service.client import Access, AsyncClient, AsyncStream, Client, Policy, Stream
from statestream.service.client.sync import LoopThread
from tests.support.fake_service import start_fake

CONNECT: dict[str, Any] = {
    "access": Access(),
    "metadata": (("x-robot", "arm"),),
    "timeout_s": 5.0,
    "route_key": "arm",
    "reconnect": False,
    "give_up_after_s": 1.0,
    "options": (("grpc.max_receive_message_length", 1 << 20),),
}
STREAM: dict[str, Any] = {"route_key": "other", "on_notice": lambda _: None}
OPEN: dict[str, Any] = {
    "version": 1,
    "resume": "new",
    "take_over": True,
    "outputs": ["y"],
    "policy": Policy(keep_last=8),
    "ring_rows": 100,
    "on_full": "lose",
    "on_lost": "restart",
    "on_loss": lambda first, last: None,
}


@pytest.fixture
def target() -> Iterator[str]:
    loop = LoopThread()
    _, server, target = loop.run(start_fake())
    yield target
    loop.run(server.stop(0))
    loop.stop()


@pytest.mark.parametrize(
    ("call", "positional", "keywords"),
    [
        (Client, ["target"], CONNECT),
        (AsyncClient, ["target"], CONNECT),
        (Client.stream, ["self"], STREAM),
        (AsyncClient.stream, ["self"], STREAM),
        (Stream.open, ["self", "model", "session_id"], OPEN),
        (AsyncStream.open, ["self", "model", "session_id"], OPEN),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_the_calls_below_give_every_keyword(
    call: Callable[..., Any], positional: list[str], keywords: dict[str, Any]
) -> None:
    given = signature(call).parameters
    assert [name for name, each in given.items() if each.kind is Parameter.POSITIONAL_OR_KEYWORD] == positional
    assert [name for name, each in given.items() if each.kind is Parameter.KEYWORD_ONLY] == list(keywords)


def test_the_blocking_client_takes_every_keyword(target: str) -> None:
    with Client(target=target, **CONNECT) as client, client.stream(**STREAM) as stream:
        session = stream.open(model="leaky", session_id="wrist", **OPEN)
        assert session.step(x=[1, 1], timestamp_ns=10**9).seq == 1
        assert session.send(x=[1, 1], timestamp_ns=2 * 10**9) == 2
        assert len(session.chunk(x=[[1, 1]], timestamp_ns=[3 * 10**9])) == 1
        assert len(session.skip(rows=2)) == 2
        assert session.latest(max_age_s=10.0) is not None
        session.on_stale(max_age_s=10.0, callback=lambda _: None)
        assert len(stream.group(sessions=[session]).step(x=[[1, 1]], timestamp_ns=[4 * 10**9])) == 1
        assert len(stream.burst(sessions=[session], x=[[1, 1]], timestamp_ns=[5 * 10**9])) == 1
        session.close(end_session=True)


async def test_the_asynchronous_client_takes_every_keyword(target: str) -> None:
    async with AsyncClient(target=target, **CONNECT) as client, client.stream(**STREAM) as stream:
        session = await stream.open(model="leaky", session_id="wrist", **OPEN)
        assert (await session.step(x=[1, 1], timestamp_ns=10**9)).seq == 1
        assert await session.send(x=[1, 1], timestamp_ns=2 * 10**9) == 2
        assert len(await session.chunk(x=[[1, 1]], timestamp_ns=[3 * 10**9])) == 1
        assert len(await session.skip(rows=2)) == 2
        assert session.latest(max_age_s=10.0) is not None
        session.on_stale(max_age_s=10.0, callback=lambda _: None)
        assert len(await stream.group(sessions=[session]).step(x=[[1, 1]], timestamp_ns=[4 * 10**9])) == 1
        assert len(await stream.burst(sessions=[session], x=[[1, 1]], timestamp_ns=[5 * 10**9])) == 1
        await session.close(end_session=True)
