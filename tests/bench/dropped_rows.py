"""What missing rows cost a served vibration model with timestamps, and without: into docs/results.md.

`python -m tests.bench.dropped_rows [--write]`

Each fold of the preset `borealtc` is taken from `build/results`, or trained, and exported; a server has it, and each
test recording is a session.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.experiments.experiments import EXPERIMENTS, Job, jobs
from statestream.models.export.exporter import export
from statestream.models.spec import Array
from statestream.models.training.dataset import load_dataset
from statestream.models.training.runs import Run, RunError, load_checkpoint
from statestream.models.training.splits import split_dataset
from statestream.models.training.tasks import scores
from statestream.models.training.trainer import train
from statestream.service.client import AsyncClient, AsyncStream
from statestream.service.config import ServerConfig
from statestream.service.server.server import Server
from tests.bench.pages import show

EXPERIMENT = "borealtc.bank_cfc"
OUT = Path("build/dropped_rows")
DROPPED = 0.3
TOGETHER = 32
"""Recordings streamed at once."""
METRICS = ("recording_accuracy", "accuracy")
HEADER = ["streamed", "timestamps", "recordings right", "rows right"]


@dataclass(frozen=True)
class Case:
    """A way to stream the test recordings."""

    streamed: str
    dropped: float
    timed: bool


CASES = (
    Case("all rows", 0.0, timed=True),
    Case(f"{DROPPED:.0%} dropped", DROPPED, timed=True),
    Case(f"{DROPPED:.0%} dropped", DROPPED, timed=False),
)


def main() -> None:
    """Score every fold in every case."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dropped_rows", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/results.md")
    options = parser.parse_args()
    experiment = next(each for each in EXPERIMENTS if each.name == EXPERIMENT)
    found = []
    for job in jobs(experiment):
        found.append(scored(_trained(job, Path("build/results/runs")), OUT / job.name))
        print(job.name, *("  ".join(f"{case[metric]:.4f}" for metric in METRICS) for case in found[-1]), sep="  ")
    table = rows(found)
    show("results.md", "dropped-rows", HEADER, table, write=options.write)


def scored(run: Run, repository: Path) -> list[dict[str, float]]:
    """Scores of the run's test recordings, streamed to a server, in each case."""
    bundle = export(run, repository, overwrite=True, version=1)
    config = run.config
    test = split_dataset(load_dataset(config), config.split, classes=True).test
    played = [[dropped(r, case.dropped, seed) for seed, r in enumerate(test)] for case in CASES]
    outputs = asyncio.run(_outputs(repository, bundle.manifest.name, played))
    return [scores(run.network, y, rs, at_end=False) for y, rs in zip(outputs, played, strict=True)]


def dropped(recording: Recording, part: float, seed: int) -> Recording:
    """The recording without a random part of its rows; the first row stays."""
    kept = np.random.default_rng(seed).random(len(recording)) >= part
    kept[0] = True
    return recording.where(kept)


def rows(found: Sequence[Sequence[dict[str, float]]]) -> list[list[str]]:
    """A line of the table for each case, from its scores in each fold."""
    table = []
    for case, folds in zip(CASES, zip(*found, strict=True), strict=True):
        cells = (_percent([fold[metric] for fold in folds]) for metric in METRICS)
        table.append([case.streamed, "yes" if case.timed else "no", *cells])
    return table


def _percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f} % ± {100 * np.std(values):.2f}"


def _trained(job: Job, runs: Path) -> Run:
    """The run that `make results` has kept, or one trained now."""
    try:
        run = load_checkpoint(runs / job.name)
    except RunError:
        run = None
    if run is not None and run.config == job.config:
        return run
    return train(job.config, runs, overwrite=True, progress=False)


async def _outputs(repository: Path, model: str, played: Sequence[Sequence[Recording]]) -> list[list[Array]]:
    """What a server answers to the recordings of each case."""
    server = Server(ServerConfig(repository=repository, address="127.0.0.1:0"))
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
            return [await _streamed(stream, model, rs, case) for rs, case in zip(played, CASES, strict=True)]
    finally:
        await server.stop()


async def _streamed(stream: AsyncStream, model: str, recordings: Sequence[Recording], case: Case) -> list[Array]:
    outputs: list[Array] = []
    for part in _parts(recordings):
        outputs += await asyncio.gather(*(_session(stream, model, r, timed=case.timed) for r in part))
    return outputs


def _parts(recordings: Sequence[Recording]) -> Iterator[Sequence[Recording]]:
    for start in range(0, len(recordings), TOGETHER):
        yield recordings[start : start + TOGETHER]


async def _session(stream: AsyncStream, model: str, recording: Recording, *, timed: bool) -> Array:
    """`[T, K]` outputs of a recording."""
    session = await stream.open(model)
    result = await session.chunk(recording.features, recording.t_ns if timed else None)
    await session.close(end_session=True)
    assert len(result.row) == len(recording), result.details
    return result.y


if __name__ == "__main__":
    main()
