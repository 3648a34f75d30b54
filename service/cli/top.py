"""`statestream top`: live view of a server's models and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, out, print_json
from statestream.service.errors import Unavailable

if TYPE_CHECKING:
    from statestream.service.client import AsyncClient
    from statestream.service.client.admin import Overview

_AROUND = 9
"""Lines of the view that are neither models nor sessions."""
_EXPECTED = "APPLIED"


@reaching
def top(
    server: Server,
    period: Annotated[float, typer.Option(help="Seconds between updates.", min=0.1, max=60)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Show models and sessions of a server live: rates, latency, verdicts, batches, waiting rows. Ctrl-C ends it.

    When the output is not a terminal, it prints the figures of one period and ends.

    [bold]Examples[/]

      statestream top

      statestream top --period 0.5 --target robot:50051

      statestream top --json
    """
    live = out.is_terminal and not as_json
    asyncio.run(_follow(server, period) if live else _print(server, period, as_json=as_json))


async def _print(server: Server, period_s: float, *, as_json: bool) -> None:
    from statestream.service.client import AsyncClient

    async with AsyncClient(server.target, access=server.access) as client:
        first, overview = None, None  # Rates cover the time since a first overview.
        async for overview in client.admin.watch(period_s=period_s):
            if first is not None:
                break
            first = overview
    if overview is None:
        raise Unavailable("the server is draining")
    if as_json:
        sessions = [asdict(info) | {"rows_per_s": rate} for info, rate in overview.sessions]
        print_json(asdict(overview) | {"sessions": sessions})
    else:
        out.print(view(server.target, overview, len(overview.sessions)))


async def _follow(server: Server, period_s: float) -> None:
    """Update the view until interrupted; reconnects when the server goes away."""
    from statestream.service.client import AsyncClient

    async with AsyncClient(server.target, access=server.access) as client:
        await client.list_models()  # At the start an unreachable server is an error.
        with Live(console=out, screen=True, auto_refresh=False) as live:
            async for shown in _views(client, server.target, period_s):
                live.update(shown, refresh=True)


async def _views(client: AsyncClient, target: str, period_s: float) -> AsyncIterator[RenderableType]:
    while True:
        try:
            async for overview in client.admin.watch(period_s=period_s):
                yield _fitting(target, overview)
            gone = "the server is draining"
        except Unavailable as error:
            gone = str(error)
        yield Text(f"{gone}; trying again", style="bold red")
        await asyncio.sleep(period_s)


def _fitting(target: str, overview: Overview) -> RenderableType:
    return view(target, overview, max(1, out.height - _AROUND - len(overview.models)))


def view(target: str, overview: Overview, most: int) -> RenderableType:
    """Render an overview as tables with the `most` busiest sessions, in order of id."""
    busiest = sorted(overview.sessions, key=lambda pair: pair[1], reverse=True)[:most]
    shown = sorted(busiest, key=lambda pair: pair[0].session_id)
    models = Table(
        "model", "role", "sessions", "rows/s", "waiting", "batch", "queue p50, p99", "turn p50, p99", "verdicts",
        box=None,
    )  # fmt: skip
    for m in overview.models:
        models.add_row(
            f"{m.name}:{m.version}",
            m.role,
            str(m.sessions),
            f"{m.rows_per_s:,.0f}",
            str(m.waiting_rows),
            _text_of(m.mean_batch, "{:.1f}".format),
            f"{_text_of(m.queue_p50_s, _ms)}, {_text_of(m.queue_p99_s, _ms)}",
            f"{_text_of(m.compute_p50_s, _ms)}, {_text_of(m.compute_p99_s, _ms)}",
            _verdicts(m.verdicts) + Text(f" failed turns {m.failed_turns}" if m.failed_turns else "", style="bold red"),
        )
    sessions = Table("session", "model", "rows/s", "latency", "settled", "stream", "verdicts", box=None)
    for info, rows_per_s in shown:
        sessions.add_row(
            Text(info.session_id),
            f"{info.model}:{info.version}",
            f"{rows_per_s:,.0f}",
            _text_of(info.latency_s, lambda s: f"{s * 1e3:.2f} ms"),
            f"{info.settled_seq:,}",
            "yes" if info.attached else f"idle {info.idle_s:.0f} s",
            _verdicts(info.verdicts),
        )
    left = overview.total - len(shown)
    total = f"{overview.total} sessions" + (f", {left} of them not shown" if left else "")
    return Group(Text(f"{target}   {total}", style="bold"), "", models, "", sessions)


def _verdicts(verdicts: dict[str, int]) -> Text:
    """Render counts by verdict; verdicts other than APPLIED are in colour."""
    parts = [Text(f"{name} {n:,}", style="" if name == _EXPECTED else "yellow") for name, n in verdicts.items()]
    return Text(" ").join(parts)


def _text_of(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)


def _ms(seconds: float) -> str:
    """Render a histogram's upper bound in milliseconds."""
    return f"≤ {seconds * 1e3:g} ms" if seconds < float("inf") else "> 1 s"
