"""Options for connecting to a server, shared by all commands that do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from statestream.service.client import Client
    from statestream.service.client.credentials import Access

_PANEL = "Server"
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "target": (
        Annotated[
            str,
            typer.Option(
                envvar="STATESTREAM_TARGET", help="The server: HOST:PORT or unix:PATH.", rich_help_panel=_PANEL
            ),
        ],
        "127.0.0.1:50051",
    ),
    "tls": (
        Annotated[
            bool,
            typer.Option(
                "--tls",
                envvar="STATESTREAM_TLS",
                help="Use TLS, with the system's certificate authorities.",
                rich_help_panel=_PANEL,
            ),
        ],
        False,
    ),
} | {
    name: (
        Annotated[Path | None, typer.Option(envvar=f"STATESTREAM_{name.upper()}", help=text, rich_help_panel=_PANEL)],
        None,
    )
    for name, text in {
        "ca": "PEM of the authority of the server's certificate; uses TLS.",
        "cert": "PEM of this client's certificate.",
        "key": "PEM of the certificate's key.",
        "token_file": "File with this client's token.",
    }.items()
}


@dataclass(frozen=True)
class Server:
    """Address of a server and the credentials for it."""

    target: str
    access: Access

    def connect(self) -> Client:
        """Connect a client; use it with `with`."""
        from statestream.service.client import connect

        return connect(self.target, access=self.access)


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that adds the connection options to a command, which gets them as `server`."""

    @functools.wraps(command)
    def run(*, target: str, **given: Any) -> None:
        from statestream.service.client.credentials import Access

        access = Access(**{name: given.pop(name) for name in _OPTIONS if name != "target"})
        command(server=Server(target, access), **given)

    # On Python 3.10 typing.get_type_hints hides an option's name, help and limits where the default is None.
    signature = inspect.signature(command, globals={**command.__globals__, "Server": Server}, eval_str=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "server"
    ]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in _OPTIONS.items()
    ]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
    return run
