"""Pictures for a load test, encoded beforehand: of a video, a folder, or synthetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from statestream.models import jpeg
from statestream.models.spec import Array, InputSpec, Manifest
from statestream.service.errors import InvalidArgument

if TYPE_CHECKING:
    from statestream.models.data.tables import Table

FRAMES = 32
"""Number of pictures, that of the different messages."""
_MADE_UP = re.compile(r"synthetic:(\d+)x(\d+)")
_PICTURES = (".jpg", ".jpeg", ".png")
_COARSE = 16
"""Pixels between the grid points of a synthetic scene's colours."""
_NOISE = 3.0
"""Standard deviation of a synthetic camera's noise, in levels of 255; gives JPEGs as large as a small camera's."""


def frames_for(source: str, manifest: Manifest) -> dict[str, Sequence[bytes]]:
    """JPEGs for every encoded input of a model, in the input's size.

    Args:
        source: `synthetic:WIDTHxHEIGHT`, a folder of pictures, or a recording with pictures; its first
            pictures are used.

    Raises:
        InvalidArgument: the model takes no JPEG, or the size of synthetic pictures is not the model's.
        DataError: a file cannot be read; the text names it.
    """
    if not manifest.encoded_inputs:
        raise InvalidArgument(f"{manifest.ref} has no input that takes JPEG", field="--frames")
    if source.startswith("synthetic:"):
        size = _made_up_size(source)
        return {name: _made_up(spec, size, manifest.ref) for name, spec in manifest.encoded_inputs.items()}
    table, column = _first(Path(source))
    return _resized(table, column, manifest.encoded_inputs)


def _made_up_size(source: str) -> tuple[int, int]:
    """Parse height and width of synthetic pictures."""
    match = _MADE_UP.fullmatch(source)
    if match is None:
        raise InvalidArgument(f"'{source}', expected synthetic:WIDTHxHEIGHT", field="--frames")
    return int(match[2]), int(match[1])


def _made_up(spec: InputSpec, size: tuple[int, int], ref: str) -> Sequence[bytes]:
    """Synthetic pictures: a scene of soft colours moving past a camera with some noise."""
    height, width, channels = spec.shape
    if size != (height, width):
        raise InvalidArgument(
            f"{size[1]}x{size[0]}, input '{spec.name}' of {ref} takes {width}x{height}", field="--frames"
        )
    rng = np.random.default_rng(0)
    scene = _soft(rng.uniform(0, 255, (height // _COARSE + 2, (width + FRAMES) // _COARSE + 2, channels)))
    views = (scene[:height, k : k + width] + rng.normal(0, _NOISE, spec.shape) for k in range(FRAMES))
    colours = spec.colours or "rgb"
    return [jpeg.encode(view.clip(0, 255).astype(np.uint8), colours) for view in views]


def _soft(coarse: Array) -> Array:
    """Interpolate a grid linearly along both axes."""
    for axis in (0, 1):
        at = np.arange(coarse.shape[axis] - 1) + np.arange(_COARSE)[:, None] / _COARSE
        left = at.T.reshape(-1)
        part = (left % 1).reshape([-1 if k == axis else 1 for k in range(3)])
        low = coarse.take(left.astype(int), axis)
        coarse = low + part * (coarse.take(left.astype(int) + 1, axis) - low)
    return coarse


def _first(path: Path) -> tuple[Table, str]:
    """Read the first pictures of a film or folder as a table, and its picture column."""
    from statestream.models.data.formats import find, picture_column
    from statestream.models.data.readers.labelled_frames import IMAGE
    from statestream.models.data.tables import Table

    reader = find(path)
    if reader is not None and (column := picture_column(path)):
        table = reader.read(path, (column,))
        return replace(table, columns={name: cells[:FRAMES] for name, cells in table.columns.items()}), column
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES) if path.is_dir() else []
    if not files:
        raise InvalidArgument(f"{path}, expected a video or a folder of pictures", field="--frames")
    cells = np.empty(len(files[:FRAMES]), object)
    cells[:] = [file.read_bytes for file in files[:FRAMES]]
    return Table(path, {IMAGE: cells}, row_word="picture"), IMAGE


def _resized(table: Table, column: str, specs: Mapping[str, InputSpec]) -> dict[str, Sequence[bytes]]:
    from statestream.models.data.pictures import jpegs

    return {
        name: jpegs(table, column, (spec.shape[0], spec.shape[1]), spec.picture_range).tolist()
        for name, spec in specs.items()
    }
