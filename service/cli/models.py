"""`statestream models`: lists and changes the models of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from statestream.models.spec import Manifest, OutputSpec, TensorSpec
from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, name_and_version, out, print_json
from statestream.service.dashboard.wiring_svg import wiring_svg
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy

if TYPE_CHECKING:
    from statestream.service.client import ModelInfo
    from statestream.service.client.admin import ModelChange

app = typer.Typer(no_args_is_help=True, help="The models of a server: list, show, load, promote, roll back, unload.")
Model = Annotated[str, typer.Argument(help="NAME or NAME:VERSION.", metavar="MODEL")]
Name = Annotated[str, typer.Argument(help="The model's name.", metavar="NAME")]


@app.command("list")
@reaching
def list_models(server: Server, as_json: AsJson = False) -> None:
    """List the models being served.

    [bold]Examples[/]

      statestream models list

      statestream models list --target robot:50051 --json
    """
    with server.connect() as client:
        models = client.list_models()
    if as_json:
        print_json([_facts(m) for m in models])
        return
    table = Table("model", "version", "role", "inputs", "outputs", "state", "period", "sessions", box=None)
    for m in models:
        table.add_row(
            m.name,
            str(m.version),
            m.role,
            _short(m.manifest.inputs),
            _short(m.manifest.outputs),
            f"{m.manifest.state_bytes} B",
            f"{m.manifest.time.nominal_s:g} s",
            str(m.sessions),
        )
    out.print(table)
    for m in models:
        for d in m.divergence:
            unusable = f", {d.unusable} rows not finite" if d.unusable else ""
            text = f"{m.manifest.ref}: {d.output} is off by {d.mean:.2g} std on average, {d.max:.2g} at most"
            out.print(f"{text}, over {d.rows} rows{unusable}", highlight=False)


@app.command()
@reaching
def show(
    server: Server,
    model: Model,
    svg: Annotated[bool, typer.Option("--svg", help="Print a picture of a neural circuit policy's wiring.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one model: its tensors, time and scores.

    [bold]Examples[/]

      statestream models show wrist

      statestream models show wrist:3 --json

      statestream models show wrist --svg > wrist.svg
    """
    with server.connect() as client:
        manifest = client.get_model(*name_and_version(model)).manifest
    if svg:
        print(wiring_svg(manifest), end="")
    elif as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        describe(manifest)


@app.command()
@reaching
def load(
    server: Server,
    model: Model,
    policy: Annotated[
        UpgradePolicy,
        typer.Option(
            help="Live sessions: pin, they keep their version; carry, they move to the new one; shadow, the new "
            "version runs beside the active one and never answers."
        ),
    ] = UpgradePolicy.PIN,
) -> None:
    """Load a bundle from the server's repository and make it active, or the shadow of the active version.

    [bold]Examples[/]

      statestream models load wrist:4

      statestream models load wrist:4 --policy carry

      statestream models load wrist:4 --policy shadow
    """
    name, version = name_and_version(model)
    with server.connect() as client:
        change = client.admin.load_model(name, version, policy=policy)
    _print_change("loaded", name, change)


@app.command()
@reaching
def promote(server: Server, name: Name) -> None:
    """Make the shadow active; the sessions that it shadowed move to it.

    [bold]Example[/]

      statestream models promote wrist
    """
    with server.connect() as client:
        _print_change("promoted", name, client.admin.promote_model(name))


@app.command()
@reaching
def rollback(server: Server, name: Name) -> None:
    """Make the previously active version active again.

    Sessions move to it if compatible.

    [bold]Example[/]

      statestream models rollback wrist
    """
    with server.connect() as client:
        _print_change("rolled back to", name, client.admin.rollback_model(name))


@app.command()
@reaching
def unload(
    server: Server,
    model: Model,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its sessions are closed.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Move its sessions to another version.")] = False,
) -> None:
    """Stop serving a version, or drop the shadow.

    A version with open sessions needs --wait or --move.

    [bold]Examples[/]

      statestream models unload wrist:3

      statestream models unload wrist:3 --move
    """
    if wait and move:
        raise InvalidArgument("use one of them, not both", field="--wait --move")
    with server.connect() as client:
        policy = UnloadPolicy.WAIT if wait else UnloadPolicy.MOVE if move else UnloadPolicy.REFUSE
        client.admin.unload_model(*name_and_version(model), policy=policy)
    out.print(f"unloaded {model}", highlight=False)


def _print_change(done: str, name: str, change: ModelChange) -> None:
    stayed = f"; {change.stayed} sessions keep their version" if change.stayed else ""
    moved = f"; {change.moved} sessions moved to it" if change.moved else ""
    out.print(f"{done} {name}:{change.version}{moved}{stayed}", highlight=False)


def _facts(model: ModelInfo) -> dict[str, Any]:
    facts = {"name": model.name, "version": model.version, "role": model.role, "sessions": model.sessions}
    return facts | ({"divergence": [asdict(d) for d in model.divergence]} if model.divergence else {})


def describe(manifest: Manifest) -> None:
    """Print a manifest in readable form."""
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
            labels += f" ({t.unit})" if isinstance(t, OutputSpec) and t.unit else ""
            table.add_row(kind, t.name, "×".join(map(str, t.shape)) or "scalar", t.dtype, labels)
    out.print(table)
    time = manifest.time
    out.print(f"dt: nominal {time.nominal_s:g} s, from {time.min_s:g} to {time.max_s:g} s", highlight=False)
    for name, score in manifest.scores.items():
        out.print(f"{name}: {score:g}", highlight=False)


def _short(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{t.name} {'×'.join(map(str, t.shape))}" for t in tensors)
