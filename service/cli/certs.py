"""`statestream certs`: makes certificates for development."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.service.cli.console import out
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

_FILES = ("ca", "server")


def certs(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the files; an authority already in it is used.", metavar="DIR")
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address of the server, may be repeated.", show_default="localhost, 127.0.0.1, ::1"),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="Make a certificate for this client, may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days for which the certificates are valid.", min=1)] = 90,
) -> None:
    """Make a development authority, and certificates for a server and its clients.

    [bold]Examples[/]

      statestream certs certs --host robot.local --host 192.168.1.7 --client arm --client base

      statestream serve repository --tls-cert certs/server.pem --tls-key certs/server.key --tls-client-ca certs/ca.pem

      statestream models list --ca certs/ca.pem --cert certs/arm.pem --key certs/arm.key
    """
    need("statestream.service.auth.dev_ca", "certs")
    from statestream.service.auth.dev_ca import Authority

    for name in client or ():
        if name in _FILES or Path(name).name != name or name.startswith("."):
            raise InvalidArgument(
                f"'{name}', expected a name other than ca and server, that can be a file name", field="--client"
            )
    authority = Authority(folder)
    authority.server(host or ("localhost", "127.0.0.1", "::1"), days)
    for name in client or ():
        authority.client(name, days)
    made = ", ".join(f"{name}.pem" for name in (*_FILES, *(client or ())))
    out.print(f"{folder}: {made}, and their keys, for {days} days", highlight=False, markup=False)
