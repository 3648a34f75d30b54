"""`python -m examples.wrist_exercises.folds`: the demo's scores with each of the ten people left out once, in pairs.

Every fold trains as the demo does. `--validation` leaves out two of the other eight people as well and scores these:
that is how settings are chosen, without a look at the test.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from examples import command
from examples.wrist_exercises.networks import Scores, baseline_scores, learned_scores
from statestream.models.config import Config, load_config
from statestream.models.data.recordings import Dataset
from statestream.models.files import write_json
from statestream.models.training.dataset import load_dataset
from statestream.models.training.splits import split_dataset

BUILD = Path(__file__).parents[2] / "build"
CONSOLE = Console(stderr=True)
FOLDS = 5
PEOPLE = 10


def main() -> None:
    """Train every fold and print the scores."""
    parser = argparse.ArgumentParser(prog="python -m examples.wrist_exercises.folds", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="section.key=value, for other settings than the demo's")
    parser.add_argument("--validation", action="store_true", help="score people of the training split")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BUILD / "demo-folds.json")
    given = parser.parse_args()
    parts = [(fold, told) for fold in given.folds for told in ((True,) if given.validation else (True, False))]
    arguments = [
        (fold, told, given.validation, tuple(given.overrides), given.out.with_suffix("")) for fold, told in parts
    ]
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        trained = pool.map(network_of_fold, *zip(*arguments, strict=True))
        scores = dict(zip(parts, track(trained, "training", len(parts), console=CONSOLE), strict=True))
    rows: dict[str, list[Scores]] = {
        "network": [scores[fold, True] for fold in given.folds],
        "logistic regression": [baseline_of_fold(fold, validation=given.validation) for fold in given.folds],
    }
    if not given.validation:
        rows["not told the time"] = [scores[fold, False] for fold in given.folds]
    for name, found in rows.items():
        all_rows, half = ([getattr(each, which) for each in found] for which in ("all_rows", "half"))
        print(f"{name:20} all rows {shown(all_rows)}   half of them {shown(half)}", flush=True)  # noqa: T201
    write_json(given.out, {name: [vars(each) for each in found] for name, found in rows.items()})


def network_of_fold(fold: int, told: bool, validation: bool, overrides: Sequence[str], runs: Path) -> Scores:
    """Train one network of a fold, as the demo does, and score it."""
    config, dataset = of_fold(fold, overrides, validation=validation)
    return learned_scores(config, dataset, runs / str(fold), told=told)


def baseline_of_fold(fold: int, *, validation: bool) -> Scores:
    """Scores of logistic regression in a fold."""
    config, dataset = of_fold(fold, (), validation=validation)
    split = split_dataset(dataset, config.split, classes=True)
    return baseline_scores(split.train, split.test, len(dataset.labels))


def of_fold(fold: int, overrides: Sequence[str], *, validation: bool) -> tuple[Config, Dataset]:
    """Configuration and recordings of a fold: two people are the test, or, to validate, the two after them."""
    first = 2 * fold + 1
    test, others = [first, first + 1], []
    if validation:
        others = test
        test = [(first + 1) % PEOPLE + 1, (first + 2) % PEOPLE + 1]
    config = load_config("wrist", [f"split.test_groups={test}", *overrides])
    dataset = load_dataset(config)
    kept = [k for k, r in enumerate(dataset.recordings) if r.group not in map(str, others)]
    return config, Dataset(tuple(dataset.recordings[k] for k in kept), dataset.features, dataset.labels, dataset.units)


def shown(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the folds."""
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    command.run(main)
