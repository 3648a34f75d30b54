"""Files that the measurements of readers read: an IMU's messages as MCAP and as a bag, a CSV, a LeRobot data set."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from tests.support.lerobot_sets import write_lerobot
from tests.support.robot_logs import START_NS, built, header, typestore, vector

TOPIC, KIND = "/imu/data", "sensor_msgs/msg/Imu"
NUMBERS = (
    *(f"{TOPIC}.orientation.{axis}" for axis in "xyzw"),
    *(f"{TOPIC}.{name}.{axis}" for name in ("angular_velocity", "linear_acceleration") for axis in "xyz"),
)
CSV_COLUMNS = tuple(f"x{k}" for k in range(8))
EPISODES = 50


def write_imu(folder: Path, messages: int) -> None:
    """Write the same messages to `imu_mcap/imu_mcap.mcap` and `imu_bag/imu_bag.db3`."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = typestore()
    steps = np.random.default_rng(0).normal(scale=1e-3, size=(messages, len(NUMBERS)))
    plugins = {"imu_mcap": StoragePlugin.MCAP, "imu_bag": StoragePlugin.SQLITE3}
    writers = [Writer(folder / name, version=9, storage_plugin=plugin) for name, plugin in plugins.items()]
    for writer in writers:
        writer.open()
    connections = [writer.add_connection(TOPIC, KIND, typestore=store) for writer in writers]
    for k, x in enumerate(np.cumsum(steps, axis=0).tolist()):
        t_ns = START_NS + 5_000_000 * k
        content = {
            "header": header(t_ns, "imu_link"),
            "orientation": vector(**dict(zip("xyzw", x[:4], strict=True))),
            "angular_velocity": vector(**dict(zip("xyz", x[4:7], strict=True))),
            "linear_acceleration": vector(**dict(zip("xyz", x[7:], strict=True))),
        }
        data = store.serialize_cdr(built(store, KIND, content), KIND)
        for writer, connection in zip(writers, connections, strict=True):
            writer.write(connection, t_ns + 2_000_000, data)
    for writer in writers:
        writer.close()


def write_csv(path: Path, rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, len(CSV_COLUMNS)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *CSV_COLUMNS])
        writer.writerows([f"{k * 0.01:.2f}", *row] for k, row in enumerate(x.tolist()))


def main() -> None:
    """`python -m tests.bench.reader_files FOLDER MESSAGES ROWS`: write them all."""
    folder, messages, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True)
    write_imu(folder, messages)
    write_csv(folder / "table.csv", rows)
    write_lerobot(folder / "lerobot", EPISODES)


if __name__ == "__main__":
    main()
