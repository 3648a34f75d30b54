"""A page that is open: what a browser asks a server for while somebody looks at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp


@asynccontextmanager
async def watched(url: str, *, least_rows: float) -> AsyncIterator[None]:
    """A page that shows the first session there is, for as long as this lasts; it must see so many rows of it."""
    async with aiohttp.ClientSession(url) as http:
        overview, session = asyncio.ensure_future(_overview(http)), asyncio.ensure_future(_session(http))
        yield
        rows = await asyncio.wait_for(session, 60)  # it ends with the load's sessions
        assert rows > least_rows, f"the page saw {rows} rows only"
        overview.cancel()
        with suppress(asyncio.CancelledError):
            await overview


async def _overview(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/overview") as response:
        async for _ in response.content:
            pass


async def _session(http: aiohttp.ClientSession) -> int:
    """Rows seen until the session ended."""
    sessions: list[dict[str, str]] = []
    while not sessions:
        async with http.get("/api/overview") as response:
            sessions = json.loads(await response.content.readline())["sessions"]
    async with http.get("/api/session", params={"id": sessions[0]["id"]}) as response:
        return sum([json.loads(line)["kind"] == "row" async for line in response.content])
