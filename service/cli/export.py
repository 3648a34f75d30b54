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
) -> None:
    """Export a trained model as a bundle, once its graphs equal PyTorch on the recordings it was tested with.

    [bold]Examples[/]

      statestream export runs/wrist

      statestream export runs/wrist repository --name wrist --version 3
    """
    runs = need("statestream.models.runs", "train")
    sources = need("statestream.models.data.sources", "train")
    splits = need("statestream.models.data.splits", "train")
    exporting = need("statestream.models.export", "train")
    trained = runs.load_checkpoint(run)
    config = trained.config
    dataset = sources.load_dataset(config)
    split = splits.split_dataset(dataset, config.split, classes=config.task.kind == "classification")
    bundle = exporting.export_network(
        trained.network,
        split.test,
        repository,
        name=name or config.name,
        version=version,
        description=config.description,
        scores=trained.scores,
        training={
            "config": config.model_dump(mode="json"),
            "recordings": trained.metrics["recordings"],
            "versions": trained.metrics["versions"],
        },
    )
    out.print(f"[green]exported[/] {bundle.manifest.ref} to {bundle.path}", highlight=False)
