"""Which ground is a Husky A200 driving on? IMU at 100 Hz (LaRocque et al., IROS 2024, arXiv:2403.16877).

As in the paper, runs are cut into pieces of 5 s. Its folds deal out pieces, so that neighbours of one run are in both
parts; here a fold is a fifth of the runs of each terrain, named as `group`. Four runs of the paper are missing.
"""

from __future__ import annotations

import csv
from io import BytesIO, StringIO

import numpy as np

from statestream.models.data.origins import Entry, File, read
from statestream.models.data.pieces import piece
from statestream.models.data.recordings import Dataset, Recording

ROWS = 500
FOLDS = 5
FEATURES = ("wx", "wy", "wz", "ax", "ay", "az")
UNITS = ("rad/s", "rad/s", "rad/s", "m/s²", "m/s²", "m/s²")
IMU = File("imu.parquet", "d2c77deec0650865a74527f6aec61d9912530b7d1430e1be3a14aa800a628e7c")
RUNS = File("runs.csv", "c535a872f04df8c96f4a98ca03e366084fb58bd510fcd597919dd82e5b8e6797")


def borealtc() -> Dataset:
    """Pieces of 5 s of 68 runs; leave runs out with `split.by = "group"` and 5 folds."""
    from pyarrow import parquet

    table = parquet.read_table(BytesIO(read("borealtc", IMU)))
    run, time = table.column("run").to_numpy(), table.column("time").to_numpy()
    x_NF = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    terrains = {int(r["run"]): r["terrain"] for r in csv.DictReader(StringIO(read("borealtc", RUNS).decode()))}
    labels = tuple(sorted(set(terrains.values())))
    seen = dict.fromkeys(labels, 0)
    pieces: list[Recording] = []
    for k, terrain in terrains.items():
        rows = run == k
        t_ns = np.round(time[rows].astype(np.float64) * 1e9).astype(np.int64)
        target = np.full(len(t_ns), labels.index(terrain))
        whole = Recording(f"run{k}", t_ns, x_NF[rows], target, f"fold{seen[terrain] % FOLDS}")
        seen[terrain] += 1
        pieces += [piece(whole, start, ROWS) for start in range(0, len(whole) - ROWS + 1, ROWS)]
    return Dataset(tuple(pieces), FEATURES, labels, UNITS)


ENTRY = Entry(
    name="borealtc",
    title="Terrain under a wheeled robot from its IMU",
    origin="github.com/norlab-ulaval/BorealTC at fe64e38, data/borealtc (CSV files, here in one)",
    licence="CC0 1.0",
    split="leave runs out: by group, 5 folds, each a fifth of the runs of every terrain",
    load=borealtc,
    files=(IMU, RUNS),
)
