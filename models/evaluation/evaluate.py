"""Compares runs on one test split: score over seeds, parameters, state, cost of a step."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from statestream.models.config import Config
from statestream.models.evaluation.latency import StepCost, step_cost
from statestream.models.evaluation.stream_cost import StreamCost, stream_costs
from statestream.models.files import replacing
from statestream.models.training import plots
from statestream.models.training.network import Network
from statestream.models.training.runs import Run, RunError
from statestream.models.training.tasks import ranked_by


@dataclass(frozen=True)
class Line:
    """Figures of one model: runs that differ only in their seed."""

    model: str
    runs: int
    scores: dict[str, float]
    """Means over the runs."""
    spread: dict[str, float]
    """Standard deviations over the runs; 0 for a single run."""
    parameters: int
    state_bytes: int
    cost: StepCost


def compare(runs: Sequence[Run]) -> list[Line]:
    """Compute one line per model, the best first.

    Raises:
        RunError: two runs were tested on different recordings, tasks or columns.
    """
    for run in runs[1:]:
        if _tested_on(run) != _tested_on(runs[0]):
            raise RunError(f"{run.path} and {runs[0].path}: not tested on the same recordings, task and columns")
    lines = [_line(name, group) for name, group in _models(runs).items()]
    name, sign = ranked_by(lines[0].scores)
    return sorted(lines, key=lambda line: sign * line.scores[name])


def networks(runs: Sequence[Run]) -> dict[str, Network]:
    """One network per model of `compare`, by name."""
    return {name: group[0].network for name, group in _models(runs).items()}


def names_apart(paths: Sequence[Path]) -> list[str]:
    """Shortest ends of different paths, in whole parts, that differ from one another."""
    parts = [path.resolve().parts for path in paths]
    ends = (["/".join(each[-count:]) for each in parts] for count in range(1, max(map(len, parts)) + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def state_bytes(network: Network) -> int:
    """Bytes of one session's state."""
    return sum(state.row_bytes for state in network.states)


def write_report(folder: Path, lines: Sequence[Line], costs: Sequence[StreamCost]) -> list[Path]:
    """Write `comparison.csv`, `comparison.png`, `streams.csv` and `streams.png` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"comparison.csv": [row(line) for line in lines], "streams.csv": [asdict(cost) for cost in costs]}
    for name, rows in tables.items():
        with replacing(folder / name) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    name, _ = ranked_by(lines[0].scores)
    points = [(line.model, line.cost.batch_1_us, line.scores[name], line.spread[name]) for line in lines]
    plots.plot_comparison(folder / "comparison.png", points, name)
    streams = [(cost.model, cost.rows, cost.step_us, cost.session_bytes) for cost in costs]
    plots.plot_streams(folder / "streams.png", streams)
    return [folder / name for name in ("comparison.csv", "comparison.png", "streams.csv", "streams.png")]


def report(runs: Sequence[Run], folder: Path) -> list[Line]:
    """Compare runs and write the report to a folder."""
    lines = compare(runs)
    write_report(folder, lines, stream_costs(networks(runs)))
    return lines


def row(line: Line) -> dict[str, object]:
    """Flatten a line to columns of a table."""
    scores: dict[str, object] = {}
    for name, value in line.scores.items():
        scores |= {name: value, f"{name}_std": line.spread[name]}
    return {
        "model": line.model,
        "runs": line.runs,
        **scores,
        "parameters": line.parameters,
        "state_bytes": line.state_bytes,
        "batch_1_us": line.cost.batch_1_us,
        "batch_64_us": line.cost.batch_64_us,
    }


def _models(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each model, by its name: the end of its first run's path."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(_without_seed(run.config), []).append(run)
    names = names_apart([group[0].path for group in models.values()])
    return dict(zip(names, models.values(), strict=True))


def _line(name: str, runs: Sequence[Run]) -> Line:
    first = runs[0]
    values = {name: [run.scores[name] for run in runs] for name in first.scores}
    return Line(
        model=name,
        runs=len(runs),
        scores={name: float(np.mean(found)) for name, found in values.items()},
        spread={name: float(np.std(found)) for name, found in values.items()},
        parameters=int(first.metrics["parameters"]),
        state_bytes=state_bytes(first.network),
        cost=step_cost(first.network),
    )


def _tested_on(run: Run) -> tuple[object, ...]:
    facts = run.network.facts
    return run.config.task, run.config.data, tuple(facts.features), tuple(run.metrics["recordings"]["test"])


def _without_seed(config: Config) -> str:
    training = config.training.model_copy(update={"seed": 0})
    return config.model_copy(update={"name": "any", "training": training}).model_dump_json()
