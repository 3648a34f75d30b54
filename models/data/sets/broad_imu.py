"""BROAD: orientation from a 9-axis IMU with optical ground truth (Laidig et al., Data 6(7):72, 2021).

Six of 39 trials at 285.7 Hz. The target is inclination, as the direction of gravity in the sensor's frame: the third
row of the optical quaternion's rotation matrix. Rows with lost markers are left out; the elapsed time shows the gaps.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np

from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.data.segments import joined, piece
from statestream.models.data.set_files import Entry, File, read
from statestream.models.spec import Array

ROWS = 1024
FEATURES = tuple(f"{kind}_{axis}" for kind in ("acc", "gyr", "mag") for axis in "xyz")
UNITS = (*["m/s²"] * 3, *["rad/s"] * 3, *["µT"] * 3)
TRIALS: dict[Part, dict[str, str]] = {
    "train": {
        "02_undisturbed_slow_rotation_B": "1cdb276a99c5f4bc77c3c87b129a47e2178867ede60c4c058170e4b5ecfdee56",
        "07_undisturbed_fast_rotation_B": "6bc64ac54e9ea6058e09a415c7a3e5c7e9ed955b56d1f1bc0d562960da642907",
    },
    "validation": {
        "10_undisturbed_slow_translation_A": "22197d5492ee6e118c4d0bb403ce3ef330f4af197c7430a3dfb20a1c821e9ec4",
    },
    "test": {
        "21_undisturbed_fast_combined": "78690e899cf1848c46de33bbdf2c72b9f935bd8885230b6d0279091b4d8e8afa",
        "27_disturbed_phone_vibration_B": "442b3eb13e34c608674b7ee54ae632422b6c61fa16c183b0df04627459c2bfaa",
        "33_disturbed_attached_magnet_2cm": "090d22fe0523a95de89d274545da908fb43e75b831a8b535b65b3df405baaae3",
    },
}
FILES = {name: File(f"{name}.npz", sha256) for trials in TRIALS.values() for name, sha256 in trials.items()}


def broad_imu() -> Dataset:
    """Pieces of about 3.6 s; `group` is the trial."""
    by_part = [(part, [p for name in trials for p in _pieces(name)]) for part, trials in TRIALS.items()]
    recordings, parts = joined(by_part)
    return Dataset(recordings, FEATURES, ("up_x", "up_y", "up_z"), UNITS, parts)


def _pieces(name: str) -> list[Recording]:
    with np.load(BytesIO(read("broad_imu", FILES[name]))) as trial:
        x_TF = np.concatenate([trial["acc"], trial["gyr"], trial["mag"]], axis=1).astype(np.float32)
        up_T3 = _up(trial["opt_quat"])
        t_ns = np.round(np.arange(len(x_TF)) / float(trial["rate"]) * 1e9).astype(np.int64)
    seen = np.isfinite(up_T3).all(axis=1) & np.isfinite(x_TF).all(axis=1)
    whole = Recording(name, t_ns[seen], x_TF[seen], up_T3[seen], name)
    return [piece(whole, start, ROWS) for start in range(0, len(whole) - ROWS + 1, ROWS)]


def _up(quaternion_T4: Array) -> Array:
    """`[T, 3]` vertical axis of the world in the sensor's frame."""
    w, x, y, z = np.asarray(quaternion_T4, np.float32).T
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x**2 + y**2)], axis=1)


ENTRY = Entry(
    name="broad_imu",
    title="Inclination from a 9-axis IMU, with optical ground truth",
    origin="github.com/dlaidig/broad at 7e2f818, data_mat (converted)",
    licence="CC BY 4.0",
    split="standard: trials 02 07 train, 10 validates, 21 27 33 test",
    load=broad_imu,
    files=tuple(FILES.values()),
)
