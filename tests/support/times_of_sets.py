"""Times of every recording that this machine has, as hashes: `python -m tests.support.times_of_sets` stores them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from statestream.models.config import load_config, preset_names
from statestream.models.data.recordings import Columns, Recording, read_dataset
from statestream.models.data.registry import REGISTRY, loader
from statestream.models.data.set_files import Entry, locate
from statestream.models.data.sets import watch
from statestream.models.training.dataset import load_dataset

STORED = Path(__file__).with_name("times_of_sets.json")
FILES: dict[str, Columns] = {
    "borealtc/imu.parquet": Columns(recording="run"),
    "borealtc/wheel.parquet": Columns(recording="run"),
    "donkeycar_test_tub/labels.csv": Columns(features=("throttle",), period_s=0.05),
    "rc_indoor_track/labels.csv": Columns(features=("throttle",), recording="split", time="t_ms", time_unit="ms"),
    "movement_aal/targets.csv": Columns(features=("label",), target=("path",), period_s=1.0),
}
"""Files of `STATESTREAM_DATA` that are read as a user's own, and how."""


def sources() -> dict[str, Callable[[], Sequence[Recording]]]:
    """What reads the recordings of each set, variant, preset and file, by name; what is not here is left out."""
    found: dict[str, Callable[[], Sequence[Recording]]] = {}
    for entry in REGISTRY.values():
        for name in (entry.name, *(f"{entry.name}/{variant}" for variant in entry.variants)):
            if _is_here(entry):
                found[f"set {name}"] = partial(_of_set, name)
    for name in preset_names():
        config = load_config(name)
        if _is_here(REGISTRY[config.data.dataset.partition("/")[0]]):
            found[f"preset {name}"] = partial(_of_preset, name)
    folder = Path(os.environ.get("STATESTREAM_DATA", ""))
    for name, columns in FILES.items():
        if (folder / name).is_file():
            found[f"file {name}"] = partial(_of_file, folder / name, columns)
    return found


def _is_here(entry: Entry) -> bool:
    """Whether a set is on this machine; the watch's is a package elsewhere."""
    if entry is watch.ENTRY:
        return locate("watch_shoulder_exercises", watch.ARRAYS) is not None
    return all(locate(entry.name, file) for file in entry.files)


def _of_set(name: str) -> Sequence[Recording]:
    return loader(name)().recordings


def _of_preset(name: str) -> Sequence[Recording]:
    return load_dataset(load_config(name)).recordings


def _of_file(path: Path, columns: Columns) -> Sequence[Recording]:
    return read_dataset(path, columns).recordings


def facts(recordings: Sequence[Recording]) -> dict[str, Any]:
    """Number of recordings, of rows, and a hash over the hash of each recording's id and `t_ns`."""
    whole = hashlib.sha256()
    for recording in recordings:
        whole.update(hashlib.sha256(recording.id.encode() + b"\0" + recording.t_ns.astype("<i8").tobytes()).digest())
    rows = sum(map(len, recordings))
    return {"recordings": len(recordings), "rows": rows, "sha256": whole.hexdigest()[:32]}


if __name__ == "__main__":
    stored = {name: facts(read()) for name, read in sources().items()}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in stored.items())
    STORED.write_text(f"{{\n{lines}\n}}\n")
