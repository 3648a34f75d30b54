"""Triton's load generator, unmodified, streams sequences; `make bench-triton` measures with it."""

from __future__ import annotations

import asyncio

import pytest

from statestream.service.server.server import Server
from tests.bench.triton import CONCURRENCY, analyze, missing

REQUESTS = 200
STREAMING = ("--streaming",)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.usefixtures("transport"),
]


@pytest.mark.parametrize(("concurrency", "flags"), [*((c, ()) for c in CONCURRENCY), (16, STREAMING)])
async def test_perf_analyzer_streams_sequences_without_an_error(
    concurrency: int, flags: tuple[str, ...], server: Server
) -> None:
    target = f"127.0.0.1:{server.port}"
    found = await asyncio.to_thread(analyze, target, "leaky", 2, concurrency, REQUESTS, *flags)
    assert found.errors == 0
    assert found.steps >= 3 * REQUESTS
    assert found.steps_s > 0
