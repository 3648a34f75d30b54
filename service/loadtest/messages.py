"""Messages of the load, encoded ahead as far as can be: what is left for each one is its seqs and its time.

Message n of a stream has rows n*chunk+1 to (n+1)*chunk of each of its sessions, channel after channel. What the rows
hold follows from their number, so that a rollout can compute it again.
"""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array, Int64Array, Manifest, TensorSpec
from statestream.proto.v1 import inference_pb2 as pb

VARIANTS = 32
"""Different messages; they come round again."""
_STEPS_TAG = bytes([pb.StreamRequest.STEPS_FIELD_NUMBER << 3 | 2])


class Messages:
    """Requests of streams with `channels` sessions and `chunk` rows of each in a message."""

    def __init__(self, manifest: Manifest, *, channels: int, chunk: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.channels = channels
        self.chunk = chunk
        self._data = {t.name: _noise(t, (VARIANTS, channels, chunk), rng) for t in manifest.inputs}
        self._channel = pb.Steps(channel=np.repeat(np.arange(channels), chunk).tolist()).SerializeToString()
        self._columns = [
            pb.Steps(
                columns=[pb.Column(name=name, data=values[k].tobytes()) for name, values in self._data.items()]
            ).SerializeToString()
            for k in range(VARIANTS)
        ]

    def steps(self, number: int, phase: int, t_ns: Int64Array | list[int]) -> bytes:
        """A StreamRequest with steps alone.

        Args:
            number: of the message within its sessions, from 0.
            phase: where in the variants the stream begins.
            t_ns: `[chunk]` timestamps of the rows.
        """
        seq = list(range(number * self.chunk + 1, (number + 1) * self.chunk + 1))
        times = t_ns if isinstance(t_ns, list) else t_ns.tolist()
        rows = pb.Steps(seq=seq * self.channels, timestamp_ns=times * self.channels).SerializeToString()
        # The parts of an encoded message make up the message when put side by side.
        columns = self._columns[(number + phase) % VARIANTS]
        return _STEPS_TAG + _varint(len(self._channel) + len(rows) + len(columns)) + self._channel + rows + columns

    def rows(self, channel: int, phase: int, begin: int, end: int) -> dict[str, Array]:
        """`[end - begin, *shape]` by input: rows of a session, counted from 0."""
        row = np.arange(begin, end)
        variant = (row // self.chunk + phase) % VARIANTS
        return {name: values[variant, channel, row % self.chunk] for name, values in self._data.items()}


def acks(channels: int, seq: int) -> bytes:
    """A StreamRequest that acknowledges every session up to `seq`; put before another it is part of that."""
    return pb.StreamRequest(
        acks=pb.Acks(channel=range(channels), seq=[seq] * channels),
    ).SerializeToString()


def row_times(previous_ns: int, due_ns: int, chunk: int) -> list[int]:
    """`[chunk]` timestamps: spread over the time since the message before, the last one when the message is due."""
    if chunk == 1:
        return [due_ns]
    gap_ns = due_ns - previous_ns
    return [previous_ns + gap_ns * (k + 1) // chunk for k in range(chunk)]


def _noise(spec: TensorSpec, leading: tuple[int, ...], rng: np.random.Generator) -> Array:
    shape = (*leading, *spec.shape)
    if spec.np_dtype.kind == "f":
        return rng.standard_normal(shape).astype(spec.np_dtype)
    return rng.integers(0, 2 if spec.np_dtype.kind == "b" else 256, shape).astype(spec.np_dtype)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
