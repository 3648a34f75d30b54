"""Debian's Chromium, driven by playwright, for the tests and pictures of the page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

CHROMIUM = shutil.which("chromium")
MISSING = "" if CHROMIUM and find_spec("playwright") else "needs chromium (apt) and playwright (pip)"
"""Why there is no browser here; empty where there is one."""
START_MS = 60_000


@asynccontextmanager
async def tab(**options: Any) -> AsyncIterator[Any]:
    """An empty page of a browser of its own; `options` are playwright's, such as `viewport` and `color_scheme`."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Containers run as root and have a small /dev/shm; what is loaded comes from this machine alone.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=START_MS
        )
        try:
            yield await browser.new_page(**options)
        finally:
            await browser.close()
