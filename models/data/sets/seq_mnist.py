"""Sequential MNIST: handwritten digits, one row of 28 pixels per step (LeCun & Cortes).

Protocol of the LTC paper (arXiv:2006.04439): the last tenth of the training pictures validates; the class is read
after the last row.
"""

from __future__ import annotations

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import joined
from statestream.models.data.set_files import Entry, File, read
from statestream.models.spec import Array

PERIOD_NS = 1_000_000_000
SIDE = 28
TRAINING = 54_000
HEADERS = {"images": 16, "labels": 8}
"""Header bytes of an idx file, by kind of file."""
URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILES = {name: File(name, sha256, f"{URL}/{name}.gz") for name, sha256 in SHA256.items()}


def rows() -> Dataset:
    """54,000 pictures to train on, 6,000 to validate, 10,000 to test."""
    training, testing = _pictures("train"), _pictures("t10k")
    recordings, parts = joined([("train", training[:TRAINING]), ("validation", training[TRAINING:]), ("test", testing)])
    return Dataset(recordings, tuple(f"p{k}" for k in range(SIDE)), tuple("0123456789"), parts=parts)


def _pictures(name: str) -> list[Recording]:
    pictures = _values(f"{name}-images-idx3-ubyte").reshape(-1, SIDE, SIDE).astype(np.float32)
    classes = _values(f"{name}-labels-idx1-ubyte").astype(np.int64)
    t_ns = np.arange(SIDE) * PERIOD_NS
    targets = np.repeat(classes[:, None], SIDE, axis=1)
    return [
        Recording(f"{name}-{k}", t_ns, x, target) for k, (x, target) in enumerate(zip(pictures, targets, strict=True))
    ]


def _values(name: str) -> Array:
    return np.frombuffer(read("seq_mnist", FILES[name]), np.uint8)[HEADERS[name.split("-")[1]] :]


ENTRY = Entry(
    name="seq_mnist",
    title="MNIST, one row of pixels a step",
    origin="LeCun & Cortes, MNIST",
    licence="CC BY-SA 3.0",
    split="standard: 54,000 to train, 6,000 to validate, 10,000 to test",
    load=rows,
    files=tuple(FILES.values()),
)
