"""`statestream stream`: plays recordings or a camera through a server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statestream.models.spec import Float32Array, Manifest
from statestream.service.cli.connect_options import Server, reaching
from statestream.service.cli.console import AsJson, err, name_and_version, out, print_json
from statestream.service.cli.interrupts import stopping
from statestream.service.cli.progress_lines import ProgressLines
from statestream.service.cli.split_part import Part, columns_of, part_of, trained_with
from statestream.service.cli.time_units import unit_given
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.models.data.recordings import Columns, Recording
    from statestream.service.client import AsyncClient, AsyncStream
    from statestream.service.playback.play import Played
    from statestream.service.playback.score import Score

_CLOSE_S = 2.0
_GIVE_UP_AFTER_S = 60.0
_RERUN = ".rrd"
_NEEDED = {".mcap": ("mcap_ros2.writer", "mcap"), ".parquet": ("pyarrow.parquet", "train"), _RERUN: ("rerun", "rerun")}
"""Modules that write predictions, and the extras that have them, by the suffix of the file."""


@reaching
def stream(
    server: Server,
    source: Annotated[
        str,
        typer.Argument(
            help="A recording of any format that is read (docs/formats.md), or a folder of them; webcam:NUMBER or rtsp://…"
        ),
    ],
    model: Annotated[str, typer.Option(help="NAME or NAME:VERSION.")],
    rate: Annotated[str, typer.Option(help="real, max, or a multiple such as 2x.")] = "max",
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write predictions to this CSV, Parquet, MCAP or Rerun (.rrd) file; the last with inputs and states.",
            show_default="for a robot log, NAME.predictions.mcap beside it",
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Write the frames with predicted and true values to this MP4 file.")
    ] = None,
    target_column: Annotated[
        list[str] | None, typer.Option("--target-column", help="Column to predict, may be repeated.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Columns, separated by commas.", show_default="the names of the model's input")
    ] = None,
    recording: Annotated[str, typer.Option(help="Column of recording ids.", show_default="recording")] = "",
    group: Annotated[str, typer.Option(help="Column of people, vehicles, …; not used as a feature.")] = "",
    only: Annotated[list[str] | None, typer.Option(help="Play only this recording, may be repeated.")] = None,
    split: Annotated[
        Part | None,
        typer.Option(help="Play only this part of the recordings, split as in the model's training, with its columns."),
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="File of another sensor, at its own rate, may be repeated.")
    ] = None,
    time: Annotated[str, typer.Option(help="Column of timestamps.", show_default="timestamp_ns, t_ns, …")] = "",
    time_unit: Annotated[str | None, typer.Option(help="ns, us, ms or s.", show_default="by the column")] = None,
    period: Annotated[float | None, typer.Option(help="Seconds between rows without timestamps.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long to stream a camera.", show_default="until Ctrl-C")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play every recording of a file through its own session, and report scores; with --rate, latency too.

    A model of the next row is scored against the row that follows.

    A camera is streamed live (keep_last 1): when frames arrive faster than they are run, older ones are dropped.

    The columns of a robot log are fields of its messages, TOPIC.FIELD: /imu/data.angular_velocity.x.

    [bold]Examples[/]

      statestream stream walk.csv --model wrist

      statestream stream recordings/ --model wrist:3 --rate 2x --target-column exercise --out predictions.csv

      statestream stream recordings/ --model wrist --split test

      statestream stream log.parquet --model wheel --features speed,current --time stamp --time-unit ms

      statestream stream drive.mcap --model terrain --target-column /terrain.data

      statestream stream log.parquet --model wheel --out predictions.parquet

      statestream stream log.parquet --model wheel --out seen.rrd

      statestream stream imu.parquet --merge wheels.parquet --model rover --recording run

      statestream stream drive.mp4 --model lane --target-column angle --rate real --video annotated.mp4

      statestream stream webcam:0 --model lane --video seen.mp4

      statestream stream rtsp://camera.local/stream1 --model lane --seconds 60 --out predictions.csv
    """
    from statestream.models.data.formats import is_robot_log
    from statestream.models.data.recordings import Columns
    from statestream.service.playback.cameras import is_camera
    from statestream.service.playback.play import rate_of
    from statestream.service.playback.prediction_log import beside
    from statestream.service.playback.video_overlay import write_video

    _check_out(predictions, is_live=is_camera(source))
    if is_camera(source):
        of_files = {
            "--rate": rate != "max",
            "--target-column": target_column,
            "--features": features,
            "--only": only,
            "--split": split,
        }
        _check_none(
            {**of_files, "--merge": merge, "--time": time, "--period": period}, "only for files, not for cameras"
        )
        manifest, one = asyncio.run(_play_camera(server, model, source, seconds, video))
        _report(manifest, [one], as_json=as_json, paced=True)
        _write(predictions, manifest, [one])
        _print_written(video)
        return
    _check_none({"--seconds": seconds}, "only for cameras, not for files")
    file = Path(source)
    speed = rate_of(rate)
    columns = Columns(
        features=tuple(name.strip() for name in features.split(",")) if features else (),
        target=tuple(target_column or ()),
        recording=recording,
        group=group,
        time=time,
        time_unit=unit_given(time_unit),
        period_s=period,
    )
    files = [file, *(merge or ())]
    states = _suffix(predictions) == _RERUN
    manifest, played = asyncio.run(_play_files(server, model, files, columns, speed, only or [], split, video, states))
    _report(manifest, played, as_json=as_json, paced=math.isfinite(speed))
    if predictions is None and is_robot_log(file):
        predictions = beside(file)
    _write(predictions, manifest, played)
    if video is not None:
        write_video(video, played, manifest.inputs[0].frame or (0, 0))
    _print_written(video)


def _check_none(given: Mapping[str, object], why: str) -> None:
    """Raise InvalidArgument with `why` for the first option that was given."""
    for option, value in given.items():
        if value:
            raise InvalidArgument(why, field=option)


def _check_out(path: Path | None, *, is_live: bool) -> None:
    """Raise an error if the predictions could not be written, before anything is played."""
    if _suffix(path) == _RERUN and is_live:
        raise InvalidArgument(
            "a Rerun file has the states after each row, only for files, not for cameras", field="--out"
        )
    if _suffix(path) in _NEEDED:
        need(*_NEEDED[_suffix(path)])


def _write(path: Path | None, manifest: Manifest, played: Sequence[Played]) -> None:
    """Write predictions to `path`; None: write nothing."""
    from statestream.service.playback.prediction_log import write_prediction_log
    from statestream.service.playback.prediction_table import write_prediction_table
    from statestream.service.playback.rerun_recording import write_rerun
    from statestream.service.playback.score import write_predictions

    if path is None:
        return
    others = {".mcap": write_prediction_log, ".parquet": write_prediction_table, _RERUN: write_rerun}
    if _suffix(path) in others:
        others[_suffix(path)](path, played, manifest)
    else:
        write_predictions(path, played, manifest.outputs[0])
    _print_written(path)


def _suffix(path: Path | None) -> str:
    return "" if path is None else path.suffix.lower()


def _print_written(path: Path | None) -> None:
    if path is not None:
        err.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)


async def _play_camera(
    server: Server, model: str, source: str, seconds: float | None, video: Path | None
) -> tuple[Manifest, Played]:
    from statestream.service.client import AsyncClient
    from statestream.service.playback.camera_session import play_camera

    name, version = name_and_version(model)
    async with AsyncClient(server.target, access=server.access, give_up_after_s=_GIVE_UP_AFTER_S) as client:
        manifest = (await client.get_model(name, version)).manifest
        if len(manifest.inputs) > 1 or manifest.inputs[0].frame is None:
            raise InvalidArgument(f"{manifest.ref}, expected a model with one input, of pictures", field="--model")
        if video is not None:
            _check_video(video, manifest)
        async with client.stream() as stream:
            with stopping() as stop:
                played = await play_camera(
                    stream, manifest, source, seconds=seconds, stop=stop, video=video, console=err
                )
            return manifest, played


async def _play_files(
    server: Server,
    model: str,
    files: Sequence[Path],
    columns: Columns,
    rate: float,
    only: Sequence[str],
    split: Part | None,
    video: Path | None,
    states: bool,
) -> tuple[Manifest, list[Played]]:
    from statestream.service.client import AsyncClient
    from statestream.service.playback.dataset import kept, read
    from statestream.service.playback.play import play_session
    from statestream.service.playback.progress import progress_of
    from statestream.service.playback.session_names import session_name

    name, version = name_and_version(model)
    async with AsyncClient(server.target, access=server.access, give_up_after_s=_GIVE_UP_AFTER_S) as client:
        manifest = (await client.get_model(name, version)).manifest
        if video is not None:
            _check_video(video, manifest)
        if split is None:
            dataset = read(files[0], columns, manifest, only, files[1:])
        else:
            config = trained_with(manifest)
            dataset = part_of(read(files[0], columns_of(config, columns), manifest, (), files[1:]), config, split)
            dataset = kept(dataset, only)
        read_state, outputs = (partial(_state, client), tuple(manifest.results)) if states else (None, ())
        async with client.stream() as stream:
            say = ProgressLines(err).show
            with progress_of(dataset.recordings, lambda: stream.reconnects, err, say) as on_progress:

                async def play(recording: Recording) -> Played:
                    session = await stream.open(
                        name,
                        session_name(str(files[0]), recording.id),
                        version=manifest.version,
                        resume="new",
                        outputs=outputs,
                    )
                    return await play_session(session, recording, rate, on_progress, read_state)

                plays = [asyncio.ensure_future(play(recording)) for recording in dataset.recordings]
                try:
                    played = await asyncio.gather(*plays)
                finally:
                    await _clean_up(stream, plays)
    return manifest, played


async def _state(client: AsyncClient, session_id: str) -> Mapping[str, Float32Array]:
    _, state = await client.admin.inspect_session(session_id)
    return state


def _check_video(path: Path, manifest: Manifest) -> None:
    from statestream.service.playback.video_overlay import check_drawable

    if manifest.inputs[0].frame is None:
        raise InvalidArgument(f"{manifest.ref} takes no pictures", field="--video")
    check_drawable(path, manifest.outputs[0])


async def _clean_up(stream: AsyncStream, plays: Sequence[asyncio.Future[Played]]) -> None:
    """End all sessions on the server, also after an interrupt."""
    for each in plays:
        each.cancel()
    await asyncio.gather(*plays, return_exceptions=True)
    closing = [session.close(end_session=True) for session in stream.sessions]
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _CLOSE_S)


def _report(manifest: Manifest, played: Sequence[Played], *, as_json: bool, paced: bool) -> None:
    """Print the scores; `paced`: rows had due times, so that latencies are of the server, not of its load."""
    from statestream.service.playback.score import score

    result = score(played, manifest.outputs[0])
    if as_json:
        print_json({"model": manifest.ref, **asdict(result)})
    else:
        _print(manifest, result, paced=paced)


def _print(manifest: Manifest, result: Score, *, paced: bool) -> None:
    lines = [f"{result.recordings} recordings, {result.rows} rows through {manifest.ref}"]
    lines.append("verdicts      " + ", ".join(f"{name} {count}" for name, count in result.verdicts.items()))
    if paced:
        lines.append(f"latency       p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms")
    if result.row_accuracy is not None:
        whole = f", {result.accuracy:.3f} of recordings" if result.accuracy is not None else ""
        lines.append(f"accuracy      {result.row_accuracy:.3f} of rows{whole}")
    if result.mse is not None:
        r2 = "undefined: the target is constant" if result.r2 is None else f"{result.r2:.4f}"
        lines.append(f"mse           {result.mse:.6g}, R² {r2}")
    for line in lines:
        out.print(line, highlight=False, markup=False)
