"""`statestream health`: health check of a server, for container supervisors."""

from __future__ import annotations

from typing import Annotated

import typer

from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import out


@reaching
def health(
    server: Server,
    model: Annotated[
        str, typer.Argument(help="One model of the server; by default the whole server.", metavar="MODEL")
    ] = "",
) -> None:
    """Check whether a server, or one of its models, accepts sessions.

    Exit code 1: it does not, for example while it drains.

    [bold]Examples[/]

      statestream health

      statestream health wrist --target robot:50051
    """
    with server.connect() as client:
        serving = client.serving(model)
    out.print("serving" if serving else "not serving", highlight=False)
    if not serving:
        raise typer.Exit(1)
