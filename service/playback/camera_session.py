"""Camera session: streams a live camera and shows, records and draws the results."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from statestream.models import jpeg
from statestream.models.data.recordings import Recording
from statestream.models.spec import NO_TIME, Array, InputSpec, Manifest
from statestream.service.client import AsyncSession, AsyncStream, Policy, StepResult, Verdict
from statestream.service.errors import InvalidArgument, Unavailable
from statestream.service.playback.cameras import Camera, Shot, shown
from statestream.service.playback.play import Played
from statestream.service.playback.session_names import session_name
from statestream.service.playback.video_overlay import drawn_row, film_writer, scale_of

_QUALITY = 90
_LAST_S = 2.0
"""Longest wait for the session to close, and for outstanding results, in seconds."""


class Heard(NamedTuple):
    """A frame and its result."""

    shot: Shot
    result: StepResult
    mean_hz: float
    """Mean frames per second so far."""


OnHeard = Callable[[Heard], object]


class Diary:
    """Results of every frame, without pictures: some thirty bytes each, as a camera may run for days."""

    def __init__(self, source: str, outputs: int) -> None:
        self.verdicts: Counter[str] = Counter()
        self._source, self._outputs = source, outputs
        self._t_ns, self._verdict = array("q"), array("b")
        self._dt_s, self._y, self._latency_s = array("f"), array("f"), array("d")

    def add(self, heard: Heard) -> None:
        """Add a frame's result."""
        result = heard.result
        self.verdicts[result.verdict.name] += 1
        self._t_ns.append(heard.shot.t_ns)
        self._verdict.append(int(result.verdict))
        self._dt_s.append(result.dt_s)
        self._y.extend(_output(result, self._outputs).tolist())
        self._latency_s.append(result.latency_s)

    def played(self) -> Played:
        """Convert to the form of a played recording."""
        t_ns = np.array(self._t_ns, np.int64)
        return Played(
            Recording(self._source, t_ns, np.zeros((len(t_ns), 0), np.float32)),
            output=np.array(self._y, np.float32).reshape(-1, self._outputs),
            verdict=np.array(self._verdict, np.int64),
            dt_s=np.array(self._dt_s, np.float32),
            latency_s=list(self._latency_s),
            done=len(t_ns),
        )


async def play_camera(
    stream: AsyncStream,
    manifest: Manifest,
    source: str,
    *,
    seconds: float | None,
    stop: asyncio.Event,
    video: Path | None,
    console: Console,
) -> Played:
    """Stream a camera until it ends, for `seconds`, or until `stop`.

    Args:
        video: file to write the annotated frames to; None: none is written.

    Raises:
        InvalidArgument: the model takes pictures of more than 8 bits.
        Unavailable: there is no such camera, it was disconnected, or no frame was answered.
    """
    spec, output = manifest.inputs[0], manifest.outputs[0]
    size = (spec.shape[0], spec.shape[1])
    if spec.picture_range is not None:
        raise InvalidArgument(f"{manifest.ref} takes pictures of more than 8 bits, a camera has 8", field="--model")
    diary = Diary(shown(source), output.size)
    async with AsyncExitStack() as stack:
        camera = Camera(source, size)
        stack.callback(camera.close)
        callbacks: list[OnHeard] = [diary.add, stack.enter_context(_status(console, manifest, diary, camera))]
        if video is not None:
            callbacks.append(stack.enter_context(_drawing(video, size, camera.rate_hz, output.size)))
        session = await stream.open(
            manifest.name,
            session_name(shown(source)),
            version=manifest.version,
            resume="new",
            policy=Policy(keep_last=1),
            on_full="lose",
        )
        await _play(session, camera, spec, seconds, stop, callbacks)
    if not diary.verdicts:
        raise Unavailable(f"{shown(source)}: no frame arrived", field="SOURCE")
    return diary.played()


async def _play(
    session: AsyncSession,
    camera: Camera,
    spec: InputSpec,
    seconds: float | None,
    stop: asyncio.Event,
    callbacks: list[OnHeard],
) -> None:
    sent: deque[Shot] = deque()
    receiving = asyncio.create_task(_receive(session, sent, callbacks))
    sending = asyncio.create_task(_send(session, camera, spec, sent))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([receiving, sending, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        await asyncio.wait([sending])
        if not receiving.done():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(session.close(end_session=True), _LAST_S)
            await asyncio.wait([receiving], timeout=_LAST_S)
    finally:
        for task in (receiving, sending, stopped):
            task.cancel()
        ends = await asyncio.gather(receiving, sending, stopped, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _send(session: AsyncSession, camera: Camera, spec: InputSpec, sent: deque[Shot]) -> None:
    async for shot in camera.shots():
        row = shot.pixels if spec.encoding == "raw" else await asyncio.to_thread(_encoded, shot.pixels)
        sent.append(shot)  # Before `send`, as the result may arrive during it.
        await session.send(row, shot.t_ns)


def _encoded(pixels: Array) -> bytes:
    # A JPEG has no order of colours: the server decodes it to the model's order.
    return jpeg.encode(pixels, quality=_QUALITY)


async def _receive(session: AsyncSession, sent: deque[Shot], callbacks: list[OnHeard]) -> None:
    begin_s = time.monotonic()
    async for result in session.results():
        heard = Heard(sent.popleft(), result, result.seq / max(time.monotonic() - begin_s, 1e-3))
        for callback in callbacks:
            callback(heard)


def _output(result: StepResult, size: int) -> Array:
    """The first output, `[size]`; NaN: the row has none."""
    return result.y.reshape(-1) if result.verdict is Verdict.APPLIED else np.full(size, np.nan, np.float32)


@contextmanager
def _status(console: Console, manifest: Manifest, diary: Diary, camera: Camera) -> Iterator[OnHeard]:
    """Yield a callback that updates a status line on a terminal."""
    output = manifest.outputs[0]
    names = output.labels or tuple(str(k) for k in range(output.size))
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:

        def show(heard: Heard) -> None:
            y = _output(heard.result, output.size).tolist()
            values = "  ".join(f"{name} {value:+.3f}" for name, value in zip(names, y, strict=True))
            counts = ", ".join(f"{name} {count}" for name, count in diary.verdicts.items())
            live.update(
                Text(
                    f"{values}   {heard.mean_hz:.1f} frames/s, {heard.result.latency_s * 1e3:.1f} ms   {counts}, "
                    f"{camera.passed_over} skipped"
                )
            )

        yield show


@contextmanager
def _drawing(path: Path, size: tuple[int, int], rate_hz: float, outputs: int) -> Iterator[OnHeard]:
    """Yield a callback that draws each result into its frame and writes a video at the camera's times."""
    scale, largest, begin_ns = scale_of(size), 1e-9, NO_TIME
    with film_writer(path, size, rate_hz) as add:

        def draw(heard: Heard) -> None:
            nonlocal largest, begin_ns
            y = _output(heard.result, outputs)
            largest = max(largest, float(np.nanmax(np.abs(y), initial=0.0)))
            begin_ns = heard.shot.t_ns if begin_ns == NO_TIME else begin_ns
            add(drawn_row(heard.shot.pixels, scale, y, None, largest), (heard.shot.t_ns - begin_ns) * 1e-9)

        yield draw
