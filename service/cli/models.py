"""`statestream models`: what a server serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from statestream.models.spec import Manifest, TensorSpec
from statestream.service.cli.console import DEFAULT_TARGET, AsJson, Target, name_and_version, out, quiet_grpc, say_json

app = typer.Typer(no_args_is_help=True, help="The models of a server: list, show, load, unload.")
Model = Annotated[str, typer.Argument(help="NAME or NAME:VERSION.", metavar="MODEL")]


@app.command("list")
def list_models(target: Target = DEFAULT_TARGET, as_json: AsJson = False) -> None:
    """The models being served.

    [bold]Examples[/]

      statestream models list

      statestream models list --target robot:50051 --json
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        models = client.list_models()
    if as_json:
        say_json([{"name": m.name, "version": m.version, "sessions": m.sessions} for m in models])
        return
    table = Table("model", "version", "inputs", "outputs", "state", "period", "sessions", box=None)
    for m in models:
        table.add_row(
            m.name,
            str(m.version),
            _short(m.manifest.inputs),
            _short(m.manifest.outputs),
            f"{m.manifest.state_bytes} B",
            f"{m.manifest.time.nominal_s:g} s",
            str(m.sessions),
        )
    out.print(table)


@app.command()
def show(model: Model, target: Target = DEFAULT_TARGET, as_json: AsJson = False) -> None:
    """One model: its tensors, its time, how it was trained.

    [bold]Examples[/]

      statestream models show wrist

      statestream models show wrist:3 --json
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        manifest = client.get_model(*name_and_version(model)).manifest
    if as_json:
        say_json(manifest.model_dump(mode="json"))
    else:
        describe(manifest)


@app.command()
def load(model: Model, target: Target = DEFAULT_TARGET) -> None:
    """Load a bundle from the server's repository.

    [bold]Example[/]

      statestream models load wrist:4
    """
    quiet_grpc()
    from statestream.service.client import connect

    name, version = name_and_version(model)
    with connect(target) as client:
        out.print(f"loaded {name}:{client.admin.load_model(name, version)}", highlight=False)


@app.command()
def unload(model: Model, target: Target = DEFAULT_TARGET) -> None:
    """Stop serving a version; refused while it has sessions.

    [bold]Example[/]

      statestream models unload wrist:3
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        client.admin.unload_model(*name_and_version(model))
    out.print(f"unloaded {model}", highlight=False)


def describe(manifest: Manifest) -> None:
    """A manifest as a person reads it."""
    out.print(f"[bold]{manifest.ref}[/] {manifest.description}", highlight=False)
    table = Table("", "name", "shape", "dtype", "elements", box=None)
    groups: Sequence[tuple[str, Sequence[TensorSpec]]] = (
        ("input", manifest.inputs),
        ("output", manifest.outputs),
        ("aux", manifest.aux),
        ("state", manifest.states),
    )
    for kind, tensors in groups:
        for t in tensors:
            labels = ", ".join(getattr(t, "labels", ()))
            table.add_row(kind, t.name, "×".join(map(str, t.shape)) or "scalar", t.dtype, labels)
    out.print(table)
    time = manifest.time
    out.print(f"dt: nominal {time.nominal_s:g} s, from {time.min_s:g} to {time.max_s:g} s", highlight=False)
    for name, score in manifest.scores.items():
        out.print(f"{name}: {score:g}", highlight=False)


def _short(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{t.name} {'×'.join(map(str, t.shape))}" for t in tensors)
