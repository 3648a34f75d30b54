"""`statestream train`: trains a model; torch is imported only by this command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.console import out as console
from statestream.service.extras import need


def train(
    config: Annotated[str, typer.Argument(help="A TOML file, or the name of a preset.", metavar="PRESET_OR_TOML")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Override fields of the configuration.", metavar="[SECTION.KEY=VALUE]...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs; the run is written to NAME in it.")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    devices: Annotated[int | None, typer.Option(help="Number of devices.", min=1, show_default="1")] = None,
) -> None:
    """Train a model on recordings.

    [bold]Examples[/]

      statestream train wrist

      statestream train mine.toml cell.wiring.units=64 training.epochs=20 --out runs

      statestream train mine.toml --resume
    """
    from statestream.models.config import load_config

    given = [*(overrides or []), *([f"training.devices={devices}"] if devices is not None else [])]
    settings = load_config(config, given)
    run = need("statestream.models.training.trainer", "train").train(settings, out, resume=resume)
    for name, score in run.scores.items():
        console.print(f"{name:14} {score:.4g}", highlight=False, markup=False)
    if "mse" in run.scores and "r2" not in run.scores:
        console.print("r2             undefined: the target is constant in the test")
    console.print(f"scores and plots are in {run.path}", highlight=False, markup=False)
    console.print(f"next: statestream export {run.path}", highlight=False, markup=False)
