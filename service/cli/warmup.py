"""`statestream warmup`: builds and checks engines before `serve` needs them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.config_options import Config, Models, Providers, Repository, settings_of
from statestream.service.cli.console import err, out


def warmup(
    context: typer.Context,
    repository: Repository = None,
    config: Config = None,
    models: Models = None,
    providers: Providers = None,
    engine_cache: Annotated[Path | None, typer.Option(help="Folder for TensorRT's engines.")] = None,
) -> None:
    """Build the providers' engines (TensorRT: minutes per model), check every model and print its cost.

    Reads the server's settings like `serve`. Run it as the server's user, so that it writes the engines where the
    server reads them. Exit code 1: a model cannot be served.

    [bold]Examples[/]

      sudo -u statestream statestream warmup

      statestream warmup repository --model wrist:3 --providers tensorrt,cuda,cpu
    """
    from statestream.service.config import file_to_read
    from statestream.service.errors import StatestreamError
    from statestream.service.serving.repository import BundleRepository, models_to_load

    settings = settings_of(context, file_to_read(config))
    bundles = BundleRepository(settings)
    refused = 0
    for name, version in models_to_load(settings):
        start = time.monotonic()
        try:
            bundle, engine = bundles.load(name, version, build=True)
        except StatestreamError as error:
            refused += 1
            err.print(f"[bold red]refused[/] {name}: {error.text}", soft_wrap=True, highlight=False)
            continue
        out.print(
            f"{bundle.manifest.ref}  {engine.provider}  ready after {time.monotonic() - start:.1f} s, a step takes "
            f"{engine.cost.step_s * 1e6:.0f} µs, 64 together {engine.cost.batch_s * 1e6:.0f} µs",
            highlight=False,
        )
    if refused:
        raise typer.Exit(1)
