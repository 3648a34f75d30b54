"""Recordings of the expert, one lap each, as tubs of a Donkey Car (version 4): what the camera saw, and the steering.

The manifest is written last: a folder without one is not a whole recording.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from examples.lane_keeping.car import Car
from examples.lane_keeping.link import Link, lap
from statestream.models import jpeg
from statestream.models.files import replacing

CAMERA, ANGLE = "cam/image_array", "user/angle"
LINK = Link(delay_s=0.04, jitter_s=0.04, dropped=0.1)
"""Worse than what is driven on afterwards: the time between frames is seen to vary."""
_MOST_NOISE = 0.5
MANIFEST = "manifest.json"
_CATALOG = "catalog_0.catalog"


def record(folder: Path, number: int, most_s: float) -> None:
    """Write one recording, of a lap or the first seconds of it; its number decides track, link and noise.

    The steering that acts is off from the one that is written by a noise of its own in each recording, so that
    recordings show how to come back (M. Laskey et al., "DART: Noise Injection for Robust Imitation Learning", 2017).
    """
    random = np.random.default_rng(number)
    noise, off = random.uniform(0.0, _MOST_NOISE), 0.0
    records: list[dict[str, object]] = []
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)

    def driver(car: Car) -> tuple[float, float]:
        name, command = f"{len(records)}_cam_image_array_.jpg", car.expert()
        (folder / "images" / name).write_bytes(jpeg.encode(car.look()))
        stamp = {"_index": len(records), "_session_id": f"lap-{number}", "_timestamp_ms": round(car.time_s * 1000)}
        records.append({**stamp, CAMERA: name, ANGLE: command})
        return command, 0.0

    def pushed() -> float:
        nonlocal off
        off = 0.8 * off + 0.6 * random.normal(0, noise)
        return off

    lap(Car(number), driver, LINK, random, most_s=most_s, pushed=pushed)
    _write(folder / _CATALOG, records)
    catalogs = {"paths": [_CATALOG], "current_index": len(records), "max_len": len(records), "deleted_indexes": []}
    _write(folder / MANIFEST, [[CAMERA, ANGLE], ["image_array", "float"], {}, {}, catalogs])


def _write(path: Path, lines: list[object] | list[dict[str, object]]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
