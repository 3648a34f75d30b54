"""`statestream train`: trains a model; torch is imported only by this command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statestream.service.cli.console import err, print_warning
from statestream.service.cli.console import out as console
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.models.config import Config
    from statestream.models.training.plan import Plan
    from statestream.models.training.runs import Run


def train(
    config: Annotated[str, typer.Argument(help="A TOML file, or the name of a preset.", metavar="PRESET_OR_TOML")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Override fields of the configuration.", metavar="[SECTION.KEY=VALUE]...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs; the run is written to NAME in it.")] = Path("runs"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the run's last checkpoint, perhaps to more training.epochs.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run NAME; without it a new run becomes NAME-2.")
    ] = False,
    devices: Annotated[int | None, typer.Option(help="Number of devices.", min=1, show_default="1")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resulting configuration as TOML and exit.")
    ] = False,
) -> None:
    """Train a model on recordings.

    Prints what it learns from and for how long, then its scores on the test split beside those of baselines. Ctrl-C
    keeps the last whole epoch. Every field of the file: docs/training-file.md.

    [bold]Examples[/]

      statestream train wrist

      statestream train mine.toml cell.wiring.units=64 training.epochs=20 --out runs

      statestream train mine.toml --resume training.epochs=200

      statestream train wrist --print-config > mine.toml
    """
    from statestream.models.config import load_config

    given = [*(overrides or []), *([f"training.devices={devices}"] if devices is not None else [])]
    settings = load_config(config, given)
    if print_config:
        print(settings.to_toml(), end="")
        return
    trainer = need("statestream.models.training.trainer", "train")
    try:
        run = trainer.train(
            settings, out, resume=resume, overwrite=overwrite, on_start=_print_plan, command=_command(config, given)
        )
    except KeyboardInterrupt as interrupt:
        err.print(str(interrupt), highlight=False, markup=False, soft_wrap=True)
        raise
    _print_scores(run)
    _print_comparison(run, settings)
    console.print(f"scores and plots are in {run.path / 'report.html'}", highlight=False, markup=False)
    console.print(f"next: statestream export {run.path}", highlight=False, markup=False)


def _command(config: str, overrides: list[str]) -> str:
    return shlex.join(["statestream", "train", config, *overrides])


def _print_plan(plan: Plan) -> None:
    for name, text in plan.facts.items():
        console.print(f"{name:14} {text}", highlight=False, markup=False)
    for text in plan.warnings:
        print_warning(text)


def _print_scores(run: Run) -> None:
    if (stopped := run.metrics["stopped"]) is not None:
        console.print(stopped, highlight=False, markup=False)
    for name, score in run.scores.items():
        console.print(f"{name:14} {score:.4g}", highlight=False, markup=False)
    if "mse" in run.scores and "r2" not in run.scores:
        console.print("r2             undefined: the target is constant in the test")


def _print_comparison(run: Run, config: Config) -> None:
    """Print the baselines' scores, and a warning for each that is better."""
    module = need("statestream.models.training.baselines", "train")
    name, _ = need("statestream.models.training.tasks", "train").ranked_by(run.scores)
    shown = ", ".join(f"{module.words(baseline)} {its[name]:.4g}" for baseline, its in run.baselines.items())
    console.print(f"{'baselines':14} {name} of {shown}", highlight=False, markup=False)
    for line in module.lost_to(run.scores, run.baselines, config.task.kind):
        print_warning(line)
