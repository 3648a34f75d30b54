"""BorealTC: terrain under a Husky A200 from its IMU (100 Hz) and wheels (6.5 Hz).

LaRocque et al., IROS 2024, arXiv:2403.16877. As in the paper, runs are cut into pieces of 5 s. The paper's folds assign
pieces at random, so that neighbours of one run are in both parts. Here a fold is a fifth of the runs of each terrain,
named as `group`. Four runs of the paper are missing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO, StringIO

import numpy as np

from statestream.models.data.merge_sensors import held, merged_recordings
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import piece
from statestream.models.data.set_files import Entry, File, read
from statestream.models.spec import Array

ROWS = 500
"""IMU rows in a piece."""
FOLDS = 5
IMU = ("wx", "wy", "wz", "ax", "ay", "az")
WHEELS = ("curL", "curR", "velL", "velR")
IMU_UNITS = ("rad/s", "rad/s", "rad/s", "m/s²", "m/s²", "m/s²")
WHEEL_UNITS = ("A", "A", "m/s", "m/s")
IMU_FILE = File("imu.parquet", "d2c77deec0650865a74527f6aec61d9912530b7d1430e1be3a14aa800a628e7c")
WHEEL_FILE = File("wheel.parquet", "4bd7b9f281a3590eb1729b49cfda6f38145d731ac7ec479ce4b064ebba55c79c")
RUNS = File("runs.csv", "c535a872f04df8c96f4a98ca03e366084fb58bd510fcd597919dd82e5b8e6797")

Combine = Callable[[Recording, Recording], Recording]
"""Combines the IMU's and the wheels' recordings of a run to one."""


def borealtc() -> Dataset:
    """The IMU only: pieces of 5 s of 68 runs.

    Leave runs out with `split.by = "group"` and 5 folds.
    """
    pieces = [piece(imu, start, ROWS) for imu in _sensor(IMU_FILE, IMU) for start in _starts(imu)]
    return _dataset(IMU, IMU_UNITS, pieces)


def runs() -> Dataset:
    """The IMU only: whole runs, 10 to 256 s."""
    return _dataset(IMU, IMU_UNITS, list(_sensor(IMU_FILE, IMU)))


def events() -> Dataset:
    """IMU and wheels as events, each at its own rate.

    NaN: not measured at the row's time.
    """
    return _both(lambda imu, wheels: merged_recordings([imu, wheels]))


def at_imu_rate() -> Dataset:
    """Both at the IMU's rate: each IMU row with the newest row of the wheels."""
    return _both(lambda imu, wheels: _joined(imu, imu.features, held(wheels.t_ns, wheels.features, imu.t_ns)))


def at_wheel_rate() -> Dataset:
    """Both at the wheels' rate, which is slower: each wheel row with the newest row of the IMU."""
    return _both(lambda imu, wheels: _joined(wheels, held(imu.t_ns, imu.features, wheels.t_ns), wheels.features))


def _both(combine: Combine) -> Dataset:
    """Pieces of combined runs, at the same times as those of the IMU only."""
    pieces = []
    for imu, wheels in zip(_sensor(IMU_FILE, IMU), _sensor(WHEEL_FILE, WHEELS), strict=True):
        whole = combine(imu, wheels)
        for start in _starts(imu):
            first, end = np.searchsorted(whole.t_ns, imu.t_ns[[start, start + ROWS - 1]] + [0, 1])
            part = whole.where(slice(first, end))
            pieces.append(Recording(f"{imu.id}/{start}", part.t_ns, part.features, part.target, part.group))
    return _dataset((*IMU, *WHEELS), (*IMU_UNITS, *WHEEL_UNITS), pieces)


def _starts(imu: Recording) -> range:
    return range(0, len(imu) - ROWS + 1, ROWS)


def _joined(rows: Recording, imu: Array, wheels: Array) -> Recording:
    return replace(rows, features=np.concatenate([imu, wheels], axis=1))


def _sensor(file: File, names: tuple[str, ...]) -> Iterator[Recording]:
    """Recordings of one sensor, run by run."""
    from pyarrow import parquet

    table = parquet.read_table(BytesIO(read("borealtc", file)))
    run, time = table.column("run").to_numpy(), table.column("time").to_numpy()
    x_NF = np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float32)
    terrains = _terrains()
    labels = _labels(terrains)
    seen = dict.fromkeys(labels, 0)
    for k, terrain in terrains.items():
        rows = run == k
        t_ns = np.round(time[rows].astype(np.float64) * 1e9).astype(np.int64)
        target = np.full(len(t_ns), labels.index(terrain))
        yield Recording(f"run{k}", t_ns, x_NF[rows], target, f"fold{seen[terrain] % FOLDS}")
        seen[terrain] += 1


def _terrains() -> dict[int, str]:
    """Terrain by run."""
    return {int(r["run"]): r["terrain"] for r in csv.DictReader(StringIO(read("borealtc", RUNS).decode()))}


def _labels(terrains: dict[int, str]) -> tuple[str, ...]:
    return tuple(sorted(set(terrains.values())))


def _dataset(features: tuple[str, ...], units: tuple[str, ...], pieces: list[Recording]) -> Dataset:
    return Dataset(tuple(pieces), features, _labels(_terrains()), units)


ENTRY = Entry(
    name="borealtc",
    title="Terrain under a wheeled robot from its IMU, and its wheels",
    origin="github.com/norlab-ulaval/BorealTC at fe64e38, data/borealtc (CSV files, here in one)",
    licence="CC0 1.0",
    split="leave runs out: by group, 5 folds, each a fifth of the runs of every terrain",
    load=borealtc,
    variants={"runs": runs, "events": events, "at_imu_rate": at_imu_rate, "at_wheel_rate": at_wheel_rate},
    files=(IMU_FILE, WHEEL_FILE, RUNS),
)
