"""Streams the recordings of `make demo` by several clients at once, perhaps through the death of their server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.server import KillableServer
from statestream.models.data.recordings import Recording
from statestream.service.client import AsyncClient
from statestream.service.playback.play import Played, play

CLIENTS = 5


@dataclass
class Client:
    """One of the clients, and what it is playing."""

    name: str
    recordings: Sequence[Recording]
    played: list[Played] = field(default_factory=list)

    def follow(self, played: Played) -> None:
        """Note progress with a recording, perhaps a new one."""
        if not self.played or self.played[-1] is not played:
            self.played.append(played)

    async def run(self, address: str, model: str, speed: float) -> None:
        """Play the recordings one after the other, by a connection of its own."""
        async with AsyncClient(address) as connection, connection.stream() as stream:
            for recording in self.recordings:
                await play(stream, model, 1, recording, speed, self.follow)


async def stream(
    server: KillableServer,
    model: str,
    recordings: Sequence[Recording],
    classes: Sequence[str],
    *,
    speed: float,
    kill: bool,
    console: Console,
) -> list[Played]:
    """Play recordings, and show each client's work meanwhile.

    Args:
        speed: times real time.
        kill: kill the server in the middle with SIGKILL, and start it again.
    """
    clients = [Client(f"client {k + 1}", recordings[k::CLIENTS]) for k in range(CLIENTS)]
    half = sum(map(len, recordings)) // 2
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        playing = asyncio.gather(*(client.run(server.address, model, speed) for client in clients))
        while not playing.done():
            await asyncio.wait([playing], timeout=0.125)
            live.update(_table(clients, classes))
            if kill and _done(clients) >= half:
                kill = False
                server.kill()
                console.print("  [bold red]kill -9[/] of the server, in the middle; and it is started again")
                await asyncio.to_thread(server.start)
    await playing
    return [played for client in clients for played in client.played]


def _done(clients: Sequence[Client]) -> int:
    return sum(played.done for client in clients for played in client.played)


def _table(clients: Sequence[Client], classes: Sequence[str]) -> Table:
    """What each client is doing right now."""
    shown = Table("client", "recording", "person", "does", "network says", "so far", "done", box=None, pad_edge=False)
    for client in clients:
        if not client.played:
            continue
        now = client.played[-1]
        recording, row = now.recording, max(0, now.done - 1)
        true = classes[int(recording.target[row])]
        said = classes[int(now.output[row].argmax())]
        right = sum(_right_so_far(played) for played in client.played)
        shown.add_row(
            client.name,
            recording.id,
            str(recording.group),
            true,
            f"[{'green' if said == true else 'red'}]{said}[/]",
            f"{right}/{len(client.played)}",
            f"{now.done / len(recording):4.0%}",
        )
    return shown


def _right_so_far(played: Played) -> bool:
    """Whether the likeliest exercise of the whole recording, as far as it was played, is the true one."""
    rows = played.output[: played.done]
    return bool(len(rows) and rows.sum(axis=0).argmax() == int(played.recording.target[0]))
