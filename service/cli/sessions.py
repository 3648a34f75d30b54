"""`statestream sessions`: lists and changes the sessions of a server."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, out, print_json
from statestream.service.errors import InvalidArgument

app = typer.Typer(no_args_is_help=True, help="The sessions of a server: list, show, snapshot, restore, reset, close.")
SessionId = Annotated[str, typer.Argument(help="The session's id.", metavar="ID")]


@app.command("list")
@reaching
def list_sessions(
    server: Server,
    model: Annotated[str, typer.Option(help="List only sessions of this model.")] = "",
    limit: Annotated[int, typer.Option(help="Most sessions to list.", min=1)] = 1000,
    as_json: AsJson = False,
) -> None:
    """List the sessions of a server.

    [bold]Examples[/]

      statestream sessions list

      statestream sessions list --model wrist --limit 20 --json
    """
    with server.connect() as client:
        page = client.admin.list_sessions(model, limit=limit)
    if as_json:
        print_json({"total": page.total, "sessions": [asdict(s) for s in page.sessions]})
        return
    table = Table("session", "model", "epoch", "settled", "acknowledged", "durable", "idle", "stream", box=None)
    for s in page.sessions:
        table.add_row(
            s.session_id,
            f"{s.model}:{s.version}",
            str(s.epoch),
            str(s.settled_seq),
            str(s.acked_seq),
            str(s.durable_seq),
            f"{s.idle_s:.1f} s",
            "yes" if s.attached else "no",
        )
    out.print(table)
    if page.total > len(page.sessions):
        out.print(f"{len(page.sessions)} of {page.total}; --limit shows more", highlight=False)


@app.command()
@reaching
def show(server: Server, session_id: SessionId, as_json: AsJson = False) -> None:
    """Show one session and its state.

    [bold]Example[/]

      statestream sessions show wrist-7
    """
    with server.connect() as client:
        info, state = client.admin.inspect_session(session_id)
    if as_json:
        print_json(asdict(info) | {"state": {name: array.tolist() for name, array in state.items()}})
        return
    for name, value in asdict(info).items():
        out.print(f"{name:18} {value}", highlight=False, markup=False)
    for name, array in state.items():
        shown = " ".join(f"{value:.4g}" for value in array[:8])
        more = f" … ({len(array)})" if len(array) > 8 else ""
        out.print(f"{'state ' + name:18} {shown}{more}", highlight=False, markup=False)


@app.command()
@reaching
def snapshot(server: Server, session_id: SessionId) -> None:
    """Write a session's snapshot to standard output, as bytes for `restore`.

    [bold]Example[/]

      statestream sessions snapshot wrist-7 > wrist-7.snapshot
    """
    if sys.stdout.isatty():
        raise InvalidArgument("a snapshot is binary; redirect it to a file: > FILE", field="stdout")
    with server.connect() as client:
        sys.stdout.buffer.write(client.admin.snapshot_session(session_id))


@app.command()
@reaching
def restore(
    server: Server,
    as_id: Annotated[
        str, typer.Option("--as", metavar="NEW_ID", help="Restore under another id: a fork.", show_default=False)
    ] = "",
) -> None:
    """Restore a session from a snapshot on standard input, on a server that has its model.

    [bold]Examples[/]

      statestream sessions restore < wrist-7.snapshot

      statestream sessions restore --as wrist-7-fork --target other:50051 < wrist-7.snapshot
    """
    with server.connect() as client:
        session = client.admin.restore_session(sys.stdin.buffer.read(), as_id)
    out.print(f"restored {session.session_id} at seq {session.settled_seq}", highlight=False, markup=False)


@app.command()
@reaching
def reset(server: Server, session_id: SessionId) -> None:
    """Reset a session to the model's initial state.

    [bold]Example[/]

      statestream sessions reset wrist-7
    """
    with server.connect() as client:
        client.admin.reset_session(session_id)
    out.print(f"reset {session_id}", highlight=False, markup=False)


@app.command()
@reaching
def close(server: Server, session_id: SessionId) -> None:
    """End a session; a stream that holds it gets a notice.

    [bold]Example[/]

      statestream sessions close wrist-7
    """
    with server.connect() as client:
        client.admin.close_session(session_id)
    out.print(f"closed {session_id}", highlight=False, markup=False)
