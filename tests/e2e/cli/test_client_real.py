"""The client against the real server: what it believes of credit, acknowledgements and resumption is so."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from statestream.service.client import AsyncClient, AsyncSession, Verdict
from statestream.service.errors import AlreadyExists, FailedPrecondition, Unavailable
from statestream.service.server.server import Server
from tests.conftest import leak


@pytest.fixture
def target(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def rollout(x: np.ndarray, t_ns: np.ndarray) -> np.ndarray:
    h, ys = np.full(2, 0.5, np.float32), []
    for row, dt_s in zip(x, np.diff(t_ns, prepend=t_ns[0] - 10**8) * 1e-9, strict=True):
        h = leak(h, row, max(dt_s, 0.001))
        ys.append(2 * h)
    return np.stack(ys)


def recording(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, 2)).astype(np.float32), np.cumsum(random.integers(10**6, 10**8, rows))


async def test_steps_chunks_and_bursts_together(target: str) -> None:
    async with AsyncClient(target) as client, client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(12)]
        data = [recording(400, seed) for seed in range(12)]
        group = stream.group(sessions[8:])
        stepped, chunked, burst = await asyncio.gather(
            asyncio.gather(*(_step(s, *d) for s, d in zip(sessions[:4], data[:4], strict=True))),
            asyncio.gather(*(s.chunk(*d) for s, d in zip(sessions[4:8], data[4:8], strict=True))),
            _burst(group, data[8:]),
        )
    ys = [*stepped, *(result.y for result in chunked), *burst]
    for y, (x, t_ns) in zip(ys, data, strict=True):
        np.testing.assert_allclose(y, rollout(x, t_ns), atol=1e-5)


async def _step(session: AsyncSession, x: np.ndarray, t_ns: np.ndarray) -> np.ndarray:
    return np.stack([(await session.step(row, t)).y for row, t in zip(x, t_ns.tolist(), strict=True)])


async def _burst(group, data):  # type: ignore[no-untyped-def]
    ys = [
        (await group.step(np.stack([x[k] for x, _ in data]), [t[k] for _, t in data])).y for k in range(len(data[0][0]))
    ]
    return np.stack(ys, axis=1)


async def test_credit_and_acknowledgements_avoid_busy(start) -> None:  # type: ignore[no-untyped-def]
    server = await start(credit_rows=16, max_unacked=24, credit_bytes=4096)
    x, t_ns = recording(3000, 1)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky")
        result = await session.chunk(x, t_ns)
        assert result.counts() == {Verdict.APPLIED: 3000}
        np.testing.assert_allclose(result.y, rollout(x, t_ns), atol=1e-5)
        assert not session.record.retry._attempt, "nothing was refused"


async def test_a_resumed_session_hears_what_it_had_not_acknowledged(target: str) -> None:
    x, t_ns = recording(20, 2)
    async with AsyncClient(target) as client:
        async with client.stream() as stream:
            session = await stream.open("leaky", "wrist")
            for row, t in zip(x[:10], t_ns[:10].tolist(), strict=True):
                await session.send(row, t)
            with pytest.raises(AlreadyExists, match="wrist"):
                await stream.open("leaky", "wrist")
        async with client.stream() as stream:
            session = await stream.open("leaky", "wrist", resume="existing")
            results = session.results()
            early = [(await results.__anext__()) for _ in range(10)]
            assert [r.seq for r in early] == list(range(1, 11))
            late = await session.chunk(x[10:], t_ns[10:])
            np.testing.assert_allclose([*(r.y for r in early), *late.y], rollout(x, t_ns), atol=1e-5)
            await results.aclose()


async def test_a_takeover_fences_the_old_owner(target: str) -> None:
    async with AsyncClient(target) as client, client.stream(on_notice=lambda _: None) as old, client.stream() as new:
        mine = await old.open("leaky", "wrist")
        await mine.step([1, 1])
        theirs = await new.open("leaky", "wrist", take_over=True)
        assert theirs.epoch == mine.epoch + 1
        await asyncio.sleep(0.05)
        with pytest.raises(FailedPrecondition, match="FENCED"):
            await mine.step([1, 1])
        assert (await theirs.step([1, 1])).seq == 2


async def test_a_drain_is_unavailable_and_says_when_to_try_again(server: Server, target: str) -> None:
    async with (
        AsyncClient(target, reconnect=False) as client,
        client.stream(on_notice=lambda _: None) as stream,
    ):
        session = await stream.open("leaky")
        await session.step([1, 1])
        await client.admin.drain()
        await server.drained.wait()
        with pytest.raises(Unavailable, match="draining") as raised:
            await session.step([1, 1])
        assert raised.value.retry_after_s == 1.0
