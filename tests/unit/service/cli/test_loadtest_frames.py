"""Pictures for a load test: from wherever they come, JPEGs of the size that the model takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from statestream.models import jpeg
from statestream.models.data.tables import DataError
from statestream.service.cli.loadtest_frames import FRAMES, frames_for
from statestream.service.errors import InvalidArgument
from tests.conftest import leaky_manifest
from tests.support.cameras import HEIGHT, WIDTH, camera_manifest, seen
from tests.support.films import JPEGS, ROWS, write_folder, write_packed, write_tub, write_video

CAMERA = camera_manifest()


@pytest.mark.parametrize("write", [write_tub, write_folder, write_packed])
def test_films_of_jpegs_are_sent_as_they_are(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert frames_for(str(write(tmp_path / "film")), CAMERA) == {"camera": JPEGS}


def test_a_folder_needs_no_labels_and_other_sizes_are_resized(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "film")
    (folder / "labels.csv").unlink()
    (folder / "0.jpg").write_bytes(jpeg.encode(np.zeros((3 * HEIGHT, 2 * WIDTH, 3), np.uint8)))
    found = frames_for(str(folder), CAMERA)["camera"]
    assert list(found[1:]) == JPEGS[1:]
    assert jpeg.size_of(found[0]) == (HEIGHT, WIDTH)


def test_a_video_is_encoded_anew(tmp_path: Path) -> None:
    found = frames_for(str(write_video(tmp_path / "drive.mp4")), CAMERA)["camera"]
    assert [jpeg.size_of(one) for one in found] == [(HEIGHT, WIDTH)] * ROWS


def test_made_up_pictures_move() -> None:
    found = frames_for(f"synthetic:{WIDTH}x{HEIGHT}", CAMERA)["camera"]
    pixels = seen(list(found), CAMERA.inputs[0]).astype(float)
    assert len(found) == FRAMES
    assert pixels.std(axis=(1, 2, 3)).min() > 20
    followed = np.abs(pixels[1:, :, :-1] - pixels[:-1, :, 1:]).mean()
    assert followed < np.abs(pixels[1:] - pixels[:-1]).mean(), "by a column each"
    assert found == frames_for(f"synthetic:{WIDTH}x{HEIGHT}", CAMERA)["camera"]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    for source, manifest, why in (
        ("synthetic:32x24", leaky_manifest(), "leaky:1 has no input that takes JPEG"),
        ("synthetic:160x120", CAMERA, "160x120, input 'camera' of camera:1 takes 32x24"),
        ("synthetic:large", CAMERA, "expected synthetic:WIDTHxHEIGHT"),
        (str(tmp_path), CAMERA, "expected a video or a folder of pictures"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            frames_for(source, manifest)
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"drive\.mp4: cannot read it"):
        frames_for(str(tmp_path / "drive.mp4"), CAMERA)
