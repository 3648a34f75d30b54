"""`make screenshot`: docs/dashboard.png, the page of `statestream demo`."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

from statestream.models.files import replacing
from tests.support.browser import tab
from tests.support.server_process import COMMAND

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/dashboard.png"
FULL_S = 31.0
"""The plots show half a minute."""


def main() -> None:
    taken = asyncio.run(_take())
    with replacing(PICTURE) as temporary:
        temporary.write_bytes(taken)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KiB")


async def _take() -> bytes:
    demo = await asyncio.create_subprocess_exec(
        *COMMAND, "demo", "--no-browser", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        address = await asyncio.wait_for(_page(demo), 60)
        async with tab(viewport={"width": 1200, "height": 900}, color_scheme="light") as page:
            await page.goto(f"{address}#session=rover-1")
            await page.wait_for_selector("figure[data-key=aux_tau]", timeout=60_000)
            await asyncio.sleep(FULL_S)
            return bytes(await page.screenshot(full_page=True))
    finally:
        demo.send_signal(signal.SIGINT)
        await demo.communicate()


async def _page(demo: asyncio.subprocess.Process) -> str:
    """Address of the page, which the demo prints."""
    assert demo.stdout is not None
    while line := await demo.stdout.readline():
        if found := re.search(r"live page +(http://\S+)", line.decode()):
            return found[1]
    raise RuntimeError("the demo ended before it had a page; it needs the extra `http`")


if __name__ == "__main__":
    main()
