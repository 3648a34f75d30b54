"""Plays recordings through sessions: in real time, at a multiple, or as fast as possible."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.spec import Array, Float32Array, Int64Array, TensorSpec
from statestream.service.client import AsyncSession, AsyncStream, ChunkResult, Verdict
from statestream.service.errors import InvalidArgument

PIECE = 64
"""Rows per message when playing as fast as possible."""


@dataclass
class Played:
    """A recording and its results.

    Rows without an output, or without one yet, are NaN.
    """

    recording: Recording
    output: Float32Array
    """`[T, K]` the model's first output"""
    verdict: Int64Array
    """`[T]` values of `Verdict`"""
    dt_s: Float32Array
    """`[T]` seconds by which each row advanced its session"""
    latency_s: list[float] = field(default_factory=list)
    """Latency of each message, from its first row's due time."""
    done: int = 0
    """Rows answered."""
    others: dict[str, Float32Array] = field(default_factory=dict)
    """`[T, size]` the model's other results by name; empty unless states were read."""
    states: dict[str, Float32Array] = field(default_factory=dict)
    """`[T, size]` states after each row by name; empty unless they were read."""


OnProgress = Callable[[Played], object]
ReadState = Callable[[str], Awaitable[Mapping[str, Float32Array]]]
"""Reads the states of a session, each flat, given its id."""


def rate_of(text: str) -> float:
    """Parse a speed: `real` (1), `max` (infinite), or a multiple such as `2x`.

    Raises:
        InvalidArgument: `text` is none of these.
    """
    if text in ("real", "max"):
        return 1.0 if text == "real" else math.inf
    try:
        rate = float(text.removesuffix("x"))
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InvalidArgument(f"'{text}', expected real, max, or a multiple such as 2x", field="--rate")
    return rate


async def play(
    stream: AsyncStream,
    model: str,
    version: int,
    recording: Recording,
    rate: float,
    on_progress: OnProgress,
    read_state: ReadState | None = None,
    outputs: Sequence[str] = (),
) -> Played:
    """Play a recording through a new session and end the session.

    Args:
        read_state: reads the states after each row, which is then sent alone.
        outputs: results to ask for, the first output first; empty: all but aux.
    """
    session = await stream.open(model, version=version, outputs=outputs)
    return await play_session(session, recording, rate, on_progress, read_state)


async def play_session(
    session: AsyncSession,
    recording: Recording,
    rate: float,
    on_progress: OnProgress,
    read_state: ReadState | None = None,
) -> Played:
    """Play a recording through an open session and end the session; see `play`."""
    played = _start(session, recording)
    if read_state is not None:
        await _play_watched(session, played, rate, on_progress, read_state)
    elif math.isinf(rate):
        await _play_fast(session, played, on_progress)
    else:
        await _play_paced(session, played, rate, on_progress)
    await session.close(end_session=True)
    return played


def _start(session: AsyncSession, recording: Recording) -> Played:
    rows, size = len(recording), session.manifest.outputs[0].size
    return Played(
        recording,
        output=np.full((rows, size), np.nan, np.float32),
        verdict=np.zeros(rows, np.int64),
        dt_s=np.zeros(rows, np.float32),
    )


async def _play_watched(
    session: AsyncSession, played: Played, rate: float, on_progress: OnProgress, read_state: ReadState
) -> None:
    manifest, recording = session.manifest, played.recording
    first = manifest.outputs[0].name
    played.others |= {name: _unknown(recording, spec) for name, spec in manifest.results.items() if name != first}
    played.states |= {spec.name: _unknown(recording, spec) for spec in manifest.states}
    due_s = (recording.t_ns - recording.t_ns[0]) * 1e-9 / rate
    begin_s = time.monotonic()
    for row in range(len(recording)):
        await asyncio.sleep(max(0.0, begin_s + due_s[row] - time.monotonic()))
        rows = slice(row, row + 1)
        result = await session.chunk(_shaped(session, recording.features[rows]), recording.t_ns[rows])
        _store(played, row, result)
        for name, state in (await read_state(session.session_id)).items():
            played.states[name][row] = state
        played.latency_s.append(result.latency_s)
        on_progress(played)


def _unknown(recording: Recording, spec: TensorSpec) -> Float32Array:
    return np.full((len(recording), spec.size), np.nan, np.float32)


async def _play_fast(session: AsyncSession, played: Played, on_progress: OnProgress) -> None:
    recording = played.recording
    for start in range(0, len(recording), PIECE):
        rows = slice(start, start + PIECE)
        result = await session.chunk(_shaped(session, recording.features[rows]), recording.t_ns[rows])
        _store(played, start, result)
        played.latency_s.append(result.latency_s)
        on_progress(played)


async def _play_paced(session: AsyncSession, played: Played, rate: float, on_progress: OnProgress) -> None:
    recording = played.recording
    due_s = (recording.t_ns - recording.t_ns[0]) * 1e-9 / rate
    late_s = np.zeros(len(recording))
    reader = asyncio.create_task(_read(session, played, late_s, on_progress))
    try:
        begin_s = time.monotonic()
        for row, t_ns in enumerate(recording.t_ns.tolist()):
            wait_s = begin_s + due_s[row] - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            # Latency counts from when the row was due, so that a sender held up does not look like a fast server.
            late_s[row] = max(0.0, time.monotonic() - begin_s - due_s[row])
            await session.send(_shaped(session, recording.features[row : row + 1])[0], t_ns)
        await reader
    finally:
        reader.cancel()


async def _read(session: AsyncSession, played: Played, late_s: Array, on_progress: OnProgress) -> None:
    async for result in session.results():
        row = result.seq - 1
        played.verdict[row], played.dt_s[row] = result.verdict, result.dt_s
        if result.verdict is Verdict.APPLIED:
            played.output[row] = result.y.reshape(-1)
        played.latency_s.append(result.latency_s + float(late_s[row]))
        played.done += 1
        on_progress(played)
        if played.done == len(played.recording):
            return


def _shaped(session: AsyncSession, x: Array) -> Array | list[bytes]:
    """Reshape features `[rows, F]` to the model's input.

    Encoded pictures stay as they are.
    """
    if x.dtype == object:
        return list(x)
    return x.reshape(len(x), *session.manifest.inputs[0].shape)


def _store(played: Played, start: int, result: ChunkResult) -> None:
    played.verdict[start : start + len(result)] = result.verdict
    played.dt_s[start : start + len(result)] = result.dt_s
    played.output[start + result.row] = result.y.reshape(-1, played.output.shape[1])
    for name, values in result.outputs.items():
        if name in played.others:
            played.others[name][start + result.row] = values.reshape(len(values), -1)
    played.done += len(result)
