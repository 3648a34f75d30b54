"""`statestream serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer


def serve(
    repository: Annotated[
        Path | None, typer.Argument(help="Folder of bundles, NAME/VERSION/.", show_default="repository")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with any setting; environment and flags win over it.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT or unix:/PATH.", show_default="127.0.0.1:50051")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:VERSION, may be repeated.", show_default="the newest version of each"),
    ] = None,
    providers: Annotated[
        str | None,
        typer.Option(help="What runs the graphs, the preferred first: cpu, xnnpack, cuda, tensorrt.", metavar="LIST"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of ONNX Runtime.", show_default="1")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the port, a core each.", show_default="1")
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Sessions of all models.", show_default="100000")] = None,
    idle_ttl: Annotated[
        float | None, typer.Option("--idle-ttl", help="Seconds a session lives without a stream.", show_default="3600")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where sessions are kept: memory, sqlite:PATH (survives loss of power), or redis://HOST:PORT/DB "
            "(shared by several servers).",
            show_default="memory",
        ),
    ] = None,
    store_tick: Annotated[
        float | None,
        typer.Option("--store-tick", help="Seconds between snapshots of the sessions that changed.", show_default="1"),
    ] = None,
    max_resident: Annotated[
        int | None,
        typer.Option(help="Sessions in memory; those without a stream spill to the store.", show_default="100000"),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder to write what sessions send and hear to, for `replay`.", show_default="none"),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="HOST:PORT for Prometheus.", show_default="none")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
) -> None:
    """Serve the models of a repository over gRPC, until SIGTERM or Ctrl-C, which drain it.

    Every setting can also be an environment variable, STATESTREAM_ and its name in capitals.

    [bold]Examples[/]

      statestream serve repository

      statestream serve repository --model wrist:3 --address 0.0.0.0:50051 --metrics 127.0.0.1:9464

      statestream serve repository --workers 2 --store sqlite:sessions.db

      statestream serve repository --store sqlite:/var/lib/statestream/sessions.db

      STATESTREAM_IDLE_TTL_S=60 statestream serve --config server.toml
    """
    from statestream.service.config import ServerConfig
    from statestream.service.workers import run

    settings = ServerConfig.load(
        config,
        repository=repository,
        address=address,
        models=tuple(model) if model else None,
        providers=tuple(name.strip() for name in providers.split(",")) if providers else None,
        threads=threads,
        workers=workers,
        max_sessions=max_sessions,
        idle_ttl_s=idle_ttl,
        store=store,
        store_tick_s=store_tick,
        max_resident=max_resident,
        record=record,
        metrics_address=metrics,
        log_level=log_level,
    )
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s")
    run(settings)
