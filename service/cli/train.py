"""`statestream train`. What trains is imported only when asked for, so that everything else works without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.console import need


def train(
    config: Annotated[str, typer.Argument(help="A TOML file, or the name of a preset.", metavar="PRESET_OR_TOML")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of it, given anew.", metavar="[SECTION.KEY=VALUE]...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="a new one in runs/")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    devices: Annotated[int | None, typer.Option(help="How many devices.", min=1, show_default="1")] = None,
) -> None:
    """Train a model on recordings.

    [bold]Examples[/]

      statestream train wrist

      statestream train mine.toml cell.units=64 training.epochs=20 --out runs/mine

      statestream train mine.toml --out runs/mine --resume
    """
    from statestream.models.config import load_config

    given = [*(overrides or []), *([f"training.devices={devices}"] if devices is not None else [])]
    settings = load_config(config, given)
    need("statestream.models.training", "train").train(settings, out=out, resume=resume)
