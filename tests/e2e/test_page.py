"""The page in a real browser: it loads, moves, comes back, and shows what ids and tokens are: text and secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.server import free_port
from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from statestream.service.client import AsyncClient
from tests.support.browser import MISSING, tab
from tests.support.hosts import be_wired
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

WITHIN_MS = 60_000
EVIL = "<img src=x onerror=document.title='owned'>"
HEAT = "figure[data-key=state_h] canvas"
PIXELS = "canvas => canvas.toDataURL()"


@asynccontextmanager
async def stepping(port: int, session_id: str) -> AsyncIterator[None]:
    """A client that steps a session all the while, whatever becomes of its server."""

    async def step() -> None:
        async with AsyncClient(f"127.0.0.1:{port}") as client, client.stream() as stream:
            session = await stream.open("leaky", session_id=session_id)
            for k in range(1_000_000):
                await session.step(np.array([np.sin(k / 5), np.cos(k / 7)], np.float32))
                await asyncio.sleep(0.02)

    client = asyncio.create_task(step())
    yield
    client.cancel()
    with suppress(asyncio.CancelledError):
        await client


async def moves(page: Any, canvas: str) -> None:
    """Wait until a canvas has shown three different things."""

    async def look() -> None:
        seen: set[str] = set()
        while len(seen) < 3:
            seen.add(await page.eval_on_selector(canvas, PIXELS))
            await asyncio.sleep(0.05)

    await asyncio.wait_for(look(), WITHIN_MS / 1000)


def watched(page: Any) -> list[str]:
    """What goes wrong in a page, as it happens."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    return wrong


async def test_a_session_is_seen_to_think_also_after_a_restart(repository: Path, tmp_path: Path) -> None:
    http = free_port()
    server = ServerProcess(
        repository, "--http", f"127.0.0.1:{http}", "--store", f"sqlite:{tmp_path / 's.db'}", "--store-tick", "0.1"
    )
    try:
        await server.start()
        async with tab() as page, stepping(server.port, "left"):
            wrong = watched(page)
            await page.goto(f"http://127.0.0.1:{http}/")
            await page.get_by_role("link", name="left").click(timeout=WITHIN_MS)
            await page.wait_for_selector(HEAT, timeout=WITHIN_MS)
            for canvas in (HEAT, "figure[data-key=x] canvas", "figure[data-key=y] canvas"):
                await moves(page, canvas)
            assert wrong == []

            await server.end()
            await page.wait_for_selector("#status.away", timeout=WITHIN_MS)
            await server.start()
            await page.wait_for_selector("#status:not(.away)", timeout=WITHIN_MS)
            await page.wait_for_selector("#session-status:not(.away)", state="attached", timeout=WITHIN_MS)
            await moves(page, HEAT)
            assert not [text for text in wrong if "Failed to load resource" not in text]
    finally:
        await server.end()


async def test_an_id_is_text_and_the_keyboard_is_enough_on_a_phone(start: Callable[..., Any]) -> None:
    server = await start(http_address="127.0.0.1:0")
    be_wired(server.host.versions.find("leaky"))
    async with (
        tab(viewport={"width": 360, "height": 700}, color_scheme="dark") as page,
        AsyncClient(f"127.0.0.1:{server.port}") as client,
        client.stream() as stream,
    ):
        wrong = watched(page)
        session = await stream.open("leaky", session_id=EVIL)
        await session.step(np.ones(2, np.float32))
        await page.goto(f"http://127.0.0.1:{server.http_port}/")
        await page.get_by_label("Session id").focus(timeout=WITHIN_MS)
        await page.keyboard.type(EVIL)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("figure[data-key=state_h]", timeout=WITHIN_MS)
        await page.wait_for_selector("#sessions a", timeout=WITHIN_MS)
        assert await page.inner_text("#session-title") == await page.inner_text("#sessions a") == EVIL
        assert await page.evaluate("document.activeElement.id") == "session-title"
        assert await page.title() == f"{EVIL} – statestream"
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, "nothing is wider than the phone"
        await page.click("#models summary")
        await page.wait_for_function("() => document.querySelector('#models img').naturalWidth > 0", timeout=WITHIN_MS)
        await page.focus("#session-title")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.get_attribute("#pause", "aria-pressed") == "true"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#session", state="hidden", timeout=WITHIN_MS)
        assert wrong == []


async def test_a_token_is_asked_for_where_the_server_wants_one(start: Callable[..., Any], tmp_path: Path) -> None:
    clients, token = Clients().with_token("spectator", roles=frozenset({Role.READ}))
    clients.write(tmp_path / "clients.json")
    server = await start(http_address="127.0.0.1:0", clients=tmp_path / "clients.json")
    async with tab() as page:
        await page.goto(f"http://127.0.0.1:{server.http_port}/")
        await page.get_by_label("Token").fill(token, timeout=WITHIN_MS)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#models article", timeout=WITHIN_MS)
        await page.wait_for_selector("#login", state="hidden", timeout=WITHIN_MS)
        assert await page.inner_text("#status") == "connected"
