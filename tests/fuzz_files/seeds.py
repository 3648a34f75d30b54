"""Valid files of every format, written by the public libraries when they are needed, with what is asked of each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.recordings import Columns
from tests.support.cameras import HEIGHT, WIDTH, film
from tests.support.films import write_folder, write_packed, write_tub, write_video
from tests.support.foxglove_logs import FRAME as VIDEO_FRAME
from tests.support.foxglove_logs import grip, gripper, of_json, of_protobuf, of_ros, of_video
from tests.support.foxglove_logs import video as encoded_video
from tests.support.foxglove_logs import write_mcap as write_mixed
from tests.support.lerobot_sets import CAMERAS, STATE, write_lerobot
from tests.support.robot_logs import (
    COMMAND,
    IMU,
    PICTURE,
    RATES,
    built,
    drive,
    header,
    typestore,
    write_bag,
    write_mcap,
    write_ros1_bag,
)
from tests.support.ulogs import write_ulog

ROWS = 12
FRAME = (HEIGHT, WIDTH)
PERIOD_S = 0.05
SPAN = (0.0, 4000.0)
TABLE = Columns(features=("x", "y"), target=("label",), group="person", time="stamp")
PICTURES = Columns(features=("image",), target=("angle",), period_s=PERIOD_S)
LOG = Columns(features=tuple(RATES), target=(f"{COMMAND}.twist.angular.z",))

FOXGLOVE = Columns(
    features=("/grip.width", "/grip.forces[1]", "/state.gyro.x", f"{IMU}.angular_velocity.x"), target=("/state.mode",)
)


@dataclass(frozen=True)
class Seed:
    """A valid recording and what is read of it."""

    name: str
    format: str
    """Title of the format that reads it."""
    write: Callable[[Path], Path]
    """Writes it into a folder; returns its path."""
    columns: Columns
    classes: bool = False
    frame: tuple[int, int] | None = None


def cells(k: int) -> dict[str, object]:
    return {
        "stamp": 0.1 * k,
        "x": k / 7,
        "y": -k,
        "label": ("walk", "run")[k % 2],
        "person": "a",
        "note": 'two\n"lines"',
    }


def text(name: str) -> Callable[[Path], Path]:
    """Lines under a header, or an object each, packed if the name says so."""

    def write(folder: Path) -> Path:
        import csv
        from io import StringIO

        rows = [cells(k) for k in range(ROWS)]
        file = StringIO()
        if ".jsonl" in name:
            file.writelines(json.dumps(row | {"imu": {"gyro": [1, 2, None]}}) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
            writer.writeheader()
            writer.writerows(rows)
        data = file.getvalue().encode()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return folder / name

    return write


def npz(folder: Path) -> Path:
    x = np.arange(ROWS) / 7
    times = np.arange(ROWS) * np.timedelta64(50, "ms") + np.datetime64("2026-01-01", "ms")
    labels = np.array(["walk", "run"] * (ROWS // 2))
    np.savez_compressed(folder / "a.npz", x=x, y=-x, label=labels, person=np.full(ROWS, "a"), stamp=times)
    return folder / "a.npz"


def npz_of_several(folder: Path) -> Path:
    np.savez(folder / "b.npz", z=np.zeros((ROWS, 2), np.float32), lengths=[ROWS - 5, 5], label=[True, False])
    return folder / "b.npz"


def parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet as library

    rows = [cells(k) | {"pose": {"q": [0.5, 1.5], "ok": k % 3 == 0}} for k in range(ROWS)]
    library.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet", row_group_size=5)
    return folder / "a.parquet"


def parquet_parts(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet as library

    rows = [{"x": k / 7, "y": [k, -k], "label": k % 2 == 0, "day": k % 3} for k in range(ROWS)]
    library.write_to_dataset(pyarrow.Table.from_pylist(rows), folder / "parts", partition_cols=["day"])
    return folder / "parts"


def hdf5(folder: Path, *, demonstrations: bool = False, **options: object) -> Path:
    import h5py

    with h5py.File(folder / "a.hdf5", "w") as file:
        for group in ("data/demo_0", "data/demo_1") if demonstrations else ("/",):
            own = file.require_group(group)
            own.create_dataset("x", data=np.arange(ROWS) / 7, chunks=(5,), **options)
            own.create_dataset("q", data=np.ones((ROWS, 3), np.float32), **options)
            own["image"] = film(ROWS)
            own["word"] = np.array([b"walk"] * ROWS, object if demonstrations else "S4")
            own["x"].attrs["unit"] = "rad"
    return folder / "a.hdf5"


def labelled_pngs(folder: Path) -> Path:
    from PIL import Image

    path = write_folder(folder / "drive")
    for k, picture in enumerate(film(6)):
        (path / f"{k}.jpg").unlink()
        Image.fromarray(picture).save(path / f"{k}.jpg", ("PNG", "TIFF", "BMP", "WEBP")[k % 4])
    return path


def depths(folder: Path) -> Path:
    from PIL import Image

    path = write_folder(folder / "depth")
    for k in range(6):
        (path / f"{k}.jpg").unlink()
        depth = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(FRAME) * (k + 1)
        picture = Image.fromarray(depth if k % 2 else depth.astype(np.float32))
        picture.save(path / f"{k}.jpg", "PNG" if k % 2 else "TIFF")
    return path


def raw_images(folder: Path) -> Path:
    """A bag of depths, as a driver of a depth camera writes them."""
    from rosbags.rosbag2 import Writer

    store, kind = typestore(), "sensor_msgs/msg/Image"
    with Writer(folder / "depth", version=8) as writer:
        connection = writer.add_connection("/depth", kind, typestore=store)
        for k in range(6):
            t_ns = 10**18 + k * 10**8
            about = {"encoding": "16UC1", "height": HEIGHT, "width": WIDTH, "step": 2 * WIDTH, "is_bigendian": 0}
            data = np.full(FRAME, 1000 * k, "<u2").tobytes()
            message = built(store, kind, {"header": header(t_ns, "camera"), **about, "data": data})
            writer.write(connection, t_ns, store.serialize_cdr(message, kind))
    return folder / "depth"


def video(suffix: str) -> Callable[[Path], Path]:
    return lambda folder: write_video(folder / f"drive{suffix}")


def foxglove(folder: Path, **options: Any) -> Path:
    """Channels of JSON, Protobuf and ROS 2 in one file."""
    kind = gripper()
    grips = of_protobuf("/grip", kind, lambda k: grip(kind, k))
    return write_mixed(folder / "a.mcap", grips, of_json("/state"), of_ros(), **options)


def foxglove_video(folder: Path) -> Path:
    return write_mixed(folder / "a.mcap", of_video(encoded_video("h264"), "h264"))


def database(folder: Path) -> Path:
    return next(write_bag(folder / "drive", drive(rows=20)).glob("*.db3"))


SEEDS = (
    Seed("CSV", "CSV and TSV", text("a.csv"), TABLE, classes=True),
    Seed("CSV, packed", "CSV and TSV", text("a.csv.gz"), TABLE, classes=True),
    Seed("TSV", "CSV and TSV", text("a.tsv"), TABLE, classes=True),
    Seed("JSON Lines", "JSON Lines", text("a.jsonl"), TABLE, classes=True),
    Seed("JSON Lines, packed", "JSON Lines", text("a.jsonl.gz"), TABLE, classes=True),
    Seed("NPZ", "NPZ", npz, TABLE, classes=True),
    Seed("NPZ of several recordings", "NPZ", npz_of_several, Columns(target=("label",), period_s=1.0), classes=True),
    Seed("Parquet", "Parquet", parquet, TABLE, classes=True),
    Seed(
        "Parquet in folders", "Parquet", parquet_parts, Columns(features=("x", "y[1]"), target=("label",), period_s=1.0)
    ),
    Seed("HDF5", "HDF5", hdf5, Columns(features=("x", "q[1]"), target=("word",), period_s=1.0), classes=True),
    Seed("HDF5, pictures", "HDF5", hdf5, Columns(features=("image",), target=("x",), period_s=1.0), frame=FRAME),
    Seed(
        "HDF5, demonstrations",
        "HDF5",
        lambda folder: hdf5(folder, demonstrations=True, compression="gzip", shuffle=True),
        Columns(features=("x", "q[0]"), target=("word",), period_s=1.0),
        classes=True,
    ),
    Seed("Folder of JPEGs", "Labelled frames", lambda folder: write_folder(folder / "drive"), PICTURES, frame=FRAME),
    Seed("Folder of other pictures", "Labelled frames", labelled_pngs, PICTURES, frame=(12, 16)),
    Seed(
        "Folder of depths",
        "Labelled frames",
        depths,
        PICTURES.model_copy(update={"picture_range": SPAN}),
        frame=(12, 16),
    ),
    Seed("Archive of JPEGs", "Labelled frames", lambda folder: write_packed(folder / "drive"), PICTURES, frame=FRAME),
    Seed(
        "Donkey Car tub",
        "Donkey Car tub",
        lambda folder: write_tub(folder / "tub"),
        Columns(features=("cam/image_array",), target=("user/angle",)),
        frame=FRAME,
    ),
    Seed(
        "LeRobot, numbers",
        "LeRobot data set",
        lambda folder: write_lerobot(folder / "set", 3, per_file=2, videos=False),
        Columns(features=STATE, target=("task",)),
        classes=True,
    ),
    Seed(
        "LeRobot, videos",
        "LeRobot data set",
        lambda folder: write_lerobot(folder / "set", 3, per_file=2),
        Columns(features=CAMERAS[:1], target=("action[0]",)),
        frame=(16, 24),
    ),
    *(Seed(f"Video {suffix}", "Video", video(suffix), PICTURES, frame=FRAME) for suffix in (".mp4", ".mkv", ".avi")),
    Seed("MCAP", "MCAP", lambda folder: write_mcap(folder / "a.mcap", drive(rows=20)), LOG),
    Seed(
        "MCAP, pictures",
        "MCAP",
        lambda folder: write_mcap(folder / "a.mcap", drive(rows=20)),
        Columns(features=(PICTURE,)),
        frame=(12, 16),
    ),
    Seed("MCAP of JSON and Protobuf", "MCAP", foxglove, FOXGLOVE, classes=True),
    Seed(
        "MCAP of JSON and Protobuf without chunks",
        "MCAP",
        lambda folder: foxglove(folder, use_chunking=False),
        FOXGLOVE,
        classes=True,
    ),
    Seed("MCAP, video", "MCAP", foxglove_video, Columns(features=("/video.data",)), frame=VIDEO_FRAME),
    Seed("ROS 2 bag", "Bags of ROS", lambda folder: write_bag(folder / "drive", drive(rows=20)), LOG),
    Seed(
        "ROS 2 bag, depths",
        "Bags of ROS",
        raw_images,
        Columns(features=("/depth.data",), picture_range=SPAN),
        frame=FRAME,
    ),
    Seed("Database of a ROS 2 bag", "Bags of ROS", database, LOG),
    Seed("ROS 1 bag", "Bags of ROS", lambda folder: write_ros1_bag(folder / "a.bag", drive(rows=20)), LOG),
    Seed(
        "PX4 ULog",
        "PX4 ULog",
        lambda folder: write_ulog(folder / "a.ulg"),
        Columns(features=("vehicle_imu[1].delta[0]", "vehicle_attitude.q[1]"), target=("vehicle_imu.serial",)),
    ),
)
