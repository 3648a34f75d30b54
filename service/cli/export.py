"""`statestream export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.console import need, out


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its weights.")],
    repository: Annotated[Path, typer.Argument(help="Folder of bundles, NAME/VERSION/.")] = Path("repository"),
    name: Annotated[str, typer.Option(help="The model's name.", show_default="that of the run")] = "",
    version: Annotated[int | None, typer.Option(help="Its version.", min=1, show_default="the next one")] = None,
    aux_tau: Annotated[
        bool,
        typer.Option("--aux-tau", help="With an output aux_tau: time constants of its liquid neurons, in seconds."),
    ] = False,
    jpeg: Annotated[bool, typer.Option("--jpeg", help="Clients send its frames as JPEG, not as raw pixels.")] = False,
) -> None:
    """Export a trained model as a bundle, once its graphs equal PyTorch on the recordings it was tested with.

    [bold]Examples[/]

      statestream export runs/wrist

      statestream export runs/wrist repository --name wrist --version 3

      statestream export runs/wrist --aux-tau

      statestream export runs/lane --jpeg
    """
    bundle = need("statestream.models.export", "train").export(
        run, repository, name or None, version, aux_tau=aux_tau, jpeg=jpeg
    )
    out.print(f"[green]exported[/] {bundle.manifest.ref} to {bundle.path}", highlight=False)
