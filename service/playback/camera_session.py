"""A camera through the service as it sees: every frame that can be sent in time, and what the model says of it."""

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
from statestream.service.errors import Unavailable
from statestream.service.playback.cameras import Camera, Shot, shown
from statestream.service.playback.play import Played
from statestream.service.playback.video_overlay import drawn_row, film_writer, scale_of

_QUALITY = 90
_LAST_S = 2.0
"""How long the end of the session, and answers still to come, are waited for."""


class Heard(NamedTuple):
    """A frame and what became of it."""

    shot: Shot
    result: StepResult
    mean_hz: float
    """Frames a second so far."""


OnHeard = Callable[[Heard], object]


class Diary:
    """What became of every frame, in some thirty bytes each: a camera may run for days. Pictures are not kept."""

    def __init__(self, source: str, outputs: int) -> None:
        self.verdicts: Counter[str] = Counter()
        self._source, self._outputs = source, outputs
        self._t_ns, self._verdict = array("q"), array("b")
        self._dt_s, self._y, self._latency_s = array("f"), array("f"), array("d")

    def add(self, heard: Heard) -> None:
        """One frame more."""
        result = heard.result
        self.verdicts[result.verdict.name] += 1
        self._t_ns.append(heard.shot.t_ns)
        self._verdict.append(int(result.verdict))
        self._dt_s.append(result.dt_s)
        self._y.extend(_output(result, self._outputs).tolist())
        self._latency_s.append(result.latency_s)

    def played(self) -> Played:
        """As of a recording."""
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
    """Stream a camera until it ends, for `seconds`, or until `stop`; `video`: where to draw what it saw.

    Raises:
        Unavailable: there is no such camera, or it went away.
    """
    spec, output = manifest.inputs[0], manifest.outputs[0]
    size = (spec.shape[0], spec.shape[1])
    diary = Diary(shown(source), output.size)
    async with AsyncExitStack() as stack:
        camera = Camera(source, size)
        stack.callback(camera.close)
        hears: list[OnHeard] = [diary.add, stack.enter_context(_status(console, manifest, diary, camera))]
        if video is not None:
            hears.append(stack.enter_context(_drawing(video, size, camera.rate_hz, output.size)))
        session = await stream.open(manifest.name, version=manifest.version, policy=Policy(keep_last=1), on_full="lose")
        await _play(session, camera, spec, seconds, stop, hears)
    if not diary.verdicts:
        raise Unavailable(f"{shown(source)}: no picture came", field="SOURCE")
    return diary.played()


async def _play(
    session: AsyncSession,
    camera: Camera,
    spec: InputSpec,
    seconds: float | None,
    stop: asyncio.Event,
    hears: list[OnHeard],
) -> None:
    sent: deque[Shot] = deque()
    hearing = asyncio.create_task(_hear(session, sent, hears))
    sending = asyncio.create_task(_send(session, camera, spec, sent))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([hearing, sending, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        await asyncio.wait([sending])
        if not hearing.done():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(session.close(end_session=True), _LAST_S)
            await asyncio.wait([hearing], timeout=_LAST_S)
    finally:
        for task in (hearing, sending, stopped):
            task.cancel()
        ends = await asyncio.gather(hearing, sending, stopped, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _send(session: AsyncSession, camera: Camera, spec: InputSpec, sent: deque[Shot]) -> None:
    async for shot in camera.shots():
        row = shot.pixels if spec.encoding == "raw" else await asyncio.to_thread(_encoded, shot.pixels)
        sent.append(shot)  # before its answer can come
        await session.send(row, shot.t_ns)


def _encoded(pixels: Array) -> bytes:
    # A JPEG has no order of colours: the server decodes it into the model's.
    return jpeg.encode(pixels, quality=_QUALITY)


async def _hear(session: AsyncSession, sent: deque[Shot], hears: list[OnHeard]) -> None:
    begin_s = time.monotonic()
    async for result in session.results():
        heard = Heard(sent.popleft(), result, result.seq / max(time.monotonic() - begin_s, 1e-3))
        for hear in hears:
            hear(heard)


def _output(result: StepResult, size: int) -> Array:
    """`[size]` of the first output; NaN where there is none."""
    return result.y.reshape(-1) if result.verdict is Verdict.APPLIED else np.full(size, np.nan, np.float32)


@contextmanager
def _status(console: Console, manifest: Manifest, diary: Diary, camera: Camera) -> Iterator[OnHeard]:
    """A line that says how it goes, on a terminal."""
    output = manifest.outputs[0]
    names = output.labels or tuple(str(k) for k in range(output.size))
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:

        def show(heard: Heard) -> None:
            y = _output(heard.result, output.size).tolist()
            said = "  ".join(f"{name} {value:+.3f}" for name, value in zip(names, y, strict=True))
            counts = ", ".join(f"{name} {count}" for name, count in diary.verdicts.items())
            live.update(
                Text(
                    f"{said}   {heard.mean_hz:.1f} frames/s, {heard.result.latency_s * 1e3:.1f} ms   {counts}, "
                    f"{camera.passed_over} passed over"
                )
            )

        yield show


@contextmanager
def _drawing(path: Path, size: tuple[int, int], rate_hz: float, outputs: int) -> Iterator[OnHeard]:
    """Draw what the model says into what the camera saw, frame by frame, at the times of the camera."""
    scale, largest, begin_ns = scale_of(size), 1e-9, NO_TIME
    with film_writer(path, size, rate_hz) as add:

        def draw(heard: Heard) -> None:
            nonlocal largest, begin_ns
            y = _output(heard.result, outputs)
            largest = max(largest, float(np.nanmax(np.abs(y), initial=0.0)))
            begin_ns = heard.shot.t_ns if begin_ns == NO_TIME else begin_ns
            add(drawn_row(heard.shot.pixels, scale, y, None, largest), (heard.shot.t_ns - begin_ns) * 1e-9)

        yield draw
