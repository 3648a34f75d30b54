"""`make drive`: a network of 19 neurons learns from an expert to keep to the lane, and drives through the service.

It sees camera frames alone, which it is sent as JPEGs over gRPC; its commands act once they are there, in time of the
simulator. Each driver has ten tracks that nobody was trained on, over a link that costs nothing and over a poor one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from examples import command
from examples.lane_keeping.client import Drive, by_expert, drive
from examples.lane_keeping.film import film, plot, still
from examples.lane_keeping.link import POOR, STEADY, Link
from examples.lane_keeping.record import MANIFEST, record
from examples.server import server
from statestream.models.cells.options import EncodedOptions
from statestream.models.config import Config, load_config
from statestream.models.data.recordings import Dataset
from statestream.models.export import export
from statestream.models.files import write_json
from statestream.models.training import train
from statestream.models.training.dataset import load_dataset
from tests.bench.pages import DOCS, put_output

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build"
LINKS = {"steady": STEADY, "poor": POOR}
NCP, BLIND, CNN, EXPERT = "ncp", "ncp-blind", "cnn", "expert"
MODELS = {NCP: "NCP of 19 neurons", BLIND: "the same, not told the time", CNN: "CNN without a memory"}
NAMES = {EXPERT: "expert, who sees the map", **MODELS}
FIRST_SEED = 1_000
"""Of the tracks that are driven on; those of recordings begin at 0."""

console = Console()
Found = TypeVar("Found")


class Plan(NamedTuple):
    """How much is done, and where."""

    folder: Path
    facts: Path
    recordings: int
    seeds: int
    most_s: float
    """Seconds of a lap, after which it is broken off."""
    overrides: tuple[str, ...] = ()
    """Of the configuration."""


WHOLE = Plan(BUILD / "lane_keeping", BUILD / "drive.json", recordings=40, seeds=10, most_s=60.0)
_QUICK = BUILD / "lane_keeping" / "quick"
QUICK = Plan(
    _QUICK,
    _QUICK / "drive.json",
    recordings=3,
    seeds=1,
    most_s=2.0,
    overrides=("training.epochs=2", "training.validate_every=1"),
)

Drives = dict[str, dict[str, list[Drive]]]
"""By driver and link, one a track."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as much as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.lane_keeping.drive",
        description=__doc__,
        epilog="examples:\n  make drive\n  python -m examples.lane_keeping.drive --quick\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="some seconds of each, to see that it runs; writes no page"
    )
    run(QUICK if parser.parse_args(arguments).quick else WHOLE)


def run(plan: Plan) -> None:
    """Record, train, export, serve, drive, and say how it went."""
    began_s = time.monotonic()
    recordings(plan)
    recorded_s = time.monotonic() - began_s
    trained_s = {name: learn(plan, name) for name in MODELS}
    drives = drive_all(plan)
    show(plan, drives)
    facts = summary(drives)
    took = {"record_s": recorded_s, "train_s": trained_s[NCP], "all_s": time.monotonic() - began_s}
    write_json(plan.facts, {**facts, "took": took})
    lines = said(facts, took)
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    if plan is WHOLE:
        put_output("../README.md", "drive", lines)
        still(DOCS / "lane_keeping.png", drives[NCP]["poor"][0])


def recordings(plan: Plan) -> None:
    """The expert's, side by side; those that are there stay."""
    folders = [plan.folder / "recordings" / str(number) for number in range(plan.recordings)]
    jobs = [(folder, int(folder.name), plan.most_s) for folder in folders if not (folder / MANIFEST).exists()]
    side_by_side(record, jobs, "recording the expert")


def learn(plan: Plan, name: str) -> float:
    """Train a model, and export it; the seconds of training."""
    console.print(f"training {name}: {MODELS[name]}")
    common = [f"name={name}", f"data.path={plan.folder / 'recordings'}"]
    config = load_config(HERE / "lane.toml", [*common, *plan.overrides])
    if name == CNN:
        config = without_memory(config)
    dataset = load_dataset(config)
    if name == BLIND:
        dataset = on_the_beat(dataset, config)
    run = train(config, plan.folder / "runs", overwrite=True, dataset=dataset)
    export(run, plan.folder / "repository", name, 1, overwrite=True, dataset=dataset, jpeg=True)
    return float(run.metrics["seconds"])


def without_memory(config: Config) -> Config:
    """The encoder alone."""
    assert isinstance(config.cell, EncodedOptions)
    return config.model_copy(update={"cell": config.cell.model_copy(update={"cell": None})})


def on_the_beat(dataset: Dataset, config: Config) -> Dataset:
    """Frames as if one came in each period, whatever was lost between them."""
    period_ns = round((config.data.period_s or 0.0) * 1e9)
    told = (replace(r, t_ns=np.arange(len(r)) * period_ns) for r in dataset.recordings)
    return replace(dataset, recordings=tuple(told))


def drive_all(plan: Plan) -> Drives:
    """Every driver on every track and both links, side by side."""
    seeds = range(FIRST_SEED, FIRST_SEED + plan.seeds)
    with server(plan.folder / "repository") as address:
        drivers: dict[str, Callable[..., Drive]] = {EXPERT: by_expert}
        drivers |= {name: partial(drive, address, name, blind=name == BLIND) for name in MODELS}
        cases = [(driver, link) for driver in drivers for link in LINKS]
        jobs = [(drivers[driver], LINKS[link], seed, plan.most_s) for driver, link in cases for seed in seeds]
        drives = iter(side_by_side(_call, jobs, "driving through the service"))
    found: Drives = {driver: {} for driver in drivers}
    for driver, link in cases:
        found[driver][link] = [next(drives) for _ in seeds]
    return found


def _call(driver: Callable[[Link, int, float], Drive], link: Link, seed: int, most_s: float) -> Drive:
    return driver(link, seed, most_s)


def side_by_side(call: Callable[..., Found], jobs: Sequence[tuple[Any, ...]], what: str) -> list[Found]:
    """What a call makes of each job, in processes of their own: as many at once as there are cores."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(call, *job) for job in jobs]
        try:
            for future in track(as_completed(futures), what, total=len(futures), console=console):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def summary(drives: Drives) -> dict[str, Any]:
    """The figures, by driver and link."""
    return {
        f"{driver}.{link}": {
            "laps": sum(each.lap.whole for each in of_link),
            "of": len(of_link),
            "mean_lap_s": fmean(whole) if (whole := [each.lap.lap_s for each in of_link if each.lap.whole]) else None,
            "off_road_s": max(each.lap.off_road_s for each in of_link),
            "each": [each.lap._asdict() for each in of_link],
        }
        for driver, of_driver in drives.items()
        for link, of_link in of_driver.items()
    }


def show(plan: Plan, drives: Drives) -> None:
    """A film of the NCP on the poor link, and its ways on both."""
    film(plan.folder / "drive.mp4", drives[NCP]["poor"][0])
    plot(plan.folder / "drive.png", FIRST_SEED, {f"{link} link": drives[NCP][link][0] for link in ("poor", "steady")})


def said(facts: dict[str, Any], took: dict[str, float]) -> list[str]:
    """The figures in words."""
    head = f"{'laps kept to the road':29}{'service alone':22}{describe(POOR)}"
    lines = [
        f"{name:29}" + "".join(f"{cell(facts[f'{driver}.{link}']):22}" for link in LINKS)
        for driver, name in NAMES.items()
    ]
    bundle_min, all_min = (took["record_s"] + took["train_s"]) / 60, took["all_s"] / 60
    last = f"the NCP recorded for and trained in {bundle_min:.0f} min; all of this in {all_min:.0f} min"
    return [head, *(line.rstrip() for line in lines), last]


def cell(fact: dict[str, Any]) -> str:
    """Laps, and how long one took."""
    took = f", {fact['mean_lap_s']:.1f} s" if fact["laps"] else ""
    return f"{fact['laps']} of {fact['of']}{took}"


def describe(link: Link) -> str:
    """In words."""
    late, jitter = link.delay_s * 1e3, link.jitter_s * 1e3
    return f"{late:.0f} ± {jitter:.0f} ms late, {link.dropped:.0%} of frames lost"


if __name__ == "__main__":
    command.run(main)
