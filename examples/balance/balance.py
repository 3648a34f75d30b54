"""`make balance`: networks learn from an expert to balance a double pendulum, and do so through the service.

They see positions alone, a hundred times a second at best: packets come early and late, and up to half of them not at
all. Networks that are told how much time has passed are compared with one that is not, and with the expert.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from examples import command
from examples.balance.packets import BAD, POOR, STEADY, Link
from examples.balance.plant import PHYSICS_S, Plant, expert
from examples.balance.record import record
from examples.server import server
from statestream.models.config import load_config
from statestream.models.export import export
from statestream.models.files import replacing, write_json
from statestream.models.training import train
from statestream.service.client import AsyncClient, AsyncSession

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build"
FOLDER = BUILD / "balance"
RECORDINGS = 120
SEEDS = range(1_000, 1_020)
SECONDS = 10.0
_STEPS = round(SECONDS / PHYSICS_S)
LINKS = {"steady": STEADY, "poor": POOR, "bad": BAD}
MODELS = {
    "cfc": ['cell={kind = "cfc", units = 64, backbone_layers = 0}'],
    "ltc": ['cell={kind = "ltc", wiring = {kind = "auto_ncp", units = 48, outputs = 16}}'],
    "s5": ['cell={kind = "s5", units = 48, pairs = 32}'],
    "gru": ['cell={kind = "gru", units = 48}'],
    "gru-blind": ['cell={kind = "gru", units = 48, time = "none"}'],
}
"""All but the last are told the time that has passed."""

console = Console()


class Run(NamedTuple):
    """How one attempt went."""

    stood_s: float

    @property
    def stood(self) -> bool:
        return self.stood_s >= SECONDS - PHYSICS_S / 2


def main() -> None:
    """Record, train, export, serve, balance, and say how it went."""
    recordings()
    for name, overrides in MODELS.items():
        learn(name, overrides)
    with server(FOLDER / "repository") as address:
        runs = {name: asyncio.run(attempts(address, name)) for name in track(MODELS, "balancing through the service")}
    runs["expert"] = {link: [by_expert(LINKS[link], seed) for seed in SEEDS] for link in LINKS}
    report(runs)


def recordings() -> None:
    """The expert's, in `build/balance/recordings`."""
    folder = FOLDER / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(RECORDINGS), "recording the expert"):
        if not (folder / f"{number}.csv").exists():
            with replacing(folder / f"{number}.csv") as temporary:
                record(temporary, number)


def learn(name: str, overrides: list[str]) -> None:
    """Train a model, and export it."""
    console.print(f"training {name}")
    common = [f"name={name}", f"data.path={FOLDER / 'recordings'}"]
    run = train(load_config(HERE / "balance.toml", [*common, *overrides]), FOLDER / "runs", overwrite=True)
    export(run, FOLDER / "repository", name, 1, overwrite=True)


async def attempts(address: str, model: str) -> dict[str, list[Run]]:
    """Every attempt of a model, side by side, each in a session of its own, on both links."""
    async with AsyncClient(address) as client, client.stream() as stream:
        runs = {}
        for name, link in LINKS.items():
            sessions = [await stream.open(model) for _ in SEEDS]
            tasks = (by_model(link, seed, session) for seed, session in zip(SEEDS, sessions, strict=True))
            runs[name] = list(await asyncio.gather(*tasks))
        return runs


async def by_model(link: Link, seed: int, session: AsyncSession) -> Run:
    """One attempt through the service; a force acts only once the time is over that the server took for it."""
    random = np.random.default_rng(seed)
    plant, force = Plant(random), 0.0
    for due in link.steps(SECONDS, random):
        if not stand(plant, due, force):
            break
        result = await session.step(plant.positions.astype(np.float32), round(plant.time_s * 1e9))
        took_s = result.queue_s + result.compute_s
        stand(plant, due + math.ceil(took_s / PHYSICS_S), force)
        force = float(result.y[0])
    stand(plant, _STEPS, force)
    return Run(plant.time_s)


def by_expert(link: Link, seed: int) -> Run:
    """One attempt of the expert, which sees the whole state, at the same packets and at once."""
    random = np.random.default_rng(seed)
    plant, force = Plant(random), 0.0
    for due in link.steps(SECONDS, random):
        if not stand(plant, due, force):
            break
        force = expert(plant)
    stand(plant, _STEPS, force)
    return Run(plant.time_s)


def stand(plant: Plant, until: int, force: float) -> bool:
    """Let time pass until a step of the physics; False when the pendulum has fallen."""
    while plant.steps < until and not plant.fallen:
        plant.step(force)
    return not plant.fallen


def report(runs: dict[str, dict[str, list[Run]]]) -> None:
    """The figures, as a table and in `build/balance.json`."""
    facts = {
        f"{name}.{link}": {
            "stood": sum(run.stood for run in of_link),
            "of": len(of_link),
            "mean_s": float(np.mean([run.stood_s for run in of_link])),
        }
        for name, of_model in runs.items()
        for link, of_link in of_model.items()
    }
    table = Table("", *(f"{link}: {describe(LINKS[link])}" for link in LINKS), box=None, title="stood for 10 s")
    for name in runs:
        cells = (facts[f"{name}.{link}"] for link in LINKS)
        table.add_row(name, *(f"{cell['stood']} of {cell['of']}, mean {cell['mean_s']:.1f} s" for cell in cells))
    console.print(table)
    write_json(BUILD / "balance.json", facts)


def describe(link: Link) -> str:
    """In words."""
    if link == STEADY:
        return "a packet every 10 ms"
    return f"± {link.jitter_s * 1e3:.0f} ms, {link.dropped:.0%} dropped"


if __name__ == "__main__":
    command.run(main)
