"""`statestream loadtest`: measures a server's latency under load, by an open-loop schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, err, name_and_version, out, print_json
from statestream.service.cli.interrupts import stopping
from statestream.service.cli.progress_lines import ProgressLines
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.models.spec import Manifest
    from statestream.service.loadtest.capacity_search import Found, Probe
    from statestream.service.loadtest.coordinator import Outcome
    from statestream.service.loadtest.plan import Plan

INTERRUPTED = 130


@reaching
def loadtest(
    server: Server,
    model: Annotated[str, typer.Option(help="NAME or NAME:VERSION.")],
    streams: Annotated[int, typer.Option(help="gRPC streams, each with its own connection.")] = 1,
    rate_hz: Annotated[float, typer.Option(help="Messages per second on each stream.")] = 10.0,
    duration: Annotated[float, typer.Option(help="Seconds measured.")] = 10.0,
    warmup: Annotated[float, typer.Option(help="Seconds of load before the measured window.")] = 2.0,
    arrival: Annotated[str, typer.Option(help="fixed, poisson or trace.")] = "fixed",
    trace: Annotated[
        Path | None, typer.Option(help="File of seconds at which a stream sends, one per line; for --arrival trace.")
    ] = None,
    chunk: Annotated[int, typer.Option(help="Rows per session in a message.")] = 1,
    channels_per_stream: Annotated[
        int, typer.Option(help="Sessions per stream; every message has rows of all of them.")
    ] = 1,
    max_inflight: Annotated[
        int | None, typer.Option(help="Most unanswered messages of a stream.", show_default="the server's credit")
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(help="Answers later than this are misses.", show_default="none")
    ] = None,
    reconnect_every: Annotated[
        float | None, typer.Option(help="Seconds after which a stream reconnects and resumes.", show_default="never")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every output with an offline rollout.")] = False,
    repository: Annotated[Path, typer.Option(help="Folder of bundles for --verify.")] = Path("repository"),
    frames: Annotated[
        str | None,
        typer.Option(
            help="Pictures for a model that takes JPEG: a video, a folder, a tub, or synthetic:WIDTHxHEIGHT.",
            show_default="none",
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Find how many streams keep their p99 under --deadline-ms.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the data and the arrivals.")] = 0,
    processes: Annotated[int, typer.Option(help="Processes that run the streams.")] = 1,
    sender: Annotated[
        str, typer.Option(help="What sends: auto, native or grpc; native takes a fraction of the CPU time.")
    ] = "auto",
    server_pid: Annotated[
        list[int] | None,
        typer.Option(help="Process id of the server, may be repeated.", show_default="the local listener"),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write latency over time, or the probes of a search, to this file.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a server by a fixed schedule and report the latency of its answers.

    Latency counts from a message's due time, not from when it could be sent, so that a stalled server cannot hide it.
    Ctrl-C ends the run and reports what was measured. Exit code 1: outputs were wrong, or no message was answered.

    [bold]Examples[/]

      statestream loadtest --model wrist --streams 64 --rate-hz 50 --duration 30 --html report.html

      statestream loadtest --model wrist --streams 8 --rate-hz 100 --verify --repository repository --json

      statestream loadtest --model wrist --rate-hz 50 --deadline-ms 20 --search --streams 16

      statestream loadtest --model wrist --streams 4 --channels-per-stream 64 --chunk 4 --arrival poisson

      statestream loadtest --model lane --frames synthetic:160x120 --rate-hz 30 --deadline-ms 33 --search
    """
    need("statestream.service.loadtest.coordinator", "loadtest")
    from statestream.service.loadtest.plan import Plan, read_trace

    if (arrival == "trace") != (trace is not None):
        raise InvalidArgument("--arrival trace and --trace FILE go together", field="--arrival")
    if search and not deadline_ms:
        raise InvalidArgument("--search needs --deadline-ms", field="--search")
    name, version = name_and_version(model)
    plan = Plan.of(
        target=server.target, access=server.access, model=name, version=version, streams=streams, rate_hz=rate_hz,
        duration_s=duration, warmup_s=warmup, arrival=arrival, trace_s=read_trace(trace) if trace else (), chunk=chunk,
        channels=channels_per_stream, max_inflight=max_inflight or 0, deadline_ms=deadline_ms or 0.0,
        reconnect_every_s=reconnect_every or 0.0, verify=repository if verify else None, seed=seed,
        processes=processes, sender=sender,
    )  # fmt: skip
    outcome, found, interrupted = asyncio.run(_run(plan, server_pid or [], frames, search=search))
    why = _print_report(outcome, found, csv, html, as_json=as_json)
    if why:
        err.print(f"[bold red]failed:[/] {why}", highlight=False, soft_wrap=True)
    if why or interrupted:
        raise typer.Exit(INTERRUPTED if interrupted else 1)


async def _run(
    plan: Plan, server_pids: list[int], source: str | None, *, search: bool
) -> tuple[Outcome, Found | None, bool]:
    from statestream.service.loadtest.connection import fetch_manifest
    from statestream.service.loadtest.coordinator import run_load
    from statestream.service.loadtest.live_view import live_view
    from statestream.service.loadtest.process_usage import ProcessMonitor, listening

    manifest = await fetch_manifest(plan)
    if plan.verify is not None:
        # Pin the version: outputs are compared with one bundle, and the server may activate another meanwhile.
        plan = plan.model_copy(update={"version": manifest.version, "verify": _bundle(plan.verify, manifest)})
    frames = _frames(source, manifest)
    watch = ProcessMonitor(server_pids or listening(plan.target))
    with stopping() as stop, live_view(err, ProgressLines(err).show) as on_progress:

        async def run(load: Plan) -> Outcome:
            return await run_load(load, manifest, watch=watch, stop=stop, on_progress=on_progress, frames=frames)

        if not search:
            outcome = await run(plan)
            return outcome, None, stop.is_set()

        async def try_streams(count: int) -> Outcome:
            probe = plan.model_copy(update={"streams": count, "processes": min(plan.processes, count)})
            outcome = await run(probe)
            if stop.is_set():
                raise Interrupted(outcome)
            outcomes[count] = outcome
            return outcome

        outcomes: dict[int, Outcome] = {}
        return await _search(plan, try_streams, outcomes)


def _frames(source: str | None, manifest: Manifest) -> dict[str, Sequence[bytes]]:
    """Pictures of a source, by encoded input of the model.

    Raises:
        InvalidArgument: the model takes no pictures, or it does and there is no source.
    """
    from statestream.service.cli.loadtest_frames import frames_for

    if source is not None:
        return frames_for(source, manifest)
    if manifest.encoded_inputs:
        names = ", ".join(manifest.encoded_inputs)
        raise InvalidArgument(
            f"{manifest.ref} takes JPEG ({names}); give a video, a folder or synthetic:WIDTHxHEIGHT", field="--frames"
        )
    return {}


class Interrupted(Exception):
    """Ctrl-C during a search, with the outcome of the interrupted probe."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("interrupted")
        self.outcome = outcome


async def _search(plan: Plan, try_streams: Any, outcomes: dict[int, Outcome]) -> tuple[Outcome, Found, bool]:
    from statestream.service.loadtest.capacity_search import Found, search

    probes: list[Probe] = []

    def on_probe(probe: Probe) -> None:
        probes.append(probe)
        verdict = "holds" if probe.held else "too many" if probe.stable else "unstable"
        err.print(
            f"{probe.streams:7d} streams  p50 {probe.p50_ms:8.2f} ms  p99 {probe.p99_ms:8.2f} ms  {verdict}",
            highlight=False,
        )

    try:
        found = await search(try_streams, plan.deadline_ms, plan.streams, on_probe)
    except Interrupted as stop:
        held = [probe.streams for probe in probes if probe.held]
        return stop.outcome, Found(max(held, default=0), tuple(probes)), True
    return outcomes.get(found.streams) or outcomes[found.probes[-1].streams], found, False


def _bundle(repository: Path, manifest: Manifest) -> Path:
    """Find the bundle that the server runs in a repository and compare the hashes of its files.

    Raises:
        InvalidArgument: the bundle is missing, or differs.
    """
    from statestream.models.bundle import MANIFEST, BundleError, read_manifest

    path = repository if (repository / MANIFEST).is_file() else repository / manifest.name / str(manifest.version)
    try:
        files = read_manifest(path).files
    except (BundleError, OSError) as error:
        raise InvalidArgument(f"{error}", field="--repository") from error
    if files != manifest.files:
        raise InvalidArgument(f"{path} is not the bundle that the server runs: the files differ", field="--repository")
    return path.resolve()


def _print_report(outcome: Outcome, found: Found | None, csv: Path | None, html: Path | None, *, as_json: bool) -> str:
    """Print and write the report.

    Returns why the run failed, empty: it did not.
    """
    from statestream.service.loadtest.html_report import write_html
    from statestream.service.loadtest.report import failed, report, write_csv
    from statestream.service.loadtest.summary import facts

    run = report(outcome)
    run["search"] = None if found is None else asdict(found) | {"by_tool": found.by_tool, "sure": found.sure}
    lines = facts(outcome.plan, run, found)
    if as_json:
        print_json(run)
    else:
        for name, text in lines:
            out.print(f"{name:14}{text}", highlight=False, markup=False)
    limits = run["tool"]["bottleneck"] if found is None else found.by_tool
    if limits:
        err.print(f"[bold yellow]the load test itself is the bottleneck:[/] {limits}", highlight=False, soft_wrap=True)
    if csv is not None:
        write_csv(csv, run["seconds"] if found is None else [asdict(probe) for probe in found.probes])
    if html is not None:
        write_html(html, lines, run, outcome.tally.latency, found)
    return failed(outcome)
