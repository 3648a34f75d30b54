"""`statestream demo`: a server, its clients and its live page, from nothing but the package."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from statestream.service.cli.console import out
from statestream.service.cli.interrupts import stopping

if TYPE_CHECKING:
    from statestream.models.data.recordings import Recording
    from statestream.service.client import AsyncSession
    from statestream.service.server.server import Server

_ADDRESS = "127.0.0.1:50051"
_PAUSE_NS = 1_000_000_000
"""Between the end of a recording and its repetition."""


@dataclass
class Drive:
    """A rover's recording, and how far its session is."""

    name: str
    recording: Recording
    floors: Sequence[str]
    row: int = 0
    said: int = 0
    rows: int = 0
    right: int = 0

    def hear(self, row: int, said: int) -> None:
        """Count the answer to a row."""
        self.row, self.said = row, said
        self.rows += 1
        self.right += said == self.true

    @property
    def true(self) -> int:
        assert self.recording.target is not None
        return int(self.recording.target[self.row])


def demo(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="How long to run.", min=0.0, show_default="until Ctrl-C")
    ] = None,
) -> None:
    """Serve a small model, stream four recordings to it in real time, and open the live page.

    The model (a liquid network of 32 neurons) and the recordings (rovers on four floors, simulated) come with
    statestream. It needs the extra `cpu`, and `http` for the page.

    [bold]Examples[/]

      statestream demo

      statestream demo --no-browser --seconds 10
    """
    asyncio.run(_run(seconds, opens=not no_browser))


async def _run(seconds: float | None, *, opens: bool) -> None:
    from statestream.models.demo import MODEL
    from statestream.service.client import AsyncClient

    server, drives = await _serve(), _drives()
    address = f"127.0.0.1:{server.port}"
    try:
        with stopping() as stop:
            async with AsyncClient(address) as client, client.stream() as stream:
                sessions = [await stream.open(MODEL, drive.name) for drive in drives]
                _introduce(server, address)
                if opens and server.http_port:
                    await asyncio.to_thread(_open, _page(server, drives[0].name))
                plays = [asyncio.ensure_future(_play(*pair)) for pair in zip(sessions, drives, strict=True)]
                await _follow(plays, stop, seconds, drives)
    finally:
        await server.stop()
    rows, right = sum(drive.rows for drive in drives), sum(drive.right for drive in drives)
    out.print(f"\n{rows:,} rows, {right / max(rows, 1):.1%} of them right", highlight=False)


async def _serve() -> Server:
    """Start the server in this process, with none of the environment's settings but the page's address."""
    from statestream.models.demo import REPOSITORY
    from statestream.service.cli.default_page import with_default_page
    from statestream.service.config import ServerConfig
    from statestream.service.server.server import Server

    address = _ADDRESS if _is_free(_ADDRESS) else "127.0.0.1:0"
    settings = ServerConfig(
        repository=REPOSITORY, address=address, admin_address="", models=(), providers=("cpu",), workers=1,
        store="memory", clients=None, tls_cert=None, tls_key=None, tls_client_ca=None, record=None,
        metrics_address="", drain_s=1.0,
    )  # fmt: skip
    settings, page_ports = with_default_page(settings, None)
    server = Server(settings, page_ports=page_ports)
    await server.start()
    return server


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, int(port)))
        except OSError:
            return False
    return True


def _drives() -> list[Drive]:
    from statestream.models.bundle import read_manifest
    from statestream.models.data.recordings import Columns
    from statestream.models.demo import MODEL, RECORDINGS, REPOSITORY, TARGET
    from statestream.service.playback.dataset import read

    manifest = read_manifest(REPOSITORY / MODEL / "1")
    dataset = read(RECORDINGS, Columns(target=(TARGET,)), manifest)
    return [Drive(f"rover-{k}", each, manifest.outputs[0].labels) for k, each in enumerate(dataset.recordings, 1)]


def _introduce(server: Server, address: str) -> None:
    """Say where everything is, and what to try meanwhile."""
    from statestream.models.demo import MODEL, RECORDINGS, TARGET

    target = "" if address == _ADDRESS else f" --target {address}"
    page = _page(server) if server.http_port else "pip install 'statestream[http]' adds it"
    lines = [
        f"serving {MODEL} at {address}; four simulated rovers stream to it; Ctrl-C ends it",
        f"live page   {page}",
        "try, in another terminal:",
        f"  statestream top{target}",
        f"  statestream sessions show rover-1{target}",
        f"  statestream stream {RECORDINGS} --model {MODEL} --target-column {TARGET}{target}",
        "train your own: pip install 'statestream[train]', then statestream init YOUR_RECORDINGS",
    ]
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _page(server: Server, session: str = "") -> str:
    return f"http://127.0.0.1:{server.http_port}/" + (f"#session={session}" if session else "")


def _open(page: str) -> None:
    """Open a page in a browser with windows; one for terminals would take this one."""
    if sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        webbrowser.open(page)


async def _play(session: AsyncSession, drive: Drive) -> None:
    """Stream a recording in real time in one session, again and again."""
    t_ns = drive.recording.t_ns - drive.recording.t_ns[0]
    begin_s = time.monotonic()
    for lap in itertools.count():
        offset_ns = lap * (int(t_ns[-1]) + _PAUSE_NS)
        for row, x in enumerate(drive.recording.features):
            due_ns = offset_ns + int(t_ns[row])
            await asyncio.sleep(max(0.0, begin_s + due_ns * 1e-9 - time.monotonic()))
            result = await session.step(x, timestamp_ns=due_ns)
            drive.hear(row, int(result.y.argmax()))


async def _follow(
    plays: Sequence[asyncio.Future[None]], stop: asyncio.Event, seconds: float | None, drives: Sequence[Drive]
) -> None:
    """Show the drives until `stop`, or for `seconds`; raises the error of a drive."""
    ends: asyncio.Future[Any] = asyncio.ensure_future(asyncio.wait_for(stop.wait(), seconds))
    tasks = [ends, *plays]
    try:
        with Live(console=out, refresh_per_second=8) as live:
            while not ends.done():
                done, _ = await asyncio.wait(tasks, timeout=0.125, return_when=asyncio.FIRST_COMPLETED)
                for play in done - {ends}:
                    play.result()
                live.update(_table(drives))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _table(drives: Sequence[Drive]) -> Table:
    table = Table("session", "drives on", "network says", "right so far", box=None, pad_edge=False)
    for drive in drives:
        colour = "green" if drive.said == drive.true else "red"
        said = f"[{colour}]{drive.floors[drive.said]}[/]" if drive.rows else "…"
        table.add_row(drive.name, drive.floors[drive.true], said, f"{drive.right / max(drive.rows, 1):4.0%}")
    return table
