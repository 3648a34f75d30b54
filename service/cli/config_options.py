"""The options by which a command learns what a server is told, the same for those that load its models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from statestream.service.config import ServerConfig

Repository = Annotated[Path | None, typer.Argument(help="Folder of bundles, NAME/VERSION/.", show_default="repository")]
Config = Annotated[
    Path | None,
    typer.Option(
        envvar="STATESTREAM_CONFIG",
        help="TOML file with any setting; environment and flags win over it.",
        show_default="/etc/statestream/server.toml, if it is there",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="NAME or NAME:VERSION, may be repeated.", show_default="the newest version of each"),
]
Providers = Annotated[
    str | None,
    typer.Option(help="What runs the graphs, the preferred first: cpu, xnnpack, cuda, tensorrt.", metavar="LIST"),
]


def settings_of(context: typer.Context, file: Path | None) -> ServerConfig:
    """Settings of `file`, the environment and the flags of a command, which bear the names of the settings.

    Raises:
        InvalidArgument: naming the setting and the value it got.
    """
    from statestream.service.config import ServerConfig

    # A list that was not given is empty.
    given = {name: value for name, value in context.params.items() if value not in ([], ())}
    return ServerConfig.load(
        file, **{name: value for name, value in given.items() if name in ServerConfig.model_fields}
    )
