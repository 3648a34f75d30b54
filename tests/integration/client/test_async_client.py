"""The asynchronous client against the fake server, over loopback."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client import AsyncClient, AsyncSession, Notice, NoticeKind, Verdict
from statestream.service.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from tests.conftest import leak
from tests.support.fake_service import FakeServicer

Connected = tuple[FakeServicer, AsyncClient]


def rollout(x: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """What the leaky model makes of a recording `[rows, 2]`."""
    h, ys = np.full(2, 0.5, np.float32), []
    for row, dt in zip(x, dt_s, strict=True):
        h = leak(h, row, dt)
        ys.append(2 * h)
    return np.stack(ys)


def recording(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, timestamps, and the output that belongs to them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    t_ns = 10**18 + np.cumsum(rng.integers(10**7, 3 * 10**8, rows))
    return x, t_ns, rollout(x, np.diff(t_ns, prepend=t_ns[0] - 10**8) * 1e-9)


async def test_models(connected: Connected) -> None:
    _, client = connected
    (model,) = await client.list_models()
    assert (model.name, model.version, model.sessions) == ("leaky", 1, 3)
    assert (await client.get_model("leaky")).manifest.inputs[0].labels == ("a", "b")
    with pytest.raises(NotFound, match="name: no model 'other'"):
        await client.get_model("other")


async def test_steps_equal_the_rollout(connected: Connected) -> None:
    _, client = connected
    x, t_ns, expected = recording(50)
    async with client.stream() as stream, await stream.open("leaky", "wrist") as session:
        results = [await session.step(row, t) for row, t in zip(x, t_ns, strict=True)]
    np.testing.assert_allclose([r.y for r in results], expected, rtol=1e-5)
    assert [r.seq for r in results] == list(range(1, 51))
    assert {r.verdict for r in results} == {Verdict.APPLIED}
    assert results[1].dt_s == pytest.approx((t_ns[1] - t_ns[0]) * 1e-9)
    assert results[0].latency_s > 0


async def test_a_chunk_beyond_credit_equals_the_rollout(connected: Connected) -> None:
    fake, client = connected
    x, t_ns, expected = recording(1000)
    async with client.stream() as stream:
        session = await stream.open("leaky")
        result = await session.chunk(x, t_ns)
    np.testing.assert_allclose(result.y, expected, rtol=1e-5)
    np.testing.assert_array_equal(result.seq, np.arange(1, 1001))
    assert result.counts() == {Verdict.APPLIED: 1000}
    assert max(len(request.steps.seq) for request in fake.requests) <= fake.credit_rows


async def test_bursts_equal_each_session_alone(connected: Connected) -> None:
    fake, client = connected
    recordings = [recording(20, seed) for seed in range(8)]
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in recordings]
        group = stream.group(sessions[::-1])
        ys = []
        for k in range(20):
            rows = np.stack([x[k] for x, _, _ in recordings[::-1]])
            ys.append((await stream.burst(group, rows, [t[k] for _, t, _ in recordings[::-1]])).y)
    for place, (_, _, expected) in enumerate(recordings[::-1]):
        np.testing.assert_allclose(np.stack(ys)[:, place], expected, rtol=1e-5)
    assert sum(len(request.steps.seq) == 8 for request in fake.requests) == 20


async def test_bursts_in_flight_together_and_mixed_with_steps(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(3)]
        fake.answering.clear()
        x = np.ones((3, 2), np.float32)
        bursts = [asyncio.ensure_future(stream.burst(sessions, x)) for _ in range(3)]
        await asyncio.sleep(0.01)
        step = asyncio.ensure_future(sessions[1].step(x[0]))
        await asyncio.sleep(0.01)
        fake.answering.set()
        results = await asyncio.gather(*bursts)
    assert [r.seq.tolist() for r in results] == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert (await step).seq == 4
    assert fake.requests[-2].steps.channel == [1] or len(fake.requests[-2].steps.channel) > 3


async def test_what_is_queued_during_a_write_goes_together(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(40)]
        before = len(fake.requests)
        results = await asyncio.gather(*(session.step([1, 2]) for session in sessions))
        assert {r.batch for r in results} >= {39} or len(fake.requests) - before < 5


async def test_send_and_results(connected: Connected) -> None:
    _, client = connected
    x, t_ns, expected = recording(300)
    async with client.stream() as stream:
        session = await stream.open("leaky")

        async def read() -> list[np.ndarray]:
            return [result.y async for result in session.results()]

        reader = asyncio.create_task(read())
        seqs = [await session.send(row, t) for row, t in zip(x, t_ns, strict=True)]
        await session.close()
        np.testing.assert_allclose(await reader, expected, rtol=1e-5)
    assert seqs == list(range(1, 301))


async def test_unread_results_stop_the_sender(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky")
        with pytest.raises(ResourceExhausted, match=r"128 rows wait for a reader; iterate session.results\(\)"):
            await _send(session, 200)
        await asyncio.sleep(0.05)
        assert session.settled_seq == fake.max_unacked
        newest = session.latest()
        assert newest is not None
        assert newest.seq == fake.max_unacked
        await session.send([1, 1])


async def _send(session: AsyncSession, rows: int, every_s: float = 0.0) -> None:
    for _ in range(rows):
        await session.send([1, 1])
        if every_s:
            await asyncio.sleep(every_s)


async def test_latest_and_on_stale(connected: Connected) -> None:
    _, client = connected
    ages: list[float] = []
    async with client.stream() as stream:
        session = await stream.open("leaky")
        assert session.latest(10) is None
        session.on_stale(0.05, ages.append)
        result = await session.step([1, 1])
        latest = session.latest(10)
        assert latest is not None
        assert latest.seq == result.seq
        await asyncio.sleep(0.2)
        assert session.latest(0.05) is None
    assert len(ages) == 1
    assert ages[0] >= 0.05


async def test_acks_ride_along_and_flush_when_idle(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky", "wrist")
        await session.step([1, 1])
        await session.step([1, 1])
        assert (list(fake.requests[-1].acks.seq), list(fake.requests[-1].steps.seq)) == ([1], [2])
        await asyncio.sleep(0.2)
        assert fake.sessions["wrist"].acked_seq == 2
        await session.step([1, 1])
    assert fake.sessions["wrist"].acked_seq == 3


async def test_resume_delivers_what_was_not_acknowledged(connected: Connected) -> None:
    fake, client = connected
    x, t_ns, expected = recording(6)
    async with client.stream() as stream:
        session = await stream.open("leaky", "wrist")
        for row, t in zip(x[:4], t_ns[:4], strict=True):
            await session.send(row, t)
        assert (await _first(session.results())).seq == 1
    assert fake.sessions["wrist"].acked_seq == 1
    async with client.stream() as stream:
        session = await stream.open(session_id="wrist", resume="existing")
        assert session.resumed
        assert session.settled_seq == 4
        results = session.results()
        early = [await _first(results) for _ in range(3)]
        assert [r.seq for r in early] == [2, 3, 4]
        np.testing.assert_allclose([r.y for r in early], expected[1:4], rtol=1e-5)
        np.testing.assert_allclose((await session.chunk(x[4:], t_ns[4:])).y, expected[4:], rtol=1e-5)
        await results.aclose()
    assert fake.sessions["wrist"].acked_seq == 6


async def _first(results):  # type: ignore[no-untyped-def]
    return await results.__anext__()


@pytest.mark.parametrize("kind", ["busy", "lose"])
async def test_rejected_rows_are_sent_again(connected: Connected, kind: str) -> None:
    fake, client = connected
    x, t_ns, expected = recording(200)
    setattr(fake, kind, {1, 7, 8, 64, 65, 150, 200})
    async with client.stream() as stream:
        session = await stream.open("leaky")
        head, tail = await asyncio.gather(session.chunk(x[:100], t_ns[:100]), session.chunk(x[100:], t_ns[100:]))
    np.testing.assert_allclose(np.concatenate([head.y, tail.y]), expected, rtol=1e-5)


async def test_rejected_bursts_are_sent_again(connected: Connected) -> None:
    fake, client = connected
    fake.busy = {2}
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(4)]
        x = np.ones((4, 2), np.float32)
        first, second, third = await asyncio.gather(*(stream.burst(sessions, x) for _ in range(3)))
    assert second.counts() == {Verdict.APPLIED: 4}
    for y in (first.y, second.y, third.y):
        np.testing.assert_allclose(y, np.broadcast_to(y[0], y.shape))
    np.testing.assert_allclose(third.y[0], rollout(np.ones((3, 2), np.float32), np.full(3, 0.1))[2], rtol=1e-5)


async def test_credit_in_bytes_is_kept(connected: Connected) -> None:
    fake, client = connected
    fake.credit_bytes = 400
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(4)]
        x, t_ns, expected = recording(30)
        results = await asyncio.gather(*(session.chunk(x, t_ns) for session in sessions))
    for result in results:
        np.testing.assert_allclose(result.y, expected, rtol=1e-5)
    assert max(len(request.steps.seq) for request in fake.requests) <= 10


async def test_rows_that_can_never_be_sent_are_refused(connected: Connected) -> None:
    fake, client = connected
    fake.credit_bytes = 100
    async with client.stream() as stream:
        sessions = [await stream.open("leaky") for _ in range(4)]
        with pytest.raises(ResourceExhausted, match="4 rows are more than the 100 bytes"):
            await stream.burst(sessions, np.ones((4, 2)))
        fake.credit_bytes = 10
        session = await stream.open("leaky")
        with pytest.raises(ResourceExhausted, match="a row of 8 bytes is more than"):
            await session.step([1, 1])


async def test_a_session_lost_while_waiting_for_room(connected: Connected) -> None:
    fake, client = connected
    fake.credit_bytes = 120
    async with client.stream(on_notice=lambda _: None) as stream:
        lost, other = await stream.open("leaky", "wrist"), await stream.open("leaky")
        fake.answering.clear()
        waiting = [asyncio.ensure_future(lost.step([1, 1])) for _ in range(8)]
        burst = asyncio.ensure_future(stream.burst([lost, other], np.ones((2, 2))))
        await asyncio.sleep(0.02)
        fake.say(notices=[pb.Notice(kind=pb.NOTICE_KIND_FENCED, channel=lost.channel)])
        for outcome in await asyncio.wait_for(asyncio.gather(*waiting, burst, return_exceptions=True), 60):
            assert isinstance(outcome, FailedPrecondition)
        fake.answering.set()
        assert (await other.step([1, 1])).verdict is Verdict.APPLIED


async def test_skip_new_clock_and_invalid(connected: Connected) -> None:
    _, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky")
        await session.step([1, 1], 1_000_000_000)
        assert (await session.skip(2)).counts() == {Verdict.SKIPPED: 2}
        bad = await session.step([np.nan, 1], 2_000_000_000)
        assert (bad.verdict, bad.detail, bad.outputs) == (Verdict.INVALID, "invalid", {})
        with pytest.raises(InvalidArgument, match="invalid"):
            _ = bad.y
        session.new_clock()
        assert (await session.step([1, 1], 5)).dt_s == pytest.approx(0.1)
        assert (await session.step([1, 1], 500_000_005)).dt_s == pytest.approx(0.5)


async def test_bad_input_is_refused_before_it_is_sent(connected: Connected) -> None:
    _, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky")
        with pytest.raises(InvalidArgument, match=r"x: shape \[3\], expected \[2\] \(a, b\)"):
            await session.step([1, 2, 3])
        with pytest.raises(InvalidArgument, match=r"timestamp_ns: 0\.5, expected whole nanoseconds"):
            await session.step([1, 2], 0.5)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="timestamp_ns"):
            await session.chunk(np.ones((3, 2)), [1, 2])
        assert (await session.step([1, 2])).seq == 1


async def test_open_of_an_unknown_model(connected: Connected) -> None:
    _, client = connected
    async with client.stream() as stream:
        with pytest.raises(NotFound, match=r"open\.model: no model 'other'"):
            await stream.open("other")
        assert (await stream.open("leaky")).channel == 0


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (pb.NOTICE_KIND_FENCED, FailedPrecondition, "FENCED, another stream took 'wrist' over: by robot 2"),
        (pb.NOTICE_KIND_EVICTED, NotFound, "EVICTED, the server ended 'wrist': by robot 2"),
    ],
)
async def test_a_session_that_is_lost(
    connected: Connected, kind: pb.NoticeKind, error: type[Exception], text: str
) -> None:
    fake, client = connected
    notices: list[Notice] = []
    async with client.stream(on_notice=notices.append) as stream:
        lost, other = await stream.open("leaky", "wrist"), await stream.open("leaky")
        fake.answering.clear()
        waiting = asyncio.ensure_future(lost.step([1, 1]))
        burst = asyncio.ensure_future(stream.burst([lost, other], np.ones((2, 2))))
        await asyncio.sleep(0.02)
        fake.say(notices=[pb.Notice(kind=kind, channel=lost.channel, text="by robot 2")])
        with pytest.raises(error, match=text):
            await waiting
        with pytest.raises(error, match=text):
            await burst
        fake.answering.set()
        with pytest.raises(error, match=text):
            await lost.step([1, 1])
        assert (await other.step([1, 1])).verdict is Verdict.APPLIED
    assert notices == [Notice(NoticeKind(kind), "wrist", "by robot 2")]


async def test_without_reconnecting_drain_is_unavailable_after_the_results_are_in(connected: Connected) -> None:
    fake, client = connected
    async with (
        AsyncClient(client.target, reconnect=False) as fragile,
        fragile.stream(on_notice=lambda _: None) as stream,
    ):
        session = await stream.open("leaky")
        step = asyncio.ensure_future(session.step([1, 1]))
        await asyncio.sleep(0.02)
        fake.say(notices=[pb.Notice(kind=pb.NOTICE_KIND_DRAIN, text="goodbye")])
        fake.outgoing.put_nowait(Unavailable("the server is draining; resume elsewhere", retry_after_s=1.0))
        assert (await step).verdict is Verdict.APPLIED
        with pytest.raises(Unavailable, match="draining") as raised:
            await _send(session, 3, every_s=0.05)
        assert raised.value.retry_after_s == 1.0
        with pytest.raises(Unavailable):
            await stream.open("leaky")


async def test_closing_ends_or_keeps_the_session(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        one, two = await stream.open("leaky", "one"), await stream.open("leaky", "two")
        await one.send([1, 1])
        await one.close()
        assert fake.sessions["one"].settled_seq == 1
        await two.close(end_session=True)
        assert list(fake.sessions) == ["one"]
        with pytest.raises(FailedPrecondition, match="session 'one' is closed"):
            await one.step([1, 1])
        assert (await stream.open("leaky", "three")).channel in (0, 1)
    with pytest.raises(FailedPrecondition, match="closed"):
        await stream.open("leaky")


async def test_a_cancelled_step_harms_nothing(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky")
        fake.answering.clear()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.step([1, 1]), 0.01)
        fake.answering.set()
        assert (await session.step([1, 1])).seq == 2


async def test_no_server() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"cannot reach 127\.0\.0\.1:1: "):
            await client.list_models()
        async with client.stream() as stream:
            with pytest.raises(Unavailable, match="cannot reach"):
                await stream.open("leaky")


def test_a_client_of_another_event_loop_says_so_and_closes() -> None:
    async def made() -> AsyncClient:
        return AsyncClient("127.0.0.1:1")

    client = asyncio.run(made())
    for use in (client.list_models, client.serving, client.admin.drain):
        with pytest.raises(FailedPrecondition, match=r"the client of 127\.0\.0\.1:1 belongs to another event loop"):
            asyncio.run(use())
    asyncio.run(client.close())


async def test_a_client_cannot_be_pickled(connected: Connected) -> None:
    _, client = connected
    with pytest.raises(FailedPrecondition, match="AsyncClient is a connection of its process and cannot be pickled"):
        pickle.dumps(client)


async def test_a_stream_starts_with_its_first_session_and_close_ends_it(connected: Connected) -> None:
    fake, client = connected
    stream = client.stream()
    assert not fake.route_keys, "nothing was said yet"
    session = await stream.open("leaky", "wrist")
    await session.send([1, 1])
    assert (await anext(session.results())).seq == 1
    await stream.close()
    await stream.close()
    assert fake.sessions["wrist"].acked_seq == 1, "what was read is acknowledged"
    with pytest.raises(FailedPrecondition, match="closed"):
        await session.step([1, 1])
    with pytest.raises(FailedPrecondition, match="the stream is closed"):
        await stream.open("leaky")
    with pytest.raises(FailedPrecondition, match="the stream is closed"):
        await stream.__aenter__()


async def test_close_of_a_client_closes_its_streams_and_what_follows_says_so(connected: Connected) -> None:
    fake, client = connected
    another = AsyncClient(client.target)
    stream = another.stream()
    session = await stream.open("leaky", "wrist")
    await session.send([1, 1])
    assert (await anext(session.results())).seq == 1
    await another.close()
    await another.close()
    assert fake.sessions["wrist"].acked_seq == 1, "what was read is acknowledged"
    for use in (another.list_models, another.serving, another.admin.drain):
        with pytest.raises(FailedPrecondition, match=r"the client of .* is closed"):
            await use()
    with pytest.raises(FailedPrecondition, match=r"the client of .* is closed"):
        another.stream()
    with pytest.raises(FailedPrecondition, match="the stream is closed"):
        await stream.open("leaky")
    with pytest.raises(FailedPrecondition, match="closed"):
        await session.step([1, 1])
