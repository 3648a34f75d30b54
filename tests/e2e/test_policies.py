"""Policies over the wire: what was told is what the state went through, whatever was dropped or withheld."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.server.server import Server
from tests.conftest import leak
from tests.support.wire_client import WireStream, outputs, steps, wire_stream

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("transport")]

ROWS = 60
KEEP_2 = pb.Policy(keep=pb.KEEP_LAST, keep_last=2)
DROP = pb.Policy(keep=pb.KEEP_DEADLINE)
SUPPRESS = pb.Policy(keep=pb.KEEP_DEADLINE, late=pb.LATE_SUPPRESS)


async def results_of(stream: WireStream, rows: int) -> tuple[list[int], dict[int, np.ndarray]]:
    """Verdicts in order of seq, and outputs by seq."""
    verdicts: dict[int, int] = {}
    ys: dict[int, np.ndarray] = {}
    while len(verdicts) < rows:
        response = await stream.receive()
        told = dict(zip(response.results.seq, response.results.verdict, strict=True))
        assert not verdicts.keys() & told.keys(), "a seq is settled once"
        with_output = [seq for seq, verdict in told.items() if verdict == pb.VERDICT_APPLIED]
        if with_output:
            ys |= dict(zip(with_output, outputs(response), strict=True))
        verdicts |= told
    assert list(verdicts) == list(range(1, rows + 1))
    return list(verdicts.values()), ys


@pytest.mark.parametrize(
    ("policy", "budget_us", "expected"),
    [
        (KEEP_2, None, {pb.VERDICT_APPLIED, pb.VERDICT_STALE}),
        (DROP, 5_000, {pb.VERDICT_APPLIED, pb.VERDICT_STALE}),
        (SUPPRESS, 5_000, {pb.VERDICT_APPLIED, pb.VERDICT_SUPPRESSED}),
    ],
)
async def test_the_state_is_a_rollout_over_just_the_rows_told_applied_or_suppressed(
    start: Callable[..., Any],
    slow: Callable[[Server], None],
    policy: pb.Policy,
    budget_us: int | None,
    expected: set[int],
) -> None:
    server = await start()
    slow(server)
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s", policy=policy)
        for k in range(ROWS):
            budgets = [] if budget_us is None else [budget_us]
            await stream.send(steps([1], [k + 1], x[k], [k * 10**8], budget_us=budgets))
        verdicts, ys = await results_of(stream, ROWS)
    assert set(verdicts) == expected
    assert verdicts[-1] == pb.VERDICT_APPLIED or budget_us, "the newest row is never crowded out"
    h, last = np.full(2, 0.5, np.float32), None
    for k, verdict in enumerate(verdicts):
        if verdict not in (pb.VERDICT_APPLIED, pb.VERDICT_SUPPRESSED):
            continue
        h = leak(h, x[k], 0.1 if last is None else (k - last) * 0.1)
        last = k
        assert (k + 1 in ys) == (verdict == pb.VERDICT_APPLIED)
        if verdict == pb.VERDICT_APPLIED:
            np.testing.assert_allclose(ys[k + 1], 2 * h, rtol=1e-4, atol=1e-5)
    table = server.host.versions.find("leaky").table
    np.testing.assert_allclose(table.state("s")["h"], h, rtol=1e-4, atol=1e-5)
    counted = table.info("s").verdicts
    assert counted == {
        name.removeprefix("VERDICT_"): verdicts.count(number)
        for name, number in pb.Verdict.items()
        if number in verdicts
    }


async def test_replayed_rows_are_neither_dropped_nor_late(
    start: Callable[..., Any], slow: Callable[[Server], None]
) -> None:
    server = await start()
    slow(server)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s", policy=pb.Policy(keep=pb.KEEP_LAST, keep_last=1))
        for k in range(1, 21):
            await stream.send(steps([1], [k], flags=[pb.ROW_FLAG_REPLAY]))
        verdicts, _ = await results_of(stream, 20)
    assert set(verdicts) == {pb.VERDICT_APPLIED}


async def test_a_gap_starts_anew_where_the_session_wishes_so(server: Server) -> None:
    async with wire_stream(server.port) as stream:
        await stream.open(1, "clamps")
        await stream.open(2, "resets", policy=pb.Policy(gap=pb.TIME_GAP_RESET))
        t_ns = [0, 10**8, 10**12, 10**12 + 10]
        told: dict[tuple[int, int], tuple[float, int]] = {}
        ys: dict[tuple[int, int], np.ndarray] = {}
        await stream.send(steps([1] * 4 + [2] * 4, [1, 2, 3, 4] * 2, t_ns=t_ns * 2))
        while len(told) < 8:
            response = await stream.receive()
            r = response.results
            keys = list(zip(r.channel, r.seq, strict=True))
            told |= dict(zip(keys, zip(r.dt_s, r.flags or [0] * len(keys), strict=True), strict=True))
            ys |= dict(zip(keys, outputs(response), strict=True))
    assert told[1, 3] == (pytest.approx(10.0), pb.RESULT_FLAG_TIME_CLAMPED)
    assert told[2, 3] == (pytest.approx(0.1), pb.RESULT_FLAG_RESET)
    assert told[1, 4] == told[2, 4] == (pytest.approx(0.001), pb.RESULT_FLAG_TIME_RAISED)
    assert told[1, 2] == (pytest.approx(0.1), 0)
    first = 2 * leak(np.full(2, 0.5, np.float32), np.ones(2, np.float32), 0.1)
    np.testing.assert_allclose(ys[2, 3], first, rtol=1e-5)
    np.testing.assert_allclose(ys[2, 1], first, rtol=1e-5)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (pb.Policy(keep=pb.KEEP_LAST), ["open.policy.keep_last", "0"]),
        (pb.Policy(keep_last=3), ["open.policy.keep_last", "3"]),
        (pb.Policy(keep=7), ["open.policy.keep", "7"]),
        (pb.Policy(late=7), ["open.policy.late", "7"]),
        (pb.Policy(gap=7), ["open.policy.gap", "7"]),
    ],
)
async def test_a_policy_that_makes_no_sense_is_refused(server: Server, policy: Any, words: list[str]) -> None:
    async with wire_stream(server.port) as stream:
        failed = (await stream.open(1, "s", policy=policy)).failed[0]
        assert failed.code == 3
        for word in words:
            assert word in failed.field + " " + failed.text
