"""`statestream replay`: runs recorded sessions through a bundle and compares outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from statestream.service.cli.console import AsJson, err, name_and_version, out, print_json


def replay(
    recording: Annotated[Path, typer.Argument(help="Folder that `serve --record` wrote to.", metavar="DIR")],
    against: Annotated[
        str, typer.Option(help="NAME or NAME:VERSION of the bundle to run; by default the newest version.")
    ],
    repository: Annotated[Path, typer.Option(help="Folder of bundles, NAME/VERSION/.")] = Path("repository"),
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest allowed error, in standard deviations of an output.", show_default="the bundle's own"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded sessions through a bundle and report where its outputs first differ.

    Exit code 1: an output differs.

    [bold]Examples[/]

      statestream serve repository --record recordings

      statestream replay recordings --against wrist

      statestream replay recordings --against wrist:4 --repository repository --tolerance 1e-3 --json
    """
    from statestream.models.bundle import Bundle, versions
    from statestream.service.engine.onnx import Engine
    from statestream.service.errors import NotFound
    from statestream.service.recording.replay import Replayer, recordings

    name, version = name_and_version(against)
    found = recordings(recording, name)
    there = versions(repository, name)
    if not there or (version and version not in there):
        raise NotFound(f"'{against}'; {repository} has {there or 'no version'} of it", field="--against")
    engine = Engine.load(Bundle.open(repository / name / str(version or there[-1])))
    run = Replayer(engine, engine.manifest.tolerance if tolerance is None else tolerance)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("replaying", total=sum(len(one.segments) for one in found))
        for one in found:
            run.run(one, lambda: progress.advance(task))
    sessions = sorted(run.sessions.values(), key=lambda session: session.session)
    if as_json:
        shown = [session.to_dict() for session in sessions]
        print_json({"against": engine.manifest.ref, "tolerance": run.tolerance, "sessions": shown})
    else:
        table = Table("session", "rows", "not run", "largest error", "first difference", box=None)
        for s in sessions:
            where = "none"
            if s.first is not None:
                d = s.first
                where = f"seq {d.seq}, {d.output}[{d.element}]: {d.recorded:g} recorded, {d.got:g} now"
            table.add_row(s.session, str(s.rows), str(s.missing_rows), f"{s.max_error:.2g}", where)
        out.print(table)
    if any(session.first is not None for session in sessions):
        raise typer.Exit(1)
