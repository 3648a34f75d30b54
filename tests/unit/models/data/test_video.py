"""What a camera saw, wherever it is: tubs, folders, zips and videos become recordings with the same pictures."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from statestream.models import jpeg
from statestream.models.config import AugmentOptions
from statestream.models.data import pictures
from statestream.models.data.formats import reader_of
from statestream.models.data.recordings import Columns, Recording, read_dataset
from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array
from statestream.models.training.augment_frames import augment_frames
from statestream.models.training.dataset import channel_statistics
from tests.support.cameras import HEIGHT, SHAPE, WIDTH, film
from tests.support.films import (
    ANGLE,
    JPEGS,
    ROWS,
    SIZE,
    decoded,
    write_folder,
    write_labels,
    write_packed,
    write_tub,
    write_video,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read(path: Path) -> Table:
    return reader_of(path).read(path, ())


def test_a_tub_has_its_sessions_for_recordings(tmp_path: Path) -> None:
    columns = Columns(features=("cam/image_array",), target=("user/angle",))
    dataset = read_dataset(write_tub(tmp_path / "tub", deleted=(1,)), columns, frame=SIZE)
    assert [recording.id for recording in dataset.recordings] == ["day-0", "day-1"]
    first, second = dataset.recordings
    np.testing.assert_array_equal(first.features, decoded()[[0, 2]])
    np.testing.assert_allclose(np.asarray(second.target)[:, 0], ANGLE[3:], atol=1e-6)
    assert np.diff(first.t_ns).tolist() == [100_000_000]


@pytest.mark.parametrize("write", [write_packed, write_folder])
def test_pictures_in_a_zip_or_a_folder(write: object, tmp_path: Path) -> None:
    path = write(tmp_path / "drive")  # type: ignore[operator]
    columns = Columns(features=("image",), target=("angle",), period_s=0.05)
    (recording,) = read_dataset(path, columns, frame=SIZE).recordings
    np.testing.assert_array_equal(recording.features, decoded())
    assert np.diff(recording.t_ns).tolist() == [50_000_000] * (ROWS - 1)


def test_drives_beside_each_other_are_recordings_by_the_names_of_their_folders(tmp_path: Path) -> None:
    drives = tmp_path / "drives"
    drives.mkdir()
    write_folder(drives / "monday")
    write_packed(drives / "tuesday")
    columns = Columns(features=("image",), target=("angle",), period_s=0.05)
    assert [recording.id for recording in read_dataset(drives, columns, frame=SIZE).recordings] == ["monday", "tuesday"]


def test_a_video_has_its_own_times(tmp_path: Path) -> None:
    columns = Columns(features=("image",), target=("angle",))
    (recording,) = read_dataset(write_video(tmp_path / "drive.mp4"), columns, frame=SIZE).recordings
    assert np.abs(recording.features.astype(int) - decoded()).mean() < 6, "lossy, but the same film"
    assert np.diff(recording.t_ns).tolist() == [50_000_000] * (ROWS - 1)
    (folder,) = read_dataset(tmp_path, columns, frame=SIZE).recordings
    assert len(folder) == ROWS, "its labels are no recording of their own"


def test_frames_of_a_video_are_named_by_its_labels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", labels=False)
    write_labels(path.with_suffix(".csv"), frame=[4, 1], angle=[0.1, 0.2])
    table = read(path)
    late, early = (cell() for cell in table.cells("image"))
    whole = [cell() for cell in read(write_video(tmp_path / "bare.mp4", labels=False)).cells("image")]
    np.testing.assert_array_equal(late, whole[4])
    np.testing.assert_array_equal(early, whole[1])
    write_labels(path.with_suffix(".csv"), frame=[4, ROWS], angle=[0.1, 0.2])
    with pytest.raises(DataError, match=f"line 3, column 'frame': no frame {ROWS}; drive.mp4 has {ROWS}"):
        read(path)


def trimmed(path: Path, source: Path, *, start_ms: int) -> Path:
    """Cut the start of a video by an edit list: packets stay, for decoding, but are not shown."""
    data = bytearray(source.read_bytes())
    entry = data.index(b"elst") + 4 + 8
    scale = int.from_bytes(data[(header := data.index(b"mdhd") + 4) + 12 : header + 16], "big")
    data[entry + 4 : entry + 8] = (start_ms * scale // 1000).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def test_packets_that_an_edit_list_discards_are_no_frames(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", labels=False)
    table = read(trimmed(tmp_path / "drive.mp4", whole, start_ms=100))
    with av.open(str(tmp_path / "drive.mp4")) as container:
        theirs = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(theirs) == ROWS - 2
    np.testing.assert_array_equal([cell() for cell in table.cells("image")], theirs)
    pictures = [cell() for cell in read(whole).cells("image")]
    np.testing.assert_array_equal(theirs, pictures[2:])


@pytest.mark.parametrize("gop", [1, 12], ids=["key frames only", "few key frames"])
def test_a_long_video_is_read_from_anywhere(tmp_path: Path, gop: int) -> None:
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20, options={"g": str(gop), "bf": "2"})
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 4_000_000
        for picture in film(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        theirs = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    cells = read(path).cells("image")
    assert len(cells) == len(theirs) == 60
    for k in [40, 5, 59, 17, 18, 58, 0]:
        np.testing.assert_array_equal(cells[k](), theirs[k])


def test_films_not_asked_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> str:
        known = set(kept.glob("*.npy"))
        read_dataset(tmp_path / name, Columns(features=("image",), period_s=0.05), frame=SIZE)
        return next((path.name for path in set(kept.glob("*.npy")) - known), "")

    kept = tmp_path / "cache" / "statestream" / "frames"
    for name in "abcd":
        write_packed(tmp_path / name)
    first, second = read("a"), read("b")
    monkeypatch.setattr(pictures, "MOST_BYTES", 2 * (kept / first).stat().st_size)
    for age_s, name in enumerate((second, first)):
        os.utime(kept / name, (age_s, age_s))
    assert read("b") == "", "kept, and asked for"
    third = read("c")
    assert {path.name for path in kept.glob("*.npy")} == {second, third}
    monkeypatch.setattr(pictures, "MOST_BYTES", 1)
    assert [read("d")] == [path.name for path in kept.glob("*.npy")], "the newest stays"


def test_pictures_are_decoded_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, columns = write_packed(tmp_path / "drive"), Columns(features=("image",), period_s=0.05)
    opened: list[object] = []
    decode = jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda *args: (opened.append(args), decode(*args)))
    for _ in range(2):
        (recording,) = read_dataset(path, columns, frame=SIZE).recordings
    assert len(opened) == ROWS
    assert isinstance(_root(recording.features), np.memmap)
    read_dataset(path, columns, frame=(HEIGHT // 2, WIDTH // 2))
    assert len(opened) == 2 * ROWS, "another size is another film"


def _root(array: Array) -> object:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_pictures_of_another_size_are_averaged_by_area(tmp_path: Path) -> None:
    columns = Columns(features=("image",), period_s=0.05)
    (recording,) = read_dataset(write_packed(tmp_path / "drive"), columns, frame=(HEIGHT // 2, WIDTH // 2)).recordings
    quarters = decoded().reshape(ROWS, HEIGHT // 2, 2, WIDTH // 2, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(recording.features - quarters).max() <= 1


def test_a_camera_sends_its_jpegs_as_they_are(tmp_path: Path) -> None:
    path, columns = write_packed(tmp_path / "drive"), Columns(features=("image",), period_s=0.05)
    (recording,) = read_dataset(path, columns, frame=SIZE, encoded=True).recordings
    assert recording.features.tolist() == JPEGS
    (smaller,) = read_dataset(path, columns, frame=(8, 10), encoded=True).recordings
    assert {jpeg.size_of(data) for data in smaller.features} == {(8, 10)}


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    columns = Columns(features=("image",), period_s=0.05)
    folder = write_folder(tmp_path / "drive")
    (folder / "3.jpg").write_bytes(JPEGS[3][:-20])
    with pytest.raises(DataError, match=r"line 5, column 'image': a picture of .* cannot be decoded"):
        read_dataset(folder, columns, frame=SIZE)
    (folder / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"line 5, column 'image': there is no picture .*3\.jpg"):
        read_dataset(folder, columns, frame=SIZE)
    write_labels(folder / "labels.csv", image=[], angle=[])
    with pytest.raises(DataError, match="empty recording: the file has no rows"):
        read_dataset(folder, columns, frame=SIZE)
    tub = write_tub(tmp_path / "tub")
    with (tub / "catalog_1.catalog").open("a") as file:
        file.write('{"_index": 6}\n')
    with pytest.raises(DataError, match=r"catalog_1\.catalog: line 3: no '_timestamp_ms'"):
        read(tub)
    (tub / "manifest.json").write_text("{}\n")
    with pytest.raises(DataError, match=r"not the manifest of a tub \(version 4\)"):
        read(tub)
    (tmp_path / "noise.mp4").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"noise\.mp4: cannot read it"):
        read(tmp_path / "noise.mp4")


def test_a_record_of_a_tub_may_lack_what_is_not_asked_for(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "tub")
    catalog = tub / "catalog_1.catalog"
    catalog.write_text(catalog.read_text().replace(', "user/mode": "user"', ""))
    columns = Columns(features=("cam/image_array",), target=("user/angle",))
    assert sum(map(len, read_dataset(tub, columns, frame=SIZE).recordings)) == ROWS
    with pytest.raises(DataError, match=r"catalog_1\.catalog: line 1: no 'user/mode'"):
        read(tub)
    with pytest.raises(DataError, match=r"no column 'user/throttle'; it has timestamp_ns, recording, cam/image_array"):
        read_dataset(tub, Columns(features=("user/throttle",)))


def test_all_frames_of_a_recording_change_alike() -> None:
    still = np.broadcast_to(film(1), (4, *SHAPE))
    recording = Recording("still", np.arange(4), still)
    options = AugmentOptions(brightness=0.3, shift_pixels=(2, 3), blur=2)
    changed = [augment_frames(recording, (), options, np.random.default_rng(seed)).features for seed in range(5)]
    for x in changed:
        np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))
    assert len({x.tobytes() for x in changed}) == 5
    assert augment_frames(recording, (), AugmentOptions(), np.random.default_rng(0)) is recording


def test_each_change_does_what_it_says() -> None:
    x = film(1, seed=3)
    recording = Recording("one", np.arange(1), x)
    random = np.random.default_rng(1)
    darker = augment_frames(recording, (), AugmentOptions(brightness=0.5), random).features
    light = darker.astype(float).sum() / x.sum()
    np.testing.assert_allclose(darker, np.clip(np.round(x * light), 0, 255), atol=2)
    sideways = AugmentOptions(shift_pixels=(0, 3))
    moved = [augment_frames(recording, (), sideways, np.random.default_rng(seed)).features for seed in range(6)]
    inside = slice(3, -3)
    by = [
        next(by for by in range(-3, 4) if np.array_equal(m[:, :, inside], np.roll(x, by, axis=2)[:, :, inside]))
        for m in moved
    ]
    assert len(set(by)) > 2
    point = np.zeros((1, 9, 9, 3), np.uint8)
    point[0, 4, 4] = 160
    blurred = [
        augment_frames(
            Recording("p", np.arange(1), point), (), AugmentOptions(blur=1), np.random.default_rng(s)
        ).features
        for s in range(6)
    ]
    once = next(b for b in blurred if not np.array_equal(b, point))
    assert once[0, 3:6, 3:6, 0].tolist() == [[10, 20, 10], [20, 40, 20], [10, 20, 10]]


def test_a_mirrored_drive_turns_the_other_way() -> None:
    x, target = film(3), np.array([[0.5, 0.2], [-1.0, 0.3], [0.0, 0.4]], np.float32)
    recording, options = Recording("drive", np.arange(3), x, target), AugmentOptions(mirror_pictures=("angle",))
    seen = [augment_frames(recording, ("angle", "throttle"), options, np.random.default_rng(s)) for s in range(8)]
    mirrored = [r for r in seen if r is not recording]
    assert 0 < len(mirrored) < len(seen)
    for r in mirrored:
        np.testing.assert_array_equal(r.features, x[:, :, ::-1])
        np.testing.assert_array_equal(r.target, target * np.array([-1, 1]))


def test_statistics_of_pixels_are_those_of_numbers() -> None:
    x = [film(3), film(70, seed=1)]
    for common in (False, True):
        pixels, numbers = (channel_statistics(a, common=common) for a in (x, [a.astype(float) for a in x]))
        np.testing.assert_allclose(pixels, numbers, rtol=1e-9)
