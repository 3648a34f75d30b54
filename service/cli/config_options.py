"""Options for server settings, shared by the commands that load models."""

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
        help="TOML file with settings; environment variables and flags override it.",
        show_default="/etc/statestream/server.toml, if it is there",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="NAME or NAME:VERSION, may be repeated.", show_default="the newest version of each"),
]
Providers = Annotated[
    str | None,
    typer.Option(help="ONNX Runtime providers, in order of preference: cpu, xnnpack, cuda, tensorrt.", metavar="LIST"),
]


def settings_of(context: typer.Context, file: Path | None) -> ServerConfig:
    """Load settings from `file`, the environment and a command's flags, named like the settings.

    Raises:
        InvalidArgument: a value is invalid; the text names the setting and the value.
    """
    from statestream.service.config import ServerConfig

    # typer passes an empty list for a list option that was not given.
    given = {name: value for name, value in context.params.items() if value not in ([], ())}
    return ServerConfig.load(
        file, **{name: value for name, value in given.items() if name in ServerConfig.model_fields}
    )
