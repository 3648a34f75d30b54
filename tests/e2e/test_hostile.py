"""Attackers at stated rates, each denied by the right status; a client that behaves sees nothing but APPLIED.

What it saw is checked when the attacks are over. (Its latency meanwhile is for a quiet machine: `make fuzz`.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from statestream.service.client import AsyncClient
from tests.hostile import attacks
from tests.hostile.arena import Arena, WellBehaved
from tests.support.bundles import write_leaky
from tests.support.transports import TRANSPORTS

pytestmark = pytest.mark.asyncio(loop_scope="module")
MORE_MEMORY_MB = 200
"""What all attacks together may leave the server with; the answers that nobody read alone were gigabytes."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def arena(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The server under attack over each transport; in the end it is sound, the client that behaves noticed nothing."""
    folder, repository = tmp_path_factory.mktemp("arena"), tmp_path_factory.mktemp("repository")
    write_leaky(repository)
    outside = tmp_path_factory.mktemp("outside")
    write_leaky(outside, name="linked")
    (repository / "linked").symlink_to(outside / "linked")
    arena = Arena(repository, folder, models="leaky", transport=request.param)
    before_mb = arena.rss_mb
    client = WellBehaved(arena, repository)
    yield arena
    report, grown_mb = client.report(), arena.rss_mb - before_mb
    assert arena.stop() == 0
    WellBehaved.check(report)
    assert not arena.faults()
    assert grown_mb < MORE_MEMORY_MB


async def test_tokens_that_are_missing_wrong_or_expired(arena: Arena) -> None:
    assert await attacks.bad_tokens(arena, per_s=200, rounds=1) > 50


async def test_anothers_session(arena: Arena) -> None:
    async with AsyncClient(arena.target, access=arena.access("arm")) as client, client.stream() as stream:
        session = await stream.open("leaky", "arms")
        await session.step(np.ones(2, np.float32))
        snapshot = await client.admin.snapshot_session("arms")
        before = await arena.session("arms")
        assert await attacks.anothers_session(arena, "arms", snapshot, per_s=100) > 15
        assert await arena.session("arms") == before, "the session is as it was"
        assert (await session.step(np.ones(2, np.float32))).verdict.name == "APPLIED"


async def test_names_that_lead_out_of_the_repository(arena: Arena) -> None:
    await attacks.paths(arena, per_s=50)


async def test_messages_too_large_packed_endless_or_none_at_all(arena: Arena) -> None:
    await attacks.malformed(arena, per_s=10, times=9)


async def test_streams_that_say_nothing(arena: Arena) -> None:
    await attacks.half_open_streams(arena, per_s=500, streams=2000)


async def test_connections_that_say_nothing(arena: Arena) -> None:
    await attacks.half_open_connections(arena, connections=300)


async def test_clients_that_do_not_read(arena: Arena) -> None:
    await attacks.slow_readers(arena, streams=2)
