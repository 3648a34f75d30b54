"""The command line application: registers the commands, one per file."""

from __future__ import annotations

from typing import Annotated

import typer

from statestream.service.cli import (
    bridge,
    bundle,
    certs,
    data,
    demo,
    doctor,
    evaluate,
    export,
    health,
    init,
    loadtest,
    models,
    replay,
    serve,
    sessions,
    stream,
    tokens,
    top,
    train,
    tune,
    warmup,
)
from statestream.service.cli.console import out, version

app = typer.Typer(
    name="statestream",
    help="Train liquid recurrent models, export them, and serve them with a state per client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"statestream {version()}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train liquid recurrent models, export them, and serve them with a state per client."""


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("init")(init.init)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("warmup")(warmup.warmup)
app.command("health")(health.health)
app.command("top")(top.top)
app.command("stream")(stream.stream)
app.command("bridge")(bridge.bridge)
app.command("replay")(replay.replay)
app.command("loadtest")(loadtest.loadtest)
app.add_typer(models.app, name="models")
app.add_typer(sessions.app, name="sessions")
app.add_typer(bundle.app, name="bundle")
app.add_typer(tokens.app, name="tokens")
app.command("certs")(certs.certs)
app.command("doctor")(doctor.doctor)
