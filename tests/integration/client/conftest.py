"""The fake server and a client of it, on one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from statestream.service.client import AsyncClient
from tests.support.fake_service import FakeServicer, start_fake


@pytest.fixture
async def connected() -> AsyncIterator[tuple[FakeServicer, AsyncClient]]:
    servicer, server, target = await start_fake()
    async with AsyncClient(target) as client:
        yield servicer, client
    await server.stop(0)
