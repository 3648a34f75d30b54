"""PX4 flight log: the next gyroscope reading of a quadrotor (real vehicle, 69 s).

Each topic has its own rate, with jitter and drop-outs. Rows are those of `sensor_combined` (250 Hz), each with the
newest attitude and actuator controls. It is one flight, so the split is contiguous: the first 70 % train, 10 %
validate, the rest tests; pieces of 256 rows.

The vehicle moves for only 5 s. The variant `events` covers these: attitude (80 Hz) and controls (50 Hz) at the times
they were logged, without the gyroscope, in pieces of 32 rows; `group` is one of five intervals of a second.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np

from statestream.models.data.merge_sensors import held, merged_recordings
from statestream.models.data.recordings import Dataset, Part, Recording, median_period_s
from statestream.models.data.segments import piece
from statestream.models.data.set_files import Entry, File, read

ROWS = 256
EVENTS = 32
STRETCHES = 5
MOVING_S = (1.8, 6.6)
"""Start and end of the movement, seconds after the first row of the log."""
LOG = File("px4_sample.npz", "078d302c17dabda12d6b1bc3179c1cd3527389eb80fb5d75f30e8098765714b5")
GYRO = ("gyro_rad[0]", "gyro_rad[1]", "gyro_rad[2]")
SENSORS = (*GYRO, "accelerometer_m_s2[0]", "accelerometer_m_s2[1]", "accelerometer_m_s2[2]")
ATTITUDE = ("q[0]", "q[1]", "q[2]", "q[3]")
CONTROLS = ("control[0]", "control[1]", "control[2]", "control[3]")
TOPICS = {"sensor_combined": SENSORS, "vehicle_attitude": ATTITUDE, "actuator_controls_0": CONTROLS}


def px4_flight_log() -> Dataset:
    """Pieces of the flight; the target is the next row's gyroscope, rad/s."""
    sensors, *others = _topics()
    beside = [held(topic.t_ns, topic.features, sensors.t_ns) for topic in others]
    x_TF = np.concatenate([sensors.features, *beside], axis=1)
    flight = Recording("flight", sensors.t_ns[:-1], x_TF[:-1], sensors.features[1:, : len(GYRO)])
    pieces = tuple(piece(flight, start, ROWS) for start in range(0, len(flight) - ROWS + 1, ROWS))
    parts = tuple(_part(k / len(pieces)) for k in range(len(pieces)))
    return Dataset(pieces, (*SENSORS, *ATTITUDE, *CONTROLS), GYRO, parts=parts)


def events() -> Dataset:
    """Rows of attitude and controls at the times they were logged, NaN for the other's features."""
    sensors, *others = _topics()
    merged = merged_recordings(others)
    start_ns, end_ns = (np.array(MOVING_S) * 1e9 + sensors.t_ns[0]).astype(np.int64)
    following = np.searchsorted(sensors.t_ns, merged.t_ns, side="right")
    moving = (merged.t_ns >= start_ns) & (merged.t_ns < end_ns)
    target = sensors.features[following[moving], : len(GYRO)]
    flight = Recording("flight", merged.t_ns[moving], merged.features[moving], target)
    pieces: list[Recording] = []
    for k, rows in enumerate(np.array_split(np.arange(len(flight)), STRETCHES)):
        stretch = replace(flight, group=f"stretch{k}")
        pieces += [piece(stretch, int(start), EVENTS) for start in rows[: 1 - EVENTS : EVENTS]]
    return Dataset(tuple(pieces), (*ATTITUDE, *CONTROLS), GYRO)


def even_events() -> Dataset:
    """The rows of `events`, timestamped one period apart, as for a model without a clock."""
    dataset = events()
    period_ns = round(median_period_s(dataset.recordings) * 1e9)
    even = tuple(replace(r, t_ns=np.arange(len(r)) * period_ns) for r in dataset.recordings)
    return replace(dataset, recordings=even)


def _topics() -> list[Recording]:
    """Recordings of the topics, the gyroscope's first."""
    with np.load(BytesIO(read("px4_flight_log", LOG))) as log:
        return [_topic(log, name, columns) for name, columns in TOPICS.items()]


def _topic(log: np.lib.npyio.NpzFile, topic: str, names: tuple[str, ...]) -> Recording:
    columns = log[f"{topic}__cols"].tolist()
    x_TF = log[f"{topic}__values"][:, [columns.index(name) for name in names]]
    return Recording(topic, log[f"{topic}__t_us"] * 1000, x_TF)


def _part(place: float) -> Part:
    return "train" if place < 0.7 else "validation" if place < 0.8 else "test"


ENTRY = Entry(
    name="px4_flight_log",
    title="A quadrotor's flight log, asynchronous topics",
    origin="github.com/PX4/pyulog at 3cf1779, test/sample.ulg (converted)",
    licence="BSD-3-Clause",
    split="standard: contiguous, 70 % to train, 10 % to validate, 20 % to test; of events: by group, 5 folds",
    load=px4_flight_log,
    variants={"events": events, "even_events": even_events},
    files=(LOG,),
)
