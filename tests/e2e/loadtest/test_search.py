"""The search for a server's capacity finds the one that was planted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from statestream.service.loadtest.capacity_search import search
from statestream.service.loadtest.coordinator import Outcome
from tests.e2e.loadtest.conftest import run


@pytest.mark.alone
async def test_search_finds_the_planted_capacity(stub: Callable[..., Awaitable[int]]) -> None:
    """275 rows a second are 5.5 streams of 50 Hz: 5 hold, with 6 the queue grows by 91 ms a second."""
    port = await stub(rows_per_s=275.0)

    async def try_streams(count: int) -> Outcome:
        return await run(port, streams=count, rate_hz=50.0, duration_s=1.6, drain_s=1.0)

    found = await search(try_streams, deadline_ms=100.0, start=3, on_probe=print)
    assert found.streams == 5
