"""`make screenshot`: docs/dashboard.png, the page while the demo's network listens to people it was not trained on."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from examples.server import free_port
from statestream.models.config import load_config
from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export
from statestream.models.files import replacing
from statestream.models.training.dataset import load_dataset
from statestream.models.training.splits import split_dataset
from statestream.service.client import AsyncClient, AsyncStream
from tests.support.browser import tab
from tests.support.server_process import ServerProcess

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/dashboard.png"
ARMS = ("left-arm", "right-arm", "wrist-3", "wrist-4", "wrist-5")
FULL_S = 31.0
"""The plots show half a minute."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshot")
    parser.add_argument("--run", type=Path, default=ROOT / "build/demo/wrist", help="what `make demo` trained")
    given = parser.parse_args()
    if not given.run.is_dir():
        parser.error(f"--run: there is no {given.run}; `make demo` trains it")
    config = load_config("wrist")
    dataset = load_dataset(config)
    with tempfile.TemporaryDirectory() as folder:
        export(given.run, Path(folder), "wrist", 1, dataset=dataset, aux_tau=True)
        taken = asyncio.run(_take(Path(folder), split_dataset(dataset, config.split, classes=True).test))
    with replacing(PICTURE) as temporary:
        temporary.write_bytes(taken)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KiB")


async def _take(repository: Path, recordings: Sequence[Recording]) -> bytes:
    http = free_port()
    server = ServerProcess(repository, "--http", f"127.0.0.1:{http}")
    try:
        await server.start()
        async with (
            tab(viewport={"width": 1200, "height": 900}, color_scheme="light") as page,
            AsyncClient(f"127.0.0.1:{server.port}") as client,
            client.stream() as stream,
        ):
            playing = [
                asyncio.create_task(_play(stream, name, recordings[k :: len(ARMS)])) for k, name in enumerate(ARMS)
            ]
            await page.goto(f"http://127.0.0.1:{http}/#session={ARMS[0]}")
            await page.wait_for_selector("figure[data-key=aux_tau]", timeout=60_000)
            await asyncio.sleep(FULL_S)
            taken: bytes = await page.screenshot(full_page=True)
            for task in playing:
                task.cancel()
            await asyncio.wait(playing)
            return taken
    finally:
        await server.end()


async def _play(stream: AsyncStream, name: str, recordings: Sequence[Recording]) -> None:
    """Recordings one after the other in one session, row by row as they were made, for ever."""
    session = await stream.open("wrist", session_id=name)
    period_s = session.manifest.time.nominal_s
    begin_s, row = time.monotonic(), 0
    while True:
        for recording in recordings:
            for x in recording.features:
                row += 1
                await asyncio.sleep(begin_s + row * period_s - time.monotonic())
                await session.step(x, timestamp_ns=round(row * period_s * 1e9))


if __name__ == "__main__":
    main()
