"""Raw images of Foxglove are pictures, in Protobuf and JSON, of as many bits as they have."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import picture_column
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.foxglove_logs import LOGGED_NS, ROWS, T_NS, channel, write_mcap

pytest.importorskip("mcap_protobuf")

SIZE = (3, 4)
PIXELS = np.random.default_rng(6).integers(0, 256, (ROWS, *SIZE, 3), np.uint8)
RAW = Columns(features=("/raw.data",))


def about(encoding: str, step: int) -> dict[str, object]:
    return {"height": SIZE[0], "width": SIZE[1], "encoding": encoding, "step": step}


def by_sdk(path: Path, encoding: str, rows: np.ndarray) -> Path:
    """`rows` are bytes `[N, H, step]`."""
    from foxglove import channels, open_mcap
    from foxglove import messages as made

    with open_mcap(str(path)) as writer:
        assert writer
        raw = channels.RawImageChannel("/raw")
        for k, data in enumerate(rows):
            stamp = made.Timestamp(**dict(zip(("sec", "nsec"), divmod(int(T_NS[k]), 10**9), strict=True)))
            fields = {"height": SIZE[0], "width": SIZE[1], "encoding": encoding, "step": rows.shape[-1]}
            raw.log(made.RawImage(timestamp=stamp, data=data.tobytes(), **fields), log_time=int(LOGGED_NS[k]))
    return path


def by_mcap(path: Path, encoding: str, rows: np.ndarray, step: int | None = None) -> Path:
    properties = {"data": {"type": "string", "contentEncoding": "base64"}}
    schema = ("foxglove.RawImage", "jsonschema", json.dumps({"properties": properties}).encode())

    def image(k: int) -> bytes:
        found = about(encoding, rows.shape[-1] if step is None else step)
        return json.dumps(found | {"data": b64encode(rows[k].tobytes()).decode()}).encode()

    return write_mcap(path, channel("/raw", "json", schema, image))


def padded(pixels: np.ndarray) -> np.ndarray:
    """Bytes `[N, H, step]`, with two more in each row."""
    rows = pixels.reshape(ROWS, SIZE[0], -1)
    return np.concatenate([rows, np.full((ROWS, SIZE[0], 2), 77, np.uint8)], axis=-1)


def test_colours_are_red_green_and_blue(tmp_path: Path) -> None:
    pytest.importorskip("foxglove")
    alpha = np.full((*PIXELS.shape[:-1], 1), 9, np.uint8)
    stored = {
        "rgb8": PIXELS,
        "bgr8": PIXELS[..., ::-1],
        "rgba8": np.concatenate([PIXELS, alpha], axis=-1),
        "bgra8": np.concatenate([PIXELS[..., ::-1], alpha], axis=-1),
    }
    for encoding, pixels in stored.items():
        for log in (
            by_sdk(tmp_path / f"{encoding}.mcap", encoding, padded(pixels)),
            by_mcap(tmp_path / f"{encoding}_json.mcap", encoding, padded(pixels)),
        ):
            assert picture_column(log) == "/raw.data"
            (recording,) = read_dataset(log, RAW, frame=SIZE).recordings
            np.testing.assert_array_equal(recording.features, PIXELS)


def test_depths_become_levels_by_their_range(tmp_path: Path) -> None:
    pytest.importorskip("foxglove")
    depths = np.random.default_rng(7).integers(0, 4000, (ROWS, *SIZE)).astype("<u2")
    log = by_sdk(tmp_path / "a.mcap", "16UC1", depths.view(np.uint8))
    with pytest.raises(DataError, match=r"message 0, column '/raw.data'.*picture_range"):
        read_dataset(log, RAW, frame=SIZE)
    columns = Columns(features=("/raw.data",), picture_range=(0, 4080))
    (recording,) = read_dataset(log, columns, frame=SIZE).recordings
    assert np.abs(recording.features[..., 0] - depths / 16).max() <= 1
    np.testing.assert_array_equal(recording.t_ns, T_NS)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    for log, text in {
        by_mcap(tmp_path / "a.mcap", "yuv422", padded(PIXELS)): "an image of encoding 'yuv422'",
        by_mcap(tmp_path / "b.mcap", "rgb8", padded(PIXELS), step=99): "in rows of 99 bytes has",
    }.items():
        with pytest.raises(DataError) as caught:
            read_dataset(log, RAW, frame=SIZE)
        assert text in str(caught.value)
        assert f"{log}: message 0, column '/raw.data'" in str(caught.value)
