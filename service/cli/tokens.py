"""`statestream tokens`: manages the clients of a server, their roles and tokens."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from statestream.service.auth.clients import Clients, Token
from statestream.service.auth.identity import Role
from statestream.service.cli.console import AsJson, err, out, print_json
from statestream.service.errors import InvalidArgument, NotFound

app = typer.Typer(no_args_is_help=True, help="The clients of a server and their tokens: new, rotate, revoke, list.")
File = Annotated[
    Path, typer.Option("--file", envvar="STATESTREAM_CLIENTS", help="The file that `serve --clients` reads.")
]
DEFAULT_FILE = Path("clients.json")
Name = Annotated[str, typer.Argument(help="The client's name, also its certificate's common name.", metavar="NAME")]
Lasts = Annotated[
    str, typer.Option("--expires", help="How long the token is valid: 90d, 12h, 30m.", show_default="for ever")
]
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@app.command()
def new(
    name: Name,
    role: Annotated[
        list[Role] | None, typer.Option(help="Role of the client, may be repeated.", show_default="stream")
    ] = None,
    expires: Lasts = "",
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Make no token: the client has a certificate.")
    ] = False,
    file: File = DEFAULT_FILE,
) -> None:
    """Add a client, or give one other roles and a new token.

    Prints the token, which is stored only as a hash.

    [bold]Examples[/]

      statestream tokens new arm > arm.token

      statestream tokens new operator --role admin --role read --expires 30d > operator.token

      statestream tokens new base --role stream --without-token
    """
    clients = _read(file)
    roles = frozenset(role or [Role.STREAM])
    if without_token:
        clients.with_client(name, roles).write(file)
        return
    clients, token = clients.with_token(name, roles=roles, lasts=_span(expires))
    clients.write(file)
    print(token)


@app.command()
def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the client's other tokens stay valid.")] = "1h",
    expires: Lasts = "",
    file: File = DEFAULT_FILE,
) -> None:
    """Print a new token for a client.

    Its other tokens expire after the overlap.

    [bold]Example[/]

      statestream tokens rotate arm --overlap 24h --expires 90d > arm.token
    """
    clients, token = _read(file).with_token(name, lasts=_span(expires), others_last=_span(overlap))
    clients.write(file)
    print(token)


@app.command()
def revoke(name: Name, file: File = DEFAULT_FILE) -> None:
    """Remove all roles and tokens of a client.

    Its streams end within seconds.

    A client with a certificate loses its access, too.

    [bold]Example[/]

      statestream tokens revoke arm
    """
    clients = _read(file)
    if name not in clients.clients:
        raise NotFound(f"no client '{name}' in {file}", field="name")
    clients.with_client(name, frozenset(), keep_tokens=False).write(file)
    err.print(f"revoked {name}: it has no roles and no tokens", highlight=False, markup=False)


@app.command("list")
def list_clients(file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List the clients, their roles, and when their tokens expire.

    [bold]Example[/]

      statestream tokens list --file clients.json
    """
    clients = _read(file).clients
    if as_json:
        print_json({name: client.model_dump(mode="json") for name, client in clients.items()})
        return
    table = Table("client", "roles", "tokens", box=None)
    for name, client in sorted(clients.items()):
        roles = ", ".join(sorted(role.value for role in client.roles)) or "none"
        table.add_row(name, roles, "; ".join(_end(token) for token in client.tokens) or "none")
    out.print(table)


def _end(token: Token) -> str:
    return f"until {token.expires:%Y-%m-%d %H:%M %Z}" if token.expires else "for ever"


def _read(file: Path) -> Clients:
    return Clients.read(file) if file.exists() else Clients()


def _span(text: str) -> timedelta | None:
    """Parse a time span such as `90d`; None: the text is empty."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)([dhms])", text)
    if match is None:
        raise InvalidArgument(f"'{text}', expected a number and d, h, m or s", field="--expires")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
