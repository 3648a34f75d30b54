"""Occupancy of an office from five room sensors, once a minute (Candanedo & Feldheim, 2016).

Protocol of the LTC paper (arXiv:2006.04439): training pieces of 16 rows from every row on, a tenth of them to validate;
test pieces every 8 rows of both test files; the five sensors. A threshold on the light alone is right in 98 % of rows:
choose `data.features` without it for a harder task. Time of day and weekend, from the timestamps, are features, too.
"""

from __future__ import annotations

import csv
from datetime import datetime
from io import StringIO

import numpy as np

from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.data.segments import cut, dealt
from statestream.models.data.set_files import Entry, File, read

ROWS, STRIDE = 16, 8
SEED = 893429
SENSORS = ("Temperature", "Humidity", "Light", "CO2", "HumidityRatio")
FEATURES = (*SENSORS, "day_sine", "day_cosine", "weekend")
UNITS = ("°C", "%", "lx", "ppm", "kg/kg", "", "", "")
DAY_S = 86_400
URL = "https://raw.githubusercontent.com/totoff/ML_snippets/fd5fb235d2347915c8e8a04f951ebcb2de462256/occupancy_data"
SHA256 = {
    "datatraining": "b2c4d0ce2b9e4e453c476f7125ef31aeec2d1f5c7f5572d0e80de3df6521ab56",
    "datatest": "1b92c7c1b2838963464fa891a610cf3c5db4becb7189189b29b330107a584c7f",
    "datatest2": "d026d1bd5aeccd4aff4f3b3710d48e40613bd5fc370db7e61bbdcaa50d985095",
}
FILES = {name: File(f"{name}.txt", sha256, f"{URL}/{name}.txt") for name, sha256 in SHA256.items()}


def occupancy() -> Dataset:
    """The paper's pieces.

    `group` is the file, so that the test files can be scored separately.
    """
    training = list(cut(_file("datatraining"), ROWS, 1))
    testing = [p for name in ("datatest", "datatest2") for p in cut(_file(name), ROWS, STRIDE)]
    tested: list[Part] = ["test"] * len(testing)
    parts = (*dealt(len(training), SEED, 0.1, 0.0), *tested)
    return Dataset((*training, *testing), FEATURES, ("empty", "occupied"), UNITS, parts)


def _file(name: str) -> Recording:
    # The header lacks a name for the first column, a row number.
    _, *rows = csv.reader(StringIO(read("occupancy", FILES[name]).decode()))
    times = [datetime.fromisoformat(f"{row[1]}+00:00") for row in rows]
    t_s = np.array([int(time.timestamp()) for time in times])
    angle = 2 * np.pi * (t_s % DAY_S) / DAY_S
    weekend = [time.weekday() >= 5 for time in times]
    x_TF = np.column_stack([np.array([row[2:7] for row in rows], float), np.sin(angle), np.cos(angle), weekend])
    target = np.array([row[7] for row in rows], np.int64)
    return Recording(name, t_s * 1_000_000_000, x_TF.astype(np.float32), target, name)


ENTRY = Entry(
    name="occupancy",
    title="Occupancy of an office from five sensors, once a minute",
    origin="UCI Machine Learning Repository, Occupancy Detection (Candanedo, 2016)",
    licence="CC BY 4.0",
    split="standard: the LTC paper's, by file; a tenth of the training pieces validate",
    load=occupancy,
    files=tuple(FILES.values()),
)
