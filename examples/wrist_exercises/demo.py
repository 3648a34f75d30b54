"""`make demo`: from recordings of a wrist to a live stateful stream, end to end.

Ten people wore a watch while doing seven physiotherapy exercises. A CfC network with an NCP wiring learns the exercises
from eight of them, is exported and served, and recognises what the other two do while their recordings are streamed to
the service, at ten times the speed at which they were made, by several clients at once.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples import command
from examples.server import server
from statestream.models.config import load_config
from statestream.models.data.recordings import Recording
from statestream.models.evaluation.baselines import baseline_accuracy
from statestream.models.export import export
from statestream.models.files import write_json
from statestream.models.training import train
from statestream.models.training.dataset import load_dataset
from statestream.models.training.splits import split_dataset
from statestream.service.client import AsyncClient
from statestream.service.playback.play import Played, play
from statestream.service.playback.score import Score, score

BUILD = Path(__file__).parents[2] / "build"
REPOSITORY = BUILD / "demo" / "repository"
CLIENTS = 4
SPEED = 10.0

console = Console()


@dataclass
class Client:
    """One of the clients, and what it is playing."""

    name: str
    recordings: Sequence[Recording]
    played: list[Played]


def main() -> None:
    """Train, export, serve, stream, and say how it went."""
    started = time.monotonic()
    say(1, "Training a CfC with an NCP wiring; persons 9 and 10 are held out")
    config = load_config("wrist")
    dataset = load_dataset(config)
    split = split_dataset(dataset, config.split, classes=True)
    run = train(config, BUILD / "demo", overwrite=True, dataset=dataset)
    baseline = baseline_accuracy(split.train, split.test, len(dataset.labels))

    say(2, "Exporting it: torch, step.onnx and chunk.onnx are compared on real recordings")
    bundle = export(run, REPOSITORY, "wrist", 1, overwrite=True, dataset=dataset)
    m = bundle.manifest
    console.print(f"  {m.ref} in {shown(bundle.path)}, {m.state_bytes} bytes of state a session")

    say(3, f"Serving it, and streaming {len(split.test)} recordings at {SPEED:.0f} × real time by {CLIENTS} clients")
    with server(REPOSITORY) as address:
        played = asyncio.run(stream(address, split.test, m.outputs[0].labels))
    result = score(played, m.outputs[0])
    seconds = time.monotonic() - started
    report(result, baseline, run.path, seconds)
    write(result, baseline, seconds)
    check(result, baseline)


def say(step: int, text: str) -> None:
    """A step's headline."""
    console.print(f"\n[bold cyan]{step}[/] [bold]{text}[/]")


async def stream(address: str, recordings: Sequence[Recording], classes: Sequence[str]) -> list[Played]:
    """Play the recordings, several at a time, and show each client's work while it goes on."""
    clients = [Client(f"client {i + 1}", recordings[i::CLIENTS], []) for i in range(CLIENTS)]
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        playing = asyncio.gather(*(run_client(address, client) for client in clients))
        while not playing.done():
            await asyncio.wait([playing], timeout=0.125)
            live.update(table(clients, classes))
    await playing
    return [played for client in clients for played in client.played]


async def run_client(address: str, client: Client) -> None:
    """One client: a connection of its own, its recordings one after the other."""
    async with AsyncClient(address) as connection, connection.stream() as stream:
        for recording in client.recordings:
            await play(stream, "wrist", 1, recording, SPEED, lambda played: follow(client, played))


def shown(path: Path) -> str:
    """A path as one would type it from the project's root."""
    return str(path.relative_to(BUILD.parent))


def follow(client: Client, played: Played) -> None:
    """A client got on with a recording, perhaps a new one."""
    if not client.played or client.played[-1] is not played:
        client.played.append(played)


def table(clients: Sequence[Client], classes: Sequence[str]) -> Table:
    """What each client is doing right now."""
    shown = Table("client", "recording", "person", "does", "network says", "so far", "done", box=None, pad_edge=False)
    for client in clients:
        if not client.played:
            continue
        now = client.played[-1]
        recording, row = now.recording, max(0, now.done - 1)
        true = classes[int(recording.target[row])]
        said = classes[int(now.output[row].argmax())]
        right = sum(right_so_far(played) for played in client.played)
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


def right_so_far(played: Played) -> bool:
    """Whether the likeliest exercise of the whole recording, as far as it was played, is the true one."""
    rows = played.output[: played.done]
    return bool(len(rows) and rows.sum(axis=0).argmax() == int(played.recording.target[0]))


def report(result: Score, baseline: float, run: Path, seconds: float) -> None:
    """The figures."""
    verdicts = ", ".join(f"{count:,} {name}" for name, count in result.verdicts.items())
    rows = Table.grid(padding=(0, 2))
    rows.add_row("recordings right", f"[bold]{result.accuracy:.3f}[/] (logistic regression {baseline:.3f})")
    rows.add_row("rows right", f"{result.row_accuracy:.3f}")
    rows.add_row("latency", f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms, from when each row was due")
    rows.add_row("steps", f"{result.rows:,}: {verdicts}")
    rows.add_row("plots", ", ".join(shown(plot) for plot in sorted(run.glob("*.png"))))
    rows.add_row("all in all", f"{seconds:.0f} s; figures in {shown(BUILD / 'demo.json')}")
    console.print()
    console.print(rows)


def write(result: Score, baseline: float, seconds: float) -> None:
    """`build/demo.json`, whole or not at all."""
    facts = {
        "accuracy": result.accuracy,
        "baseline_accuracy": baseline,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "steps": result.rows,
        "seconds": seconds,
    }
    write_json(BUILD / "demo.json", facts)


def check(result: Score, baseline: float) -> None:
    """A demo that shows a network worse than a simple baseline has failed."""
    allowed = baseline - 1 / result.recordings - 1e-9
    if result.accuracy is None or result.accuracy < allowed:
        sys.exit(f"the network's {result.accuracy} is more than one recording below the baseline's {baseline:.3f}")


if __name__ == "__main__":
    command.run(main)
