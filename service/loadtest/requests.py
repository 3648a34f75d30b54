"""Requests of the load, made ahead except for seqs and timestamps.

Message n of a stream has rows n*chunk+1 to (n+1)*chunk of each of its sessions, channel after channel. The data of a
row depends on its number only, so that a rollout can compute it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from statestream.models import jpeg
from statestream.models.spec import Array, InputSpec, Int64Array, Manifest, TensorSpec
from statestream.proto.v1 import inference_pb2 as pb

VARIANTS = 32
"""Number of different messages, used in turn."""


Frames = Mapping[str, Sequence[bytes]]
"""JPEGs by input name."""
NO_FRAMES: Frames = {}


class _Template:
    """A request whose seqs and timestamps are set for each message."""

    def __init__(self, steps: pb.Steps) -> None:
        self.request = pb.StreamRequest(steps=steps)
        self.seq, self.t_ns = self.request.steps.seq, self.request.steps.timestamp_ns


class Messages:
    """Builds requests for streams with `channels` sessions and `chunk` rows each per message.

    Args:
        frames: pictures for every encoded input, used in turn.
    """

    def __init__(self, manifest: Manifest, *, channels: int, chunk: int, seed: int, frames: Frames = NO_FRAMES) -> None:
        rng = np.random.default_rng(seed)
        shape = (VARIANTS, channels, chunk)
        self.channels = channels
        self.chunk = chunk
        self.rows_each = channels * chunk
        """Rows of a message."""
        self.row_bytes = manifest.row_bytes
        """Most bytes of one row."""
        self._specs = manifest.encoded_inputs
        self._data = {t.name: _noise(t, shape, rng) for t in manifest.inputs if t.name not in self._specs}
        self._frames = frames
        # Sessions of one message get different pictures of the film.
        self._frame = np.arange(VARIANTS)[:, None, None] + 7 * np.arange(channels)[:, None] + np.arange(chunk)
        self._templates = [_Template(self._steps_of(k)) for k in range(VARIANTS)]

    def steps(self, number: int, phase: int, t_ns: list[int]) -> bytes:
        """Build an encoded StreamRequest that has steps only.

        Args:
            number: number of the message within its sessions, from 0.
            phase: variant of the stream's first message.
            t_ns: `[chunk]` timestamps of the rows.
        """
        template = self._templates[(number + phase) % VARIANTS]
        if self.rows_each == 1:
            template.seq[0], template.t_ns[0] = number + 1, t_ns[0]
        else:
            first = number * self.chunk + 1
            template.seq[:] = list(range(first, first + self.chunk)) * self.channels
            template.t_ns[:] = list(t_ns) * self.channels
        return template.request.SerializeToString()

    def rows(self, channel: int, phase: int, begin: int, end: int) -> dict[str, Array]:
        """Rows `begin` to `end` (from 0) of a session, `[end - begin, *shape]` by input name."""
        row = np.arange(begin, end)
        variant = (row // self.chunk + phase) % VARIANTS
        found = {name: values[variant, channel, row % self.chunk] for name, values in self._data.items()}
        frame = self._frame[variant, channel, row % self.chunk]
        return found | {name: self._seen(spec, frame) for name, spec in self._specs.items()}

    def _steps_of(self, variant: int) -> pb.Steps:
        rows = self.channels * self.chunk
        channel = np.repeat(np.arange(self.channels), self.chunk).tolist()
        return pb.Steps(channel=channel, seq=[0] * rows, timestamp_ns=[0] * rows, columns=self._columns_of(variant))

    def _columns_of(self, variant: int) -> list[pb.Column]:
        columns = [pb.Column(name=name, data=values[variant].tobytes()) for name, values in self._data.items()]
        order = self._frame[variant].reshape(-1).tolist()
        for name in self._specs:
            film = self._frames[name]
            columns.append(pb.Column(name=name, frames=[film[k % len(film)] for k in order]))
        return columns

    def _seen(self, spec: InputSpec, frames: Int64Array) -> Array:
        """Decode pictures to the model's input, `[frames, *shape]`."""
        film = self._frames[spec.name]
        pixels = np.empty((len(frames), *spec.shape), np.uint8)
        for k, into in zip(frames.tolist(), pixels, strict=True):
            jpeg.decode(film[k % len(film)], spec, into)
        return pixels


def acks(channels: int, seq: int) -> bytes:
    """Build an encoded StreamRequest that acknowledges every session up to `seq`.

    Put in front of another encoded request, it becomes part of that request.
    """
    return pb.StreamRequest(
        acks=pb.Acks(channel=range(channels), seq=[seq] * channels),
    ).SerializeToString()


def row_times(previous_ns: int, due_ns: int, chunk: int) -> list[int]:
    """`[chunk]` timestamps, evenly spread from the message before to this one's due time."""
    if chunk == 1:
        return [due_ns]
    gap_ns = due_ns - previous_ns
    return [previous_ns + gap_ns * (k + 1) // chunk for k in range(chunk)]


def _noise(spec: TensorSpec, leading: tuple[int, ...], rng: np.random.Generator) -> Array:
    shape = (*leading, *spec.shape)
    if spec.np_dtype.kind == "f":
        return rng.standard_normal(shape).astype(spec.np_dtype)
    return rng.integers(0, 2 if spec.np_dtype.kind == "b" else 256, shape).astype(spec.np_dtype)
