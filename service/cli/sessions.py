"""`statestream sessions`: what a server holds of its clients."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from statestream.service.cli.console import DEFAULT_TARGET, AsJson, Target, out, quiet_grpc, say_json

app = typer.Typer(no_args_is_help=True, help="The sessions of a server: list, show, reset, close.")
SessionId = Annotated[str, typer.Argument(help="The session's id.", metavar="ID")]


@app.command("list")
def list_sessions(
    model: Annotated[str, typer.Option(help="Only those of this model.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 1000,
    target: Target = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """The sessions that a server holds.

    [bold]Examples[/]

      statestream sessions list

      statestream sessions list --model wrist --limit 20 --json
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        page = client.admin.list_sessions(model, limit=limit)
    if as_json:
        say_json({"total": page.total, "sessions": [asdict(s) for s in page.sessions]})
        return
    table = Table("session", "model", "epoch", "settled", "acknowledged", "idle", "stream", box=None)
    for s in page.sessions:
        table.add_row(
            s.session_id,
            f"{s.model}:{s.version}",
            str(s.epoch),
            str(s.settled_seq),
            str(s.acked_seq),
            f"{s.idle_s:.1f} s",
            "yes" if s.attached else "no",
        )
    out.print(table)
    if page.total > len(page.sessions):
        out.print(f"{len(page.sessions)} of {page.total}; --limit shows more", highlight=False)


@app.command()
def show(session_id: SessionId, target: Target = DEFAULT_TARGET, as_json: AsJson = False) -> None:
    """One session and its state.

    [bold]Example[/]

      statestream sessions show wrist-7
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        info, state = client.admin.inspect_session(session_id)
    if as_json:
        say_json(asdict(info) | {"state": {name: array.tolist() for name, array in state.items()}})
        return
    for name, value in asdict(info).items():
        out.print(f"{name:18} {value}", highlight=False, markup=False)
    for name, array in state.items():
        shown = " ".join(f"{value:.4g}" for value in array[:8])
        more = f" … ({len(array)})" if len(array) > 8 else ""
        out.print(f"{'state ' + name:18} {shown}{more}", highlight=False, markup=False)


@app.command()
def reset(session_id: SessionId, target: Target = DEFAULT_TARGET) -> None:
    """Set a session's state back to the initial one.

    [bold]Example[/]

      statestream sessions reset wrist-7
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        client.admin.reset_session(session_id)
    out.print(f"reset {session_id}", highlight=False, markup=False)


@app.command()
def close(session_id: SessionId, target: Target = DEFAULT_TARGET) -> None:
    """End a session; a stream that holds it is told.

    [bold]Example[/]

      statestream sessions close wrist-7
    """
    quiet_grpc()
    from statestream.service.client import connect

    with connect(target) as client:
        client.admin.close_session(session_id)
    out.print(f"closed {session_id}", highlight=False, markup=False)
