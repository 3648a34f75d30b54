"""ULog files for tests, written by hand after PX4's description, with what makes real ones hard to read."""

from __future__ import annotations

import struct
from pathlib import Path

START_US = 1_000_000
ATTITUDE_US = (0, START_US - 10, START_US + 100, START_US + 10_100, START_US + 20_100, START_US + 90_100)
"""Times of attitudes: none, before the start, and then three, a drop-out, and one more."""
SECOND_US = tuple(START_US + 5_000 * k for k in range(8))
"""Times of the second instance of the IMU, which is subscribed again after the fourth."""
_FORMATS = (
    "vehicle_attitude:uint64_t timestamp;float[4] q;bool fresh;uint8_t[7] _padding0;",
    "vehicle_imu:uint64_t timestamp;double[2] delta;uint64_t serial;",
)


def write_ulog(path: Path) -> Path:
    """Attitudes `q[k] = row + k / 10`, and two instances of an IMU, `delta = (row, -row)` and `serial = row`."""
    records = [("F", text.encode()) for text in _FORMATS]
    records += [_subscribe(0, 0, "vehicle_attitude"), _subscribe(1, 0, "vehicle_imu"), _subscribe(2, 1, "vehicle_imu")]
    rows = [(t_us, 0, _attitude(row, t_us)) for row, t_us in enumerate(ATTITUDE_US)]
    rows += [(t_us, 1, _imu(100 + row, t_us)) for row, t_us in enumerate(SECOND_US)]
    rows += [(t_us, 2 if row < 4 else 3, _imu(row, t_us)) for row, t_us in enumerate(SECOND_US)]
    for t_us, number, content in sorted(rows, key=lambda row: row[0]):
        if (number, t_us) == (3, SECOND_US[4]):
            records.append(_subscribe(3, 1, "vehicle_imu"))
        if t_us == ATTITUDE_US[-1]:
            records.append(("O", struct.pack("<H", 70)))
        records.append(("D", struct.pack("<H", number) + content))
    head = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", START_US)
    flags = struct.pack("<HB", 40, ord("B")) + bytes(40)
    path.write_bytes(head + flags + b"".join(struct.pack("<HB", len(data), ord(kind)) + data for kind, data in records))
    return path


def _subscribe(number: int, instance: int, topic: str) -> tuple[str, bytes]:
    return "A", struct.pack("<BH", instance, number) + topic.encode()


def _attitude(row: int, t_us: int) -> bytes:
    return struct.pack("<Q4f?", t_us, *(row + k / 10 for k in range(4)), row % 2 == 0)


def _imu(row: int, t_us: int) -> bytes:
    return struct.pack("<QddQ", t_us, row, -row, row)
