"""`make results`: trains every experiment, resumably, and writes docs/results.md, its plots and results.json.

    python -m statestream.models.experiments.results [BENCHMARK.MODEL | BENCHMARK]... [--costs]

A job's result is kept in `build/results/jobs`; the job is repeated only when its configuration has changed. The page is
made from all results. Without results, an experiment keeps its entries of docs/results.json with the same
configuration, so that a part can be repeated alone, also from a fresh checkout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from statestream.models.config import parse_config
from statestream.models.evaluation.baselines import baseline_accuracy, window_features, window_spectra
from statestream.models.evaluation.evaluate import state_bytes
from statestream.models.evaluation.field_results import after_drift, in_int8
from statestream.models.evaluation.latency import step_cost
from statestream.models.evaluation.ridge import ridge_scores
from statestream.models.experiments.experiments import EXPERIMENTS, Job, jobs
from statestream.models.experiments.results_page import Result, as_json, as_markdown
from statestream.models.experiments.results_plot import plot_results
from statestream.models.files import replacing, write_json
from statestream.models.training.dataset import load_dataset
from statestream.models.training.network import Network
from statestream.models.training.runs import load_checkpoint
from statestream.models.training.splits import split_dataset
from statestream.models.training.trainer import train


def run_job(job: Job, folder: Path) -> Result:
    """Return the job's kept result, or run the job if there is none of its configuration."""
    kept = known(job, folder)
    if kept is not None:
        return kept
    started = time.monotonic()
    facts = _baseline(job) if job.experiment.baseline else _trained(job, folder / "runs")
    result = Result(
        experiment=job.experiment.name,
        command=job.command,
        seed=job.config.training.seed,
        config=job.config.model_dump(mode="json"),
        seconds=round(time.monotonic() - started, 1),
        **facts,
    )
    _keep(job, folder, result)
    return result


def measure_again(job: Job, folder: Path) -> Result | None:
    """Measure the steps of a kept run once more; None if there is no such run, or it is a baseline's."""
    result, run = known(job, folder), folder / "runs" / job.name
    if result is None or job.experiment.baseline or not run.is_dir():
        return None
    result = replace(result, step_us=_step_us(load_checkpoint(run).network))
    _keep(job, folder, result)
    return result


def known(job: Job, folder: Path) -> Result | None:
    """The kept result of a job.

    None: it is missing, damaged or of another configuration.
    """
    try:
        result = Result(**json.loads(_path(job, folder).read_text()))
        # Parsed, not compared as text: a field added since has its default.
        same = parse_config(result.config, job.name) == job.config
    except (OSError, ValueError, TypeError):
        return None
    return result if same else None


def _path(job: Job, folder: Path) -> Path:
    return folder / "jobs" / f"{job.name}.json"


def _keep(job: Job, folder: Path, result: Result) -> None:
    path = _path(job, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(result))


def collect(folder: Path) -> dict[str, list[Result]]:
    """Results by experiment, for the experiments whose runs are all kept."""
    found = {e.name: [known(job, folder) for job in jobs(e)] for e in EXPERIMENTS}
    whole = {name: [result for result in results if result is not None] for name, results in found.items()}
    return {name: results for name, results in whole.items() if len(results) == len(found[name])}


def write_page(folder: Path, docs: Path) -> None:
    """Write docs/results.md and docs/results.json from the kept results and the earlier entries."""
    docs.mkdir(parents=True, exist_ok=True)
    path = docs / "results.json"
    content = as_json(collect(folder), json.loads(path.read_text()) if path.exists() else {})
    write_json(path, content)
    page = docs / "results.md"
    before = page.read_text() if page.exists() else ""
    with replacing(page) as temporary:
        temporary.write_text(as_markdown(content, before))
    plot_results(docs, content)


def _trained(job: Job, runs: Path) -> dict[str, Any]:
    run = train(job.config, runs, overwrite=True, progress=False)
    scores = run.scores
    if job.experiment.int8:
        scores = in_int8(run)
    elif job.experiment.drifts:
        scores = after_drift(run, job.experiment.drifts)
    return {
        "scores": scores,
        "groups": run.metrics.get("groups", {}) if scores is run.scores else {},
        "epochs": len(run.metrics["history"]),
        "parameters": run.metrics["parameters"],
        "state_bytes": state_bytes(run.network),
        "step_us": _step_us(run.network),
    }


def _step_us(network: Network) -> list[float]:
    cost = step_cost(network)
    return [round(cost.batch_1_us, 2), round(cost.batch_64_us, 2)]


def _baseline(job: Job) -> dict[str, Any]:
    config, kind = job.config, job.experiment.baseline
    dataset = load_dataset(config)
    if kind == "ridge":
        return {"scores": ridge_scores(split_dataset(dataset, config.split))}
    split = split_dataset(dataset, config.split, classes=True)
    features = window_spectra if kind == "log_spectra" else window_features
    return {"scores": {"recording_accuracy": baseline_accuracy(split.train, split.test, len(dataset.labels), features)}}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m statestream.models.experiments.results`."""
    parser = argparse.ArgumentParser(prog="python -m statestream.models.experiments.results", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these: a benchmark, or BENCHMARK.MODEL")
    parser.add_argument("--folder", type=Path, default=Path("build/results"), help="where results are kept")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--costs", action="store_true", help="train nothing; measure the steps of kept runs again")
    options = parser.parse_args(arguments)
    wanted = [e for e in EXPERIMENTS if not options.names or {e.name, e.benchmark} & set(options.names)]
    if not wanted:
        parser.error(f"no such experiment; there are {', '.join(e.name for e in EXPERIMENTS)}")
    todo = [job for experiment in wanted for job in jobs(experiment)]
    console = Console(stderr=True)
    if options.costs:
        for job in todo:
            if (again := measure_again(job, options.folder)) is not None:
                console.print(f"{job.name}  {again.step_us} µs", highlight=False)
        write_page(options.folder, options.docs)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(todo))
        for job in todo:
            progress.update(task, description=job.name)
            result = run_job(job, options.folder)
            figures = "  ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
            console.print(f"{job.name}  {figures}  {result.seconds} s", highlight=False)
            progress.advance(task)
            write_page(options.folder, options.docs)


if __name__ == "__main__":
    main()
