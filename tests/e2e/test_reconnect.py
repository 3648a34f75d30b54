"""A client whose network and server break: each row once, in order, as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.service.client import AsyncClient, AsyncSession, Fenced, Notice, NoticeKind, SessionLost, Verdict
from statestream.service.errors import Unavailable
from statestream.service.server.server import Server
from tests.conftest import leak
from tests.faults.proxy import Proxy
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio


def recording(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, timestamps, and the output that belongs to them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)).astype(np.float32)
    t_ns = 10**18 + np.cumsum(random.integers(10**7, 10**8, rows))
    h, ys = np.full(2, 0.5, np.float32), []
    for row, dt_s in zip(x, np.diff(t_ns, prepend=t_ns[0] - 10**8) * 1e-9, strict=True):
        h = leak(h, row, dt_s)
        ys.append(2 * h)
    return x, t_ns, np.stack(ys)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{proxy.port}") as client:
        yield client


async def sent_and_read(session: AsyncSession, x: np.ndarray, t_ns: np.ndarray, every_s: float) -> np.ndarray:
    """Send rows one by one and read their results meanwhile: each once, in order."""

    async def read() -> list[np.ndarray]:
        ys: list[np.ndarray] = []
        async for result in session.results():
            assert result.seq == len(ys) + 1
            ys.append(result.y)
            if len(ys) == len(x):
                break
        return ys

    reader = asyncio.create_task(read())
    for row, t in zip(x, t_ns.tolist(), strict=True):
        await session.send(row, t)
        await asyncio.sleep(every_s)
    return np.stack(await asyncio.wait_for(reader, 60))


async def meanwhile(acts: list[Callable[[], Any]], every_s: float) -> None:
    for act in acts:
        await asyncio.sleep(every_s)
        act()


async def test_cuts_stalls_and_refusals(proxy: Proxy, client: AsyncClient) -> None:
    def refuse() -> None:
        proxy.refusing = True
        proxy.cut()

    def accept() -> None:
        proxy.refusing = False

    acts = [proxy.cut, proxy.cut, proxy.stall, proxy.cut, proxy.go_on, refuse, accept, proxy.stall, proxy.go_on]
    data = [recording(600, seed) for seed in range(4)]
    async with client.stream() as one, client.stream() as two:
        alone = [await one.open("leaky", f"s{seed}") for seed in (0, 1)]
        together = [await two.open("leaky", f"s{seed}") for seed in (2, 3)]
        chunked = await two.open("leaky", "chunks")
        x, t_ns, expected = recording(5000, 9)

        async def chunks() -> list[np.ndarray]:
            parts = []
            for start in range(0, len(x), 100):
                parts.append((await chunked.chunk(x[start : start + 100], t_ns[start : start + 100])).y)
                await asyncio.sleep(0.02)
            return parts

        everyone = zip([*alone, *together], data, strict=True)
        *ys, parts, _ = await asyncio.gather(
            *(sent_and_read(session, x, t, 0.002) for session, (x, t, _) in everyone),
            chunks(),
            meanwhile(acts, 0.15),
        )
        assert one.reconnects >= 3
    for y, (_, _, expected_y) in zip(ys, data, strict=True):
        np.testing.assert_allclose(y, expected_y, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


async def test_bursts_go_on_after_cuts(proxy: Proxy, client: AsyncClient) -> None:
    data = [recording(200, seed) for seed in range(8)]
    async with client.stream() as stream:
        group = stream.group([await stream.open("leaky") for _ in data])
        cutting = asyncio.create_task(meanwhile([proxy.cut] * 5, 0.1))
        ys = []
        for k in range(200):
            rows, times = np.stack([x[k] for x, _, _ in data]), [int(t[k]) for _, t, _ in data]
            ys.append((await asyncio.wait_for(group.step(rows, times), 60)).y)
            await asyncio.sleep(0.003)
        await cutting
        assert stream.reconnects
    for place, (_, _, expected) in enumerate(data):
        np.testing.assert_allclose(np.stack(ys)[:, place], expected, atol=1e-5)


async def test_a_server_killed_again_and_again(repository: Path, tmp_path: Path) -> None:
    server = ServerProcess(repository, "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "0.2")
    await server.start()
    data = [recording(700, seed) for seed in range(6)]
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
            sessions = [await stream.open("leaky", f"s{seed}") for seed in range(6)]

            async def kill() -> None:
                for kills in range(1, 4):
                    await asyncio.sleep(0.5)
                    await server.end()
                    await server.start()
                    while stream.reconnects < kills:
                        await asyncio.sleep(0.01)

            everyone = zip(sessions, data, strict=True)
            *ys, _ = await asyncio.gather(*(sent_and_read(s, x, t, 0.005) for s, (x, t, _) in everyone), kill())
            assert stream.reconnects == 3
            assert all(session.epoch > 1 for session in sessions)
            assert all(session.settled_seq == 700 for session in sessions)
    finally:
        await server.end()
    for y, (_, _, expected) in zip(ys, data, strict=True):
        np.testing.assert_allclose(y, expected, atol=1e-5)


async def test_a_session_lost_with_its_server_ends_or_starts_anew(repository: Path) -> None:
    server = ServerProcess(repository)
    await server.start()
    notices: list[Notice] = []
    try:
        async with (
            AsyncClient(f"127.0.0.1:{server.port}") as client,
            client.stream(on_notice=notices.append) as stream,
        ):
            strict, easy = await stream.open("leaky", "strict"), await stream.open("leaky", "easy", on_lost="restart")
            for session in (strict, easy):
                await session.step([1, 1])
            await server.end()
            waiting = asyncio.ensure_future(strict.step([1, 1]))
            again = asyncio.ensure_future(easy.chunk([[1, 1], [2, 2]]))
            await asyncio.sleep(0)
            await server.start()
            with pytest.raises(SessionLost, match="no session 'strict'"):
                await waiting
            result = await again
            assert result.seq.tolist() == [2, 3]
            h = leak(np.full(2, 0.5, np.float32), np.ones(2, np.float32), 0.1)
            np.testing.assert_allclose(result.y[0], 2 * h, rtol=1e-6)
            assert (await easy.step([1, 1])).seq == 4
            assert [n.kind for n in notices if n.session_id == "easy"] == [NoticeKind.RESET]
    finally:
        await server.end()


async def test_whoever_was_fenced_stays_so(proxy: Proxy, client: AsyncClient, server: Server) -> None:
    async with (
        AsyncClient(f"127.0.0.1:{server.port}") as other,
        client.stream(on_notice=lambda _: None) as mine,
        other.stream(on_notice=lambda _: None) as theirs,
    ):
        session, bystander = await mine.open("leaky", "wrist"), await mine.open("leaky", "ankle")
        await session.step([1, 1])
        taken = await theirs.open("leaky", "wrist", take_over=True)
        await taken.step([1, 1])
        proxy.cut()
        assert (await bystander.step([1, 1])).verdict is Verdict.APPLIED
        with pytest.raises(Fenced, match="wrist"):
            await session.step([1, 1])
        assert (await taken.step([1, 1])).seq == 3


async def test_a_session_taken_while_there_was_no_connection_is_fenced(
    proxy: Proxy, client: AsyncClient, server: Server
) -> None:
    async with (
        AsyncClient(f"127.0.0.1:{server.port}") as other,
        client.stream(on_notice=lambda _: None) as mine,
        other.stream(on_notice=lambda _: None) as theirs,
    ):
        session = await mine.open("leaky", "wrist")
        await session.step([1, 1])
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(0.05)
        await (await theirs.open("leaky", "wrist", take_over=True)).step([1, 1])
        proxy.refusing = False
        with pytest.raises(Fenced, match="while this one had no connection"):
            await session.step([1, 1])


async def test_patience_has_an_end(proxy: Proxy) -> None:
    async with (
        AsyncClient(f"127.0.0.1:{proxy.port}", give_up_after_s=0.3) as client,
        client.stream() as stream,
    ):
        session = await stream.open("leaky")
        await session.step([1, 1])
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(Unavailable, match=r"gave up .* after 0\.3 s"):
            await session.step([1, 1])


async def test_a_full_ring_blocks_or_loses_what_it_says(repository: Path, tmp_path: Path) -> None:
    server = ServerProcess(repository, "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "60")
    await server.start()
    lost: list[tuple[int, int]] = []
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
            blocks = await stream.open("leaky", "blocks", ring_rows=20)
            loses = await stream.open(
                "leaky", "loses", ring_rows=20, on_full="lose", on_loss=lambda first, last: lost.append((first, last))
            )
            x, t_ns, expected = recording(50, 3)
            np.testing.assert_allclose((await loses.chunk(x, t_ns)).y, expected, atol=1e-5)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(blocks.chunk(x, t_ns), 0.3)
            await server.end()
            await server.start()
            after = await loses.step(x[0], int(t_ns[-1]) + 10**8)
            assert after.seq == 51
            (first, last) = lost[0]
            assert first == 1
            assert last in (30, 31), "whether row 51 came before the server was back"
            h = np.full(2, 0.5, np.float32)
            rows = [*x[last:], x[0]]
            times = [*t_ns[last:].tolist(), int(t_ns[-1]) + 10**8]
            for row, dt_s in zip(rows, np.diff(times, prepend=times[0] - 10**8) * 1e-9, strict=True):
                h = leak(h, row, dt_s)
            np.testing.assert_allclose(after.y, 2 * h, atol=1e-5)
    finally:
        await server.end()


async def test_an_opening_that_is_cancelled_at_any_moment_leaves_no_session(start: Callable[..., Any]) -> None:
    server = await start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        for attempt in range(300):
            opening = asyncio.create_task(stream.open("leaky"))
            for _ in range(attempt % 60):
                await asyncio.sleep(0)
            await asyncio.sleep(0.002 * (attempt % 7) / 7)
            opening.cancel()
            (outcome,) = await asyncio.gather(opening, return_exceptions=True)
            if not isinstance(outcome, BaseException):
                await outcome.close(end_session=True)
        for _ in range(200):
            if not len(server.host.session_manager.registry):
                break
            await asyncio.sleep(0.02)
        assert len(server.host.session_manager.registry) == 0
