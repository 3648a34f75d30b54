"""`make demo`: from recordings of a wrist to a live stream that survives what streams meet, end to end.

Ten people wore a watch while doing seven physiotherapy exercises. A CfC network with an NCP wiring learns the exercises
from eight of them, is exported and served, and recognises what the other two do while their recordings are streamed to
the service by several clients at once. In the middle the server is killed with `kill -9` and started again; then half
of the rows are dropped. At the end: what was lost, what changed, and how a network that is not told the time does, and
logistic regression.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from examples import command
from examples.server import KillableServer
from examples.wrist_exercises.networks import Scores, baseline_scores, halved, learn, learned_scores
from examples.wrist_exercises.streaming import CLIENTS, stream
from statestream.models.bundle import Bundle
from statestream.models.config import load_config
from statestream.models.export import export
from statestream.models.files import write_json
from statestream.models.metrics import deviation
from statestream.models.spec import TimeSpec
from statestream.models.training.dataset import load_dataset
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import load_checkpoint
from statestream.models.training.splits import Split, split_dataset
from statestream.service.client import Verdict
from statestream.service.embedded import Embedded
from statestream.service.playback.play import Played
from statestream.service.playback.score import Score, score

BUILD = Path(__file__).parents[2] / "build"
REPOSITORY = BUILD / "demo" / "repository"
SPEED, SPEED_OF_HALF = 10.0, 20.0
MODEL = "wrist"

console = Console()


@dataclass(frozen=True)
class Streamed:
    """What was streamed: all rows, through the death of the server, and half of them."""

    all_rows: list[Played]
    half: list[Played]


@dataclass(frozen=True)
class Figures:
    """What `build/demo.json` has."""

    accuracy: float
    accuracy_half: float
    baseline_accuracy: float
    baseline_accuracy_half: float
    untold_accuracy: float
    untold_accuracy_half: float
    rows_lost: int
    worst_deviation: float
    """Largest difference of a streamed output from the bundle's without a server, in its standard deviations."""
    torch_deviation: float
    """The same from PyTorch's, for 99.9 % of the outputs: the network amplifies rounding in a few places."""
    p50_ms: float
    p99_ms: float
    steps: int
    seconds: float


def main() -> None:
    """Train, export, serve, stream, and say how it went."""
    started = time.monotonic()
    config = load_config(MODEL)
    dataset = load_dataset(config)
    split = split_dataset(dataset, config.split, classes=True)
    say(1, "Training a CfC with an NCP wiring, and one that is not told the time; persons 9 and 10 are held out")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        beside = pool.submit(learned_scores, config, dataset, BUILD / "demo", told=False)
        run = learn(config, dataset, BUILD / "demo", told=True)
        baseline = baseline_scores(split.train, split.test, len(dataset.labels))

        say(2, "Exporting it: torch, step.onnx and chunk.onnx are compared on real recordings")
        bundle = export(run, REPOSITORY, MODEL, 1, overwrite=True, dataset=dataset)
        untold = beside.result()
    m = bundle.manifest
    console.print(f"  {m.ref} in {shown(bundle.path)}, {m.state_bytes} bytes of state a session")

    streamed = asyncio.run(serve_and_stream(split, bundle))
    result = {name: score(played, m.outputs[0]) for name, played in vars(streamed).items()}
    figures = Figures(
        **accuracies(result, baseline, untold),
        rows_lost=lost(streamed.all_rows) + lost(streamed.half),
        **deviations(run, bundle, [*streamed.all_rows, *streamed.half]),
        p50_ms=result["half"].p50_ms,
        p99_ms=result["half"].p99_ms,
        steps=sum(each.rows for each in result.values()),
        seconds=time.monotonic() - started,
    )
    report(figures, result, run)
    write_json(BUILD / "demo.json", asdict(figures))
    check(figures, m.tolerance, len(split.test))


def say(step: int, text: str) -> None:
    """A step's headline."""
    console.print(f"\n[bold cyan]{step}[/] [bold]{text}[/]")


def shown(path: Path) -> str:
    """A path as one would type it from the project's root."""
    return str(path.relative_to(BUILD.parent))


async def serve_and_stream(split: Split, bundle: Bundle) -> Streamed:
    """Serve the model with a store, and stream the test recordings twice."""
    classes = bundle.manifest.outputs[0].labels
    with tempfile.TemporaryDirectory() as folder:
        server = KillableServer(REPOSITORY, "--store", f"sqlite:{folder}/sessions.db")
        try:
            server.start()
            recordings = f"{len(split.test)} recordings"
            say(3, f"Streaming {recordings} at {SPEED:.0f} × real time by {CLIENTS} clients, through a kill -9")
            all_rows = await stream(server, MODEL, split.test, classes, speed=SPEED, kill=True, console=console)
            say(4, "And once more, of which half of the rows never arrive")
            half = await stream(
                server, MODEL, halved(split.test), classes, speed=SPEED_OF_HALF, kill=False, console=console
            )
        finally:
            server.stop()
    return Streamed(all_rows, half)


def accuracies(result: dict[str, Score], baseline: Scores, untold: Scores) -> dict[str, float]:
    """The scores by their names in `Figures`."""
    network = Scores(*(result[name].accuracy or 0.0 for name in ("all_rows", "half")))
    by_prefix = {"": network, "baseline_": baseline, "untold_": untold}
    found = {f"{prefix}accuracy": scores.all_rows for prefix, scores in by_prefix.items()}
    return found | {f"{prefix}accuracy_half": scores.half for prefix, scores in by_prefix.items()}


def lost(played: Sequence[Played]) -> int:
    """Rows that were sent and did not advance their session, or whose output did not arrive."""
    kept = [(p.verdict == Verdict.APPLIED) & np.isfinite(p.output).all(axis=1) for p in played]
    return sum(len(p.recording) - int(k.sum()) for p, k in zip(played, kept, strict=True))


def deviations(run: Path, bundle: Bundle, played: Sequence[Played]) -> dict[str, float]:
    """Differences of streamed outputs from offline rollouts, by their names in `Figures`."""
    network, std = load_checkpoint(run).network, bundle.manifest.outputs[0].std_array
    offline, time_spec = Embedded.open(bundle.path), TimeSpec.around(network.facts.nominal_s)
    alone = [offline.session().chunk(p.recording.features, p.recording.t_ns).y for p in played]
    torch = [r.outputs for r in rollout(network, [p.recording for p in played], time_spec)]
    from_bundle, from_torch = (
        np.concatenate([deviation(p.output, y, std).ravel() for p, y in zip(played, found, strict=True)])
        for found in (alone, torch)
    )
    return {
        "worst_deviation": float(from_bundle.max()),
        "torch_deviation": float(np.quantile(from_torch, 0.999)),
    }


def report(figures: Figures, result: dict[str, Score], run: Path) -> None:
    """The figures."""
    scores = Table("recordings right", "all rows", "half of them", box=None, pad_edge=False)
    for name, prefix in (("the network", ""), ("not told the time", "untold_"), ("logistic regression", "baseline_")):
        values = [getattr(figures, f"{prefix}accuracy{suffix}") for suffix in ("", "_half")]
        scores.add_row(name, *(f"{value:.3f}" for value in values))
    rows = Table.grid(padding=(0, 2))
    rows.add_row("rows lost", f"[bold]{figures.rows_lost}[/] of {figures.steps:,}, a kill -9 in between")
    rows.add_row(
        "offline",
        f"equal to {figures.worst_deviation:.1e} standard deviations of the output, and PyTorch's to "
        f"{figures.torch_deviation:.1e} in 99.9 %",
    )
    rows.add_row("rows right", ", ".join(f"{result[name].row_accuracy:.3f}" for name in ("all_rows", "half")))
    rows.add_row("latency", f"p50 {figures.p50_ms:.2f} ms, p99 {figures.p99_ms:.2f} ms, from when each row was due")
    rows.add_row("plots", ", ".join(shown(plot) for plot in sorted(run.glob("*.png"))))
    rows.add_row("all in all", f"{figures.seconds:.0f} s; figures in {shown(BUILD / 'demo.json')}")
    console.print()
    console.print(scores)
    console.print()
    console.print(rows)


def check(figures: Figures, tolerance: float, recordings: int) -> None:
    """A demo that loses rows, changes outputs or shows a network worse than a simple baseline has failed."""
    if figures.rows_lost:
        sys.exit(f"{figures.rows_lost} rows were lost")
    for off, offline in ((figures.worst_deviation, "the bundle's"), (figures.torch_deviation, "PyTorch's")):
        if off > tolerance:
            sys.exit(f"outputs are {off:.1e} off {offline} offline rollout, tolerance {tolerance:.0e}")
    if figures.accuracy < figures.baseline_accuracy - 1 / recordings - 1e-9:
        sys.exit(f"the network's {figures.accuracy:.3f} is below the baseline's {figures.baseline_accuracy:.3f}")


if __name__ == "__main__":
    command.run(main)
