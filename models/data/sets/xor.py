"""Irregular XOR: parity of a bit stream of which only changes are sent.

Lechner & Hasani, arXiv:2006.04418, §5. A stream has 2 to 32 random bits, one per second. There is a row for the first
bit, for every bit that differs from the one before, and for the last; only the elapsed time shows how many equal bits
lie between. The target, at the end, is whether the number of ones is odd.
"""

from __future__ import annotations

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import joined
from statestream.models.data.set_files import Entry

PERIOD_NS = 1_000_000_000
LONGEST = 32
SEED = 0


def xor() -> Dataset:
    """100,000 streams to train on, 10,000 to validate, 10,000 to test.

    The same in every call.
    """
    random = np.random.default_rng(SEED)
    recordings, parts = joined(
        [
            ("train", _streams("train", 100_000, random)),
            ("validation", _streams("validation", 10_000, random)),
            ("test", _streams("test", 10_000, random)),
        ]
    )
    return Dataset(recordings, ("bit",), ("even", "odd"), parts=parts)


def _streams(part: str, size: int, random: np.random.Generator) -> list[Recording]:
    """So many streams, computed as one array, in less than half of the time that many small ones take."""
    streams = [random.integers(0, 2, random.integers(2, LONGEST + 1)) for _ in range(size)]
    lengths, bits = np.array([len(stream) for stream in streams]), np.concatenate(streams)
    starts = np.cumsum(lengths) - lengths
    sent = np.diff(bits, prepend=-1) != 0
    sent[starts] = sent[starts + lengths - 1] = True
    seconds = np.arange(len(bits)) - np.repeat(starts, lengths)
    rows = np.add.reduceat(sent, starts, dtype=np.int64)
    t_ns, x = seconds[sent] * PERIOD_NS, bits[sent, None].astype(np.float32)
    odd = np.repeat(np.add.reduceat(bits, starts) % 2, rows)
    stops = np.cumsum(rows)
    pieces = [slice(*ends) for ends in zip(stops - rows, stops, strict=True)]
    return [Recording(f"{part}-{k}", t_ns[piece], x[piece], odd[piece]) for k, piece in enumerate(pieces)]


ENTRY = Entry(
    name="xor",
    title="Parity of up to 32 bits of which only changes are sent",
    origin="made by a program",
    licence="none needed",
    split="standard: 100,000 to train, 10,000 to validate, 10,000 to test",
    load=xor,
)
