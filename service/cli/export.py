"""`statestream export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.console import need, out


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    repository: Annotated[Path, typer.Argument(help="Folder of bundles, NAME/VERSION/.")] = Path("repository"),
    name: Annotated[str, typer.Option(help="The model's name.", show_default="that of the run")] = "",
    version: Annotated[int, typer.Option(help="Its version.", show_default="the next one")] = 0,
) -> None:
    """Export a trained model as a bundle, compared with PyTorch on its own recordings.

    [bold]Examples[/]

      statestream export runs/wrist

      statestream export runs/wrist/best.ckpt repository --name wrist --version 3
    """
    exporting = need("statestream.models.export", "train")
    bundle = exporting.export(checkpoint, repository, name, version)
    out.print(f"[green]exported[/] {bundle.manifest.ref} to {bundle.path}", highlight=False)
