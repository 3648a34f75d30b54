"""A quadrotor's flight log: what its gyroscope says next, from motor commands and attitude (PX4, real vehicle, 69 s).

Topics come at rates of their own, with jitter and drop-outs. Rows are those of `sensor_combined` (250 Hz); attitude and
actuator controls are the newest before each. One flight, so the split is contiguous: its first 70 % train, 10 %
validate, the rest tests; pieces of 256 rows.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np

from statestream.models.data.origins import Entry, File, read
from statestream.models.data.pieces import piece
from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.spec import Array, Int64Array

ROWS = 256
LOG = File("px4_sample.npz", "078d302c17dabda12d6b1bc3179c1cd3527389eb80fb5d75f30e8098765714b5")
GYRO = ("gyro_rad[0]", "gyro_rad[1]", "gyro_rad[2]")
SENSORS = (*GYRO, "accelerometer_m_s2[0]", "accelerometer_m_s2[1]", "accelerometer_m_s2[2]")
ATTITUDE = ("q[0]", "q[1]", "q[2]", "q[3]")
CONTROLS = ("control[0]", "control[1]", "control[2]", "control[3]")


def px4_flight_log() -> Dataset:
    """Pieces of the flight; the target is the next row's gyroscope, rad/s."""
    with np.load(BytesIO(read("px4_flight_log", LOG))) as log:
        t_us, sensors = _topic(log, "sensor_combined", SENSORS)
        held = [
            _held(*_topic(log, topic, names), t_us)
            for topic, names in (("vehicle_attitude", ATTITUDE), ("actuator_controls_0", CONTROLS))
        ]
    x_TF = np.concatenate([sensors, *held], axis=1)
    flight = Recording("flight", t_us[:-1] * 1000, x_TF[:-1], sensors[1:, : len(GYRO)])
    pieces = tuple(piece(flight, start, ROWS) for start in range(0, len(flight) - ROWS + 1, ROWS))
    parts = tuple(_part(k / len(pieces)) for k in range(len(pieces)))
    return Dataset(pieces, (*SENSORS, *ATTITUDE, *CONTROLS), GYRO, parts=parts)


def _topic(log: np.lib.npyio.NpzFile, topic: str, names: tuple[str, ...]) -> tuple[Int64Array, Array]:
    columns = log[f"{topic}__cols"].tolist()
    return log[f"{topic}__t_us"], log[f"{topic}__values"][:, [columns.index(name) for name in names]]


def _held(t_us: Int64Array, values: Array, wanted_us: Int64Array) -> Array:
    """The newest value at each wanted time; the first before there is one."""
    return np.asarray(values[np.maximum(0, np.searchsorted(t_us, wanted_us, side="right") - 1)])


def _part(place: float) -> Part:
    return "train" if place < 0.7 else "validation" if place < 0.8 else "test"


ENTRY = Entry(
    name="px4_flight_log",
    title="A quadrotor's flight log, asynchronous topics",
    origin="github.com/PX4/pyulog at 3cf1779, test/sample.ulg (converted)",
    licence="BSD-3-Clause",
    split="standard: contiguous, 70 % to train, 10 % to validate, 20 % to test",
    load=px4_flight_log,
    files=(LOG,),
)
