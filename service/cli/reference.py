"""Writes `docs/configuration.md`, all settings of `serve` (`python -m statestream.service.cli.reference`)."""

from __future__ import annotations

import json
from typing import Any

import typer

from statestream.service.cli.serve import serve
from statestream.service.config import DEFAULT_FILE, ENV_PREFIX, ServerConfig

_INTRODUCTION = f"""# Configuration

<!-- Written by `make configuration`; a test compares it. -->

For people who run a server: every setting, with its kind, its default and its flag.

`statestream serve` reads a TOML file, then environment variables, then its flags; later ones override earlier ones. The
file is the one that `--config` (or `{ENV_PREFIX}CONFIG`) names, else `{DEFAULT_FILE}` if it exists. Its
keys are the names below, all at the top level. An unknown key or an invalid value is an error that names it. An
environment variable is `{ENV_PREFIX}` and the name in capitals; lists are written `a,b`, in variables and flags. Paths
are relative to where the server was started.

The command alone, without a file, also serves the [page](dashboard.md) on this machine; `--no-http` turns it off.

    statestream serve --config server.toml --print-config     # the resulting settings, as a file to start from
    {ENV_PREFIX}IDLE_TTL_S=60 statestream serve repository --log-format json

"""


def reference() -> str:
    """Build the page as Markdown."""
    flags = _flags()
    lines = ["| setting | kind | default | flag | |", "|---|---|---|---|---|"]
    properties = ServerConfig.model_json_schema()["properties"]
    for name, field in ServerConfig.model_fields.items():
        default = properties[name].get("default")
        cells = (
            f"`{name}`",
            _kind(properties[name]),
            "" if default is None else f"`{json.dumps(default)}`",
            f"`{flags[name]}`" if name in flags else "",
            " ".join((field.description or "").split()),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _flags() -> dict[str, str]:
    """Flags by setting, for the settings that have one."""
    app = typer.Typer()
    app.command()(serve)
    found = {}
    for parameter in typer.main.get_command(app).params:
        if parameter.name in ServerConfig.model_fields:
            option = parameter.opts[0]
            found[parameter.name] = option if option.startswith("-") else option.upper()
    return found


def _kind(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    kind = schema.get("format", {"string": "text", "boolean": "yes or no"}.get(schema["type"], schema["type"]))
    if "exclusiveMinimum" in schema:
        return f"{kind} > {schema['exclusiveMinimum']:g}"
    return f"{kind} ≥ {schema['minimum']:g}" if "minimum" in schema else str(kind)


if __name__ == "__main__":
    print(reference(), end="")
