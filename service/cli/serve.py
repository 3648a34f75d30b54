"""`statestream serve`: runs a server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.config_options import Config, Models, Providers, Repository, settings_of
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)


def serve(
    context: typer.Context,
    repository: Repository = None,
    config: Config = None,
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT or unix:/PATH.", show_default="127.0.0.1:50051")
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(help="grpc, native (HTTP/2 in C++), or auto: the latter if built.", show_default="auto"),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="python, native (plain turns in C++), or auto: the latter if built.", show_default="auto"),
    ] = None,
    admin_address: Annotated[
        str | None,
        typer.Option("--admin", help="HOST:PORT or unix:/PATH for `Admin` only.", show_default="that of --address"),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM of the server's certificate; uses TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM of the certificate's key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM of the clients' authority; every client needs a certificate of it.")
    ] = None,
    clients: Annotated[
        Path | None,
        typer.Option(help="File of clients and tokens; see `statestream tokens`.", show_default="no tokens"),
    ] = None,
    insecure_public: Annotated[
        bool | None, typer.Option("--insecure-public", help="Accept other machines without TLS.")
    ] = None,
    audit_log: Annotated[
        Path | None, typer.Option(help="File for one line per `Admin` call.", show_default="the log only")
    ] = None,
    models: Models = None,
    providers: Providers = None,
    threads: Annotated[int | None, typer.Option(help="Threads of ONNX Runtime.", show_default="1")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the port, one core each.", show_default="1")
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(help="Most sessions of all models.", show_default="100000")
    ] = None,
    idle_ttl_s: Annotated[
        float | None,
        typer.Option("--idle-ttl", help="Seconds after which a session without a stream ends.", show_default="3600"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Store of session snapshots: memory, sqlite:PATH (survives loss of power), or redis://HOST:PORT/DB "
            "(shared by several servers).",
            show_default="memory",
        ),
    ] = None,
    store_tick_s: Annotated[
        float | None,
        typer.Option("--store-tick", help="Seconds between snapshots of changed sessions.", show_default="1"),
    ] = None,
    max_resident: Annotated[
        int | None,
        typer.Option(
            help="Most sessions in memory; those without a stream are moved to the store.", show_default="100000"
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder to record rows and results to, for `statestream replay`.", show_default="none"),
    ] = None,
    metrics_address: Annotated[
        str | None, typer.Option("--metrics", help="HOST:PORT for Prometheus.", show_default="none")
    ] = None,
    http_address: Annotated[
        str | None,
        typer.Option(
            "--http",
            help="HOST:PORT for the dashboard page.",
            show_default="127.0.0.1:8080 or the next free port; none with a configuration file",
        ),
    ] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Serve no dashboard page.")] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resulting settings and exit.")
    ] = False,
) -> None:
    """Serve the models of a repository over gRPC until SIGTERM or Ctrl-C, which drain the server.

    Every setting can also be an environment variable, STATESTREAM_ and its name in capitals, or a key of the file;
    docs/configuration.md lists them.

    [bold]Examples[/]

      statestream serve repository

      statestream serve repository --model wrist:3 --metrics 127.0.0.1:9464

      statestream serve repository --address 0.0.0.0:50051 --tls-cert server.pem --tls-key server.key

      statestream serve repository --workers 2 --store sqlite:sessions.db

      statestream serve repository --store sqlite:/var/lib/statestream/sessions.db

      statestream serve repository --http 127.0.0.1:9000

      STATESTREAM_IDLE_TTL_S=60 statestream serve --config server.toml

      statestream serve repository --print-config > server.toml
    """
    from statestream.service.cli.default_page import with_default_page
    from statestream.service.config import file_to_read
    from statestream.service.server.log_format import set_up
    from statestream.service.server.workers import run

    if no_http and http_address:
        raise InvalidArgument("--http and --no-http exclude each other", field="--no-http")
    file = file_to_read(config)
    settings = settings_of(context, file)
    if no_http:
        settings = settings.model_copy(update={"http_address": ""})
    if print_config:
        print(settings.to_toml(), end="")
        return
    set_up(settings)
    if file is not None:
        log.info("configured by %s", file)
    settings, page_ports = with_default_page(settings, file)
    run(settings, page_ports=page_ports)
