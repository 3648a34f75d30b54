"""Ozone: ozone days from 72 daily weather measurements, 1998 to 2004 (Zhang & Fan, 2008).

Protocol of the LTC paper (arXiv:2006.04439): a missing value is zero; pieces of 32 days every 4, assigned at random
(they overlap, so scores are optimistic). The score is F1 of the ozone days, 6 % of all.
"""

from __future__ import annotations

import csv
from datetime import datetime
from io import StringIO

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import cut, dealt
from statestream.models.data.set_files import Entry, File, read

ROWS, STRIDE = 32, 4
SEED = 23489
TABLE = File(
    "eighthr.data",
    "0c10d1e216db3249c565e3ed5474302032067f6df0ea6fd49e6f06ec061f83a9",
    "https://raw.githubusercontent.com/totoff/ML_snippets/fd5fb235d2347915c8e8a04f951ebcb2de462256/eighthr.data",
)


def ozone() -> Dataset:
    """The paper's pieces and split."""
    rows = [row for row in csv.reader(StringIO(read("ozone", TABLE).decode())) if row]
    days = [datetime.strptime(f"{row[0]} +0000", "%m/%d/%Y %z") for row in rows]
    x_TF = np.array([[0.0 if cell == "?" else float(cell) for cell in row[1:-1]] for row in rows], np.float32)
    target = np.array([float(row[-1].rstrip(".")) for row in rows]).astype(np.int64)
    t_ns = np.array([int(day.timestamp()) for day in days]) * 1_000_000_000
    pieces = tuple(cut(Recording("ozone", t_ns, x_TF, target), ROWS, STRIDE))
    features = tuple(f"w{k}" for k in range(x_TF.shape[1]))
    return Dataset(pieces, features, ("normal", "ozone"), parts=dealt(len(pieces), SEED, 0.1, 0.15))


ENTRY = Entry(
    name="ozone",
    title="Ozone days from daily weather",
    origin="UCI Machine Learning Repository, Ozone Level Detection (Zhang, Fan, Yuan, 2008)",
    licence="CC BY 4.0",
    split="standard: the LTC paper's, pieces at random",
    load=ozone,
    files=(TABLE,),
)
