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
            ("train", [_stream(f"train-{k}", random) for k in range(100_000)]),
            ("validation", [_stream(f"validation-{k}", random) for k in range(10_000)]),
            ("test", [_stream(f"test-{k}", random) for k in range(10_000)]),
        ]
    )
    return Dataset(recordings, ("bit",), ("even", "odd"), parts=parts)


def _stream(name: str, random: np.random.Generator) -> Recording:
    bits = random.integers(0, 2, random.integers(2, LONGEST + 1))
    sent = np.diff(bits, prepend=-1) != 0
    sent[-1] = True
    rows = np.flatnonzero(sent)
    return Recording(name, rows * PERIOD_NS, bits[rows, None].astype(np.float32), np.full(len(rows), bits.sum() % 2))


ENTRY = Entry(
    name="xor",
    title="Parity of up to 32 bits of which only changes are sent",
    origin="made by a program",
    licence="none needed",
    split="standard: 100,000 to train, 10,000 to validate, 10,000 to test",
    load=xor,
)
