"""`statestream health`: for whoever supervises a container."""

from __future__ import annotations

from typing import Annotated

import typer

from statestream.service.cli.console import DEFAULT_TARGET, Target, out


def health(
    model: Annotated[str, typer.Argument(help="One model of the server; otherwise the whole.", metavar="MODEL")] = "",
    target: Target = DEFAULT_TARGET,
) -> None:
    """Whether a server, or a model of it, takes sessions. Exit code 1: it does not, for one while it drains.

    [bold]Examples[/]

      statestream health

      statestream health wrist --target robot:50051
    """
    from statestream.service.client import connect

    with connect(target, timeout_s=5.0) as client:
        serving = client.serving(model)
    out.print("serving" if serving else "not serving", highlight=False)
    if not serving:
        raise typer.Exit(1)
