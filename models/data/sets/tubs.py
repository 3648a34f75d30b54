"""Donkey Car tubs: steering of 1/10 cars from their camera, two sessions, 160×120.

A row's features are the frame's 20×15 grey pixels; the target is the driver's steering angle. The splits of
`labels.csv` are contiguous; pieces have 50 frames. The variant `frames` has the full pictures, decoded once and mapped
into memory: pieces of 50 to train, validation and test as one recording each.
"""

from __future__ import annotations

import csv
import zipfile
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import cast

import numpy as np

from statestream.models.data.pictures import CHANNELS, decoded, frames
from statestream.models.data.readers import labelled_frames
from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.data.segments import joined, piece
from statestream.models.data.set_files import Entry, File, locate, read
from statestream.models.spec import Array, BoolArray, Float32Array

ROWS = 50
FILM_ROWS = 50
WIDTH, HEIGHT = 20, 15
PERIOD_MS = 50
"""Period of a session without timestamps."""
FRAME = (120, 160)
WORDS: dict[Part, str] = {"train": "train", "validation": "valid", "test": "test"}
FEATURES = tuple(f"p{row}_{column}" for row in range(HEIGHT) for column in range(WIDTH))


def tub(folder: str, labels: File, packed: File) -> Dataset:
    """Pieces of a session, with the parts of its labels."""
    rows = list(csv.DictReader(StringIO(read(folder, labels).decode())))
    with zipfile.ZipFile(BytesIO(read(folder, packed))) as archive:
        pixels = {row["frame"]: _grey(archive.read(f"{int(row['frame']):05d}.jpg")) for row in rows}
    recordings, parts = joined(
        [(part, _pieces(part, [row for row in rows if row["split"] == word], pixels)) for part, word in WORDS.items()]
    )
    return Dataset(recordings, FEATURES, ("angle",), parts=parts)


def film(folder: str, labels: File, packed: File) -> Dataset:
    """Pictures uint8 `[T, 120, 160, 3]`: the train part in pieces, the others each in one recording."""
    for file in (labels, packed):
        read(folder, file)
    whole = labelled_frames.READER.read(cast(Path, locate(folder, labels)).parent, ())
    pixels, split = frames(whole, labelled_frames.IMAGE, FRAME), np.array(whole.text("split"))
    angle = whole.numbers("angle").astype(np.float32)[:, None]
    t_ms = whole.numbers("t_ms") if "t_ms" in whole.columns else PERIOD_MS * np.arange(whole.rows)
    whole_parts = {part: _part(part, split == word, t_ms, pixels, angle) for part, word in WORDS.items()}
    drives = {part: [recording] for part, recording in whole_parts.items()}
    train = whole_parts["train"]
    drives["train"] = [piece(train, start, FILM_ROWS) for start in range(0, len(train), FILM_ROWS)]
    recordings, found = joined(list(drives.items()))
    return Dataset(recordings, CHANNELS, ("angle",), parts=found)


def _part(part: Part, chosen: BoolArray, t_ms: Array, pixels: Array, angle: Float32Array) -> Recording:
    """Select consecutive rows as a slice, so that pictures stay mapped, not copied."""
    rows = np.flatnonzero(chosen)
    span = slice(rows[0], rows[-1] + 1)
    assert chosen[span].all(), "the split is contiguous"
    assert (np.diff(t_ms[span]) >= 0).all(), "rows are in order of time"
    return Recording(part, t_ms[span].astype(np.int64) * 1_000_000, pixels[span], angle[span])


def _pieces(part: str, rows: list[dict[str, str]], pixels: dict[str, Float32Array]) -> list[Recording]:
    t_ms = np.array([int(row.get("t_ms") or k * PERIOD_MS) for k, row in enumerate(rows)], np.int64)
    x_TF = np.stack([pixels[row["frame"]] for row in rows])
    angle = np.array([[float(row["angle"])] for row in rows], np.float32)
    order = np.argsort(t_ms, kind="stable")
    whole = Recording(part, t_ms[order] * 1_000_000, x_TF[order], angle[order])
    return [piece(whole, start, ROWS) for start in range(0, len(whole) - ROWS + 1, ROWS)]


def _grey(jpeg: bytes) -> Float32Array:
    return decoded(jpeg, HEIGHT, WIDTH, "L").astype(np.float32).reshape(-1)


_DONKEY = (
    File("labels.csv", "71b0c8925b8a5a5a748b2d894c20d3028022fd34abedab500e96549d4f865dfd"),
    File("frames.zip", "9f2b890d5405ba9b794169608f13b37b82e64dc676da430922cb371ceb660d90"),
)
_RC = (
    File("labels.csv", "2f1583664a96dbf5812c81283265265436b7dbde17cb58c6f4695633c802def4"),
    File("frames.zip", "72cd0d9577c4a812dc2f6a270835521c8e1bb23977a589d44d274eec0e80ef6e"),
)
DONKEYCAR = Entry(
    name="donkeycar_test_tub",
    title="Steering of a 1/10 car on a taped track, 1,000 frames",
    origin="github.com/autorope/donkeycar at cde8bbe, donkeycar/tests/tub/tub.tar.gz (converted)",
    licence="MIT",
    split="standard: contiguous, 70 % to train, 10 % to validate, 20 % to test",
    load=partial(tub, "donkeycar_test_tub", *_DONKEY),
    variants={"frames": partial(film, "donkeycar_test_tub", *_DONKEY)},
    files=_DONKEY,
)
RC_TRACK = Entry(
    name="rc_indoor_track",
    title="Steering of a 1/10 car on a walled track, 7,000 frames",
    origin="github.com/yuki-shimoda-crypto/Donkey_Car at 102aef2, data (7,000 of its frames)",
    licence="MIT",
    split="standard: the test was driven 33 minutes earlier",
    load=partial(tub, "rc_indoor_track", *_RC),
    variants={"frames": partial(film, "rc_indoor_track", *_RC)},
    files=_RC,
)
