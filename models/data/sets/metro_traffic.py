"""Metro traffic: cars per hour on a motorway from weather and calendar, 2012 to 2018 (Hogue, 2019).

Protocol of the LTC paper (arXiv:2006.04439): seven features, the volume standardised over all rows, pieces of 32 rows
every 4, assigned at random (they overlap, so scores are optimistic). The score is the mean squared error of the volume
of the same row, which is no feature. Times are irregular: gaps of days, and repeated hours.
"""

from __future__ import annotations

import csv
from datetime import datetime
from io import StringIO

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import cut, dealt
from statestream.models.data.set_files import Entry, File, read
from statestream.models.spec import Array

ROWS, STRIDE = 32, 4
SEED = 23489
FEATURES = ("holiday", "temp", "rain_1h", "snow_1h", "clouds_all", "weekday", "hour_sine")
TABLE = File(
    "Metro_Interstate_Traffic_Volume.csv",
    "3ec6b8844c4e5e20904855c81079a30e4342da20b7010e78606a244e539f29f6",
    "https://raw.githubusercontent.com/CodyTheCoderPrice/Finding-Heavy-Traffic-Indicators-on-I94/"
    "71a5b54c34abb30e8e72fa0032d3898e3996e5f3/Metro_Interstate_Traffic_Volume.csv",
)


def metro_traffic() -> Dataset:
    """The paper's pieces and split."""
    rows = list(csv.DictReader(StringIO(read("metro_traffic", TABLE).decode())))
    times = [datetime.fromisoformat(f"{row['date_time']}+00:00") for row in rows]
    volume = np.array([row["traffic_volume"] for row in rows], np.float64)
    target = ((volume - volume.mean()) / volume.std()).astype(np.float32)[:, None]
    x_TF = np.stack([_features(row, time) for row, time in zip(rows, times, strict=True)])
    t_ns = np.array([int(time.timestamp()) for time in times]) * 1_000_000_000
    pieces = tuple(cut(Recording("metro", t_ns, x_TF, target), ROWS, STRIDE))
    return Dataset(pieces, FEATURES, ("traffic_volume",), parts=dealt(len(pieces), SEED, 0.1, 0.15))


def _features(row: dict[str, str], time: datetime) -> Array:
    weather = [float(row[name]) for name in FEATURES[1:5]]
    hour_sine = np.sin(time.hour * np.pi / 24)
    return np.array([row["holiday"] != "None", *weather, time.weekday(), hour_sine], np.float32)


ENTRY = Entry(
    name="metro_traffic",
    title="Hourly traffic on a motorway from weather and calendar",
    origin="UCI Machine Learning Repository, Metro Interstate Traffic Volume (Hogue, 2019)",
    licence="CC BY 4.0",
    split="standard: the LTC paper's, pieces at random",
    load=metro_traffic,
    files=(TABLE,),
)
