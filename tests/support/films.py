"""Films on disk, as cars, people and cameras leave them: the same pictures and angles in every form."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import av
import numpy as np

from statestream.models.data import pictures
from statestream.models.spec import Array
from tests.support.cameras import HEIGHT, WIDTH, encoded, film

ROWS = 6
ANGLE = np.linspace(-0.5, 0.75, ROWS)
SIZE = (HEIGHT, WIDTH)
JPEGS = encoded(film(ROWS))


def decoded() -> Array:
    """`[ROWS, H, W, 3]`"""
    return np.stack([pictures.decoded(data, *SIZE) for data in JPEGS])


def write_tub(folder: Path, deleted: tuple[int, ...] = ()) -> Path:
    """As Donkey Car 4 and later write it: a manifest of five lines, and catalogs of records."""
    (folder / "images").mkdir(parents=True)
    names, kinds = ["cam/image_array", "user/angle", "user/mode"], ["image_array", "float", "str"]
    catalogs = {"paths": ["catalog_0.catalog", "catalog_1.catalog"], "current_index": ROWS, "max_len": 4}
    about = {"created_at": 1.7e9, "sessions": {}}
    lines = [names, kinds, {}, about, catalogs | {"deleted_indexes": list(deleted)}]
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    for number in range(2):
        with (folder / f"catalog_{number}.catalog").open("w") as file:
            for k in range(4 * number, min(4 * number + 4, ROWS)):
                picture = f"{k}_cam_image_array_.jpg"
                (folder / "images" / picture).write_bytes(JPEGS[k])
                record = {
                    "_index": k, "_session_id": f"day-{k // 3}", "_timestamp_ms": 1_700_000_000_000 + 50 * k,
                    "cam/image_array": picture, "user/angle": float(ANGLE[k]), "user/mode": "user",
                }  # fmt: skip
                file.write(json.dumps(record) + "\n")
    return folder


def write_labels(path: Path, **columns: list[object]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_packed(folder: Path) -> Path:
    folder.mkdir()
    write_labels(folder / "labels.csv", frame=list(range(ROWS)), angle=ANGLE.tolist())
    with zipfile.ZipFile(folder / "frames.zip", "w") as archive:
        for k, data in enumerate(JPEGS):
            archive.writestr(f"{k:05d}.jpg", data)
    return folder


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for k, data in enumerate(JPEGS):
        (folder / f"{k}.jpg").write_bytes(data)
    write_labels(folder / "labels.csv", image=[f"{k}.jpg" for k in range(ROWS)], angle=ANGLE.tolist())
    return folder


def write_video(path: Path, *, labels: bool = True) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 4_000_000
        for picture in decoded():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    if labels:
        write_labels(path.with_suffix(".csv"), angle=ANGLE.tolist())
    return path
