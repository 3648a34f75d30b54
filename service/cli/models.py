"""`statestream models`: what a server serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from statestream.models.spec import Manifest, TensorSpec
from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, name_and_version, out, say_json
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
    """The models being served.

    [bold]Examples[/]

      statestream models list

      statestream models list --target robot:50051 --json
    """
    with server.connect() as client:
        models = client.list_models()
    if as_json:
        say_json([_facts(m) for m in models])
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
    """One model: its tensors, its time, how it was trained.

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
        say_json(manifest.model_dump(mode="json"))
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
            help="What becomes of live sessions: pin, they stay with their version; carry, they go on with the new "
            "one; shadow, the new version runs beside the active one and never answers."
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
    _say_change("loaded", name, change)


@app.command()
@reaching
def promote(server: Server, name: Name) -> None:
    """Make the shadow active; the sessions that it followed go on with it.

    [bold]Example[/]

      statestream models promote wrist
    """
    with server.connect() as client:
        _say_change("promoted", name, client.admin.promote_model(name))


@app.command()
@reaching
def rollback(server: Server, name: Name) -> None:
    """Make the version active that was so before; sessions go on with it if they can.

    [bold]Example[/]

      statestream models rollback wrist
    """
    with server.connect() as client:
        _say_change("rolled back to", name, client.admin.rollback_model(name))


@app.command()
@reaching
def unload(
    server: Server,
    model: Model,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its sessions are closed.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Have its sessions go on with another version.")] = False,
) -> None:
    """Stop serving a version, or drop the shadow; refused while it has sessions, unless told what becomes of them.

    [bold]Examples[/]

      statestream models unload wrist:3

      statestream models unload wrist:3 --move
    """
    if wait and move:
        raise InvalidArgument("either waits for the sessions or moves them", field="--wait --move")
    with server.connect() as client:
        policy = UnloadPolicy.WAIT if wait else UnloadPolicy.MOVE if move else UnloadPolicy.REFUSE
        client.admin.unload_model(*name_and_version(model), policy=policy)
    out.print(f"unloaded {model}", highlight=False)


def _say_change(done: str, name: str, change: ModelChange) -> None:
    stayed = f"; {change.stayed} sessions stay with their version" if change.stayed else ""
    moved = f"; {change.moved} sessions go on with it" if change.moved else ""
    out.print(f"{done} {name}:{change.version}{moved}{stayed}", highlight=False)


def _facts(model: ModelInfo) -> dict[str, Any]:
    facts = {"name": model.name, "version": model.version, "role": model.role, "sessions": model.sessions}
    return facts | ({"divergence": [asdict(d) for d in model.divergence]} if model.divergence else {})


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
