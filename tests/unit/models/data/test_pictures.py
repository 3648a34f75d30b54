"""Pictures of every depth: 8 bits as they are, more by a declared range, and what would be lost is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statestream.models.config import DataOptions
from statestream.models.data import message_fields
from statestream.models.data.formats import picture_column
from statestream.models.data.pictures import as_jpeg, decoded, frames
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.levels import levels
from statestream.models.spec import Array, InputSpec, Manifest, OutputSpec, TimeSpec
from statestream.service.client.inputs import row_of, rows_of
from statestream.service.errors import InvalidArgument
from tests.support.films import write_labels

Image = pytest.importorskip("PIL.Image")

HEIGHT, WIDTH = 4, 6
DEPTH = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 500
SPAN = (0.0, 10_000.0)
LEVELS = np.repeat(np.rint(DEPTH.clip(0, 10_000) * 0.0255).astype(np.uint8)[..., None], 3, axis=-1)
Make = Callable[[], bytes]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, kind, **options)
    return file.getvalue()


def deep_colours(codec: str, kind: str) -> bytes:
    """A picture of 16 bits a colour, as Pillow cannot write it."""
    av = pytest.importorskip("av")
    writer = av.CodecContext.create(codec, "w")
    writer.width, writer.height, writer.pix_fmt, writer.time_base = WIDTH, HEIGHT, kind, Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 40_001, np.uint16), format=kind)
    return b"".join(bytes(packet) for packet in [*writer.encode(frame), *writer.encode(None)])


def palette(alpha: int | None = None) -> bytes:
    picture = Image.new("P", (WIDTH, HEIGHT), 3)
    picture.putpalette([value for k in range(256) for value in (k, 2 * k % 256, 255 - k)])
    return encoded(picture) if alpha is None else encoded(picture, transparency=bytes([255, 255, 255, alpha]))


def plain(mode: str, colour: Any) -> Make:
    return lambda: encoded(
        Image.new(mode, (WIDTH, HEIGHT), colour), "TIFF" if mode in ("CMYK", "LAB", "YCbCr") else "PNG"
    )


RIGHT: dict[str, tuple[Make, tuple[int, int, int]]] = {
    "1": (plain("1", 1), (255, 255, 255)),
    "L": (plain("L", 77), (77, 77, 77)),
    "P": (palette, (3, 6, 252)),
    "P, opaque": (lambda: palette(255), (3, 6, 252)),
    "RGB": (plain("RGB", (1, 2, 3)), (1, 2, 3)),
    "RGBA, opaque": (plain("RGBA", (1, 2, 3, 255)), (1, 2, 3)),
    "LA, opaque": (plain("LA", (9, 255)), (9, 9, 9)),
    "TIFF": (lambda: encoded(Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)), "TIFF"), (1, 2, 3)),
    "BMP": (lambda: encoded(Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)), "BMP"), (1, 2, 3)),
    "PPM": (lambda: encoded(Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)), "PPM"), (1, 2, 3)),
    "PGM": (lambda: encoded(Image.new("L", (WIDTH, HEIGHT), 77), "PPM"), (77, 77, 77)),
    "GIF": (lambda: encoded(Image.new("L", (WIDTH, HEIGHT), 77), "GIF"), (77, 77, 77)),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "P, transparent": (lambda: palette(0), "mode P with transparent pixels"),
    "RGBA, transparent": (plain("RGBA", (1, 2, 3, 128)), "mode RGBA with transparent pixels"),
    "LA, transparent": (plain("LA", (9, 0)), "mode LA with transparent pixels"),
    "L, transparent": (
        lambda: encoded(Image.new("L", (WIDTH, HEIGHT), 7), transparency=7),
        "mode L with transparent pixels",
    ),
    "I;16, transparent": (lambda: encoded(DEPTH, transparency=500), "mode I;16 with a transparent value"),
    "CMYK": (plain("CMYK", (1, 2, 3, 4)), "mode CMYK; convert it to RGB"),
    "LAB": (plain("LAB", (1, 2, 3)), "mode LAB; convert it to RGB"),
    "PNG of 16 bits a colour": (lambda: deep_colours("png", "rgb48be"), "mode RGB with 16 bits per colour"),
    "TIFF of 16 bits a colour": (lambda: deep_colours("tiff", "rgb48le"), "mode RGB with 16 bits per colour"),
    "several": (
        lambda: encoded(Image.new("L", (9, 9)), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9), 1)]),
        "a file of 2 pictures",
    ),
    "several in a GIF": (
        lambda: encoded(Image.new("L", (9, 9)), "GIF", save_all=True, append_images=[Image.new("L", (9, 9), 1)]),
        "a file of 2 pictures",
    ),
    "PGM of 12 bits": (lambda: b"P5 # depth\n2 1\n4095\n" + bytes(4), "values up to 4095, not 255"),
    "PPM of 16 bits": (lambda: b"P6\n1 1\n65535\n" + bytes(6), "values up to 65535, not 255"),
    "EPS": (lambda: encoded(Image.new("L", (9, 9)), "EPS"), "cannot be decoded"),
    "no picture": (lambda: b"text", "a picture of 4 bytes cannot be decoded"),
    "half of one": (lambda: encoded(DEPTH)[:60], "cannot be decoded"),
}

DEEP: dict[str, Make] = {
    "PNG, I;16": lambda: encoded(DEPTH),
    "TIFF, I;16": lambda: encoded(DEPTH, "TIFF"),
    "TIFF, I;16B": lambda: encoded(Image.frombytes("I;16B", (WIDTH, HEIGHT), DEPTH.astype(">u2").tobytes()), "TIFF"),
    "TIFF, I": lambda: encoded(DEPTH.astype(np.int32), "TIFF"),
    "TIFF, F": lambda: encoded(DEPTH.astype(np.float32), "TIFF"),
}


@pytest.mark.parametrize("mode", RIGHT)
def test_pictures_of_8_bits_are_right_in_every_mode(mode: str) -> None:
    make, colour = RIGHT[mode]
    np.testing.assert_array_equal(decoded(make(), HEIGHT, WIDTH), np.full((HEIGHT, WIDTH, 3), colour))


@pytest.mark.parametrize("mode", REFUSED)
@pytest.mark.parametrize("span", [None, SPAN], ids=["", "by a range"])
def test_what_would_lose_something_is_refused_by_its_mode(mode: str, span: tuple[float, float] | None) -> None:
    make, words = REFUSED[mode]
    with pytest.raises(DataError, match=words):
        decoded(make(), HEIGHT, WIDTH, span=span)


@pytest.mark.parametrize("kind", DEEP)
def test_pictures_of_more_bits_are_scaled_by_the_range_or_refused(kind: str) -> None:
    data = DEEP[kind]()
    np.testing.assert_array_equal(decoded(data, HEIGHT, WIDTH, span=SPAN), LEVELS)
    with pytest.raises(DataError, match=r"from 0(\.0)? to 11500(\.0)?; set data\.picture_range = \[LOW, HIGH\]"):
        decoded(data, HEIGHT, WIDTH)
    with pytest.raises(DataError, match="expected one of 8 bits"):
        decoded(data, HEIGHT, WIDTH, "L")


def test_a_jpeg_of_inks_is_what_pillow_says() -> None:
    data = encoded(Image.new("CMYK", (WIDTH, HEIGHT), (10, 20, 30, 40)), "JPEG")
    theirs = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decoded(data, HEIGHT, WIDTH) - theirs).max() <= 2


def test_a_range_is_not_for_8_bits() -> None:
    for data in (plain("L", 7)(), encoded(Image.new("RGB", (WIDTH, HEIGHT)), "JPEG")):
        with pytest.raises(DataError, match=r"has 8 bits, and data\.picture_range = \[0\.0, 10000\.0\] is for"):
            decoded(data, HEIGHT, WIDTH, span=SPAN)
        with pytest.raises(DataError, match="has 8 bits"):
            as_jpeg(data, (HEIGHT, WIDTH), SPAN)


def test_what_is_beyond_the_range_becomes_its_ends_and_nan_becomes_0() -> None:
    values = np.array([[-np.inf, -1, 0.4, 0.5], [0.6, 1.2, np.inf, np.nan]], np.float32)
    found = levels(values, (0.4, 0.6))
    assert found[..., 0].tolist() == [[0, 0, 0, 128], [255, 255, 255, 0]]
    assert found.shape == (2, 4, 3)
    assert levels(np.array([[-(2**31), 2**31 - 1]], np.int32), (-(2**31), 2**31 - 1))[..., 0].tolist() == [[0, 255]]


def folder(path: Path, **pictures: bytes) -> Path:
    path.mkdir()
    for name, data in pictures.items():
        (path / f"{name}.png").write_bytes(data)
    write_labels(path / "labels.csv", image=[f"{name}.png" for name in pictures], y=list(range(len(pictures))))
    return path


def test_depths_are_read_by_the_range_and_refusals_name_file_row_and_setting(tmp_path: Path) -> None:
    path = folder(tmp_path / "depth", a=encoded(DEPTH), b=encoded(DEPTH[::-1]))
    columns = Columns(features=("image",), target=("y",), period_s=0.1)
    for _ in range(2):  # The second time from the cache.
        dataset = read_dataset(path, columns.model_copy(update={"picture_range": SPAN}), frame=(HEIGHT, WIDTH))
        np.testing.assert_array_equal(dataset.recordings[0].features, [LEVELS, LEVELS[::-1]])
        assert dataset.picture_range == SPAN
    narrow = columns.model_copy(update={"picture_range": (0.0, 5_000.0)})
    assert read_dataset(path, narrow, frame=(HEIGHT, WIDTH)).recordings[0].features[0, 1, 0, 0] == 153
    with pytest.raises(DataError, match=r"labels\.csv: line 2, column 'image': .* are uint16.*data\.picture_range"):
        read_dataset(path, columns, frame=(HEIGHT, WIDTH))
    with pytest.raises(DataError, match=r"data\.picture_range is for pictures"):
        read_dataset(path, Columns(features=("y",), period_s=0.1, picture_range=SPAN))


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf"))])
def test_a_range_ascends(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="picture_range"):
        Columns(picture_range=span)


def raw(encoding: str, values: Array, *, pad: int = 0, big: bool = False) -> SimpleNamespace:
    """A message `sensor_msgs/Image`, its rows padded."""
    height, width = values.shape[:2]
    rows = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(">" if big else "<")))
    data = np.pad(rows.view(np.uint8).reshape(height, -1), ((0, 0), (0, pad)))
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=data.shape[1], is_bigendian=int(big), data=data.reshape(-1)
    )


def value_of(message: Any) -> Any:
    value = message_fields.MessageField.parse("/camera/image.data").of(message)
    return value() if callable(value) else value


COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize(
    ("encoding", "values", "expected"),
    [
        ("rgb8", COLOURS[..., :3], COLOURS[..., :3]),
        ("bgr8", COLOURS[..., :3], COLOURS[..., 2::-1]),
        ("rgba8", COLOURS, COLOURS[..., :3]),
        ("bgra8", COLOURS, COLOURS[..., 2::-1]),
        ("mono8", COLOURS[..., 0], np.repeat(COLOURS[..., :1], 3, axis=-1)),
        ("8UC1", COLOURS[..., 0], np.repeat(COLOURS[..., :1], 3, axis=-1)),
        ("mono16", DEPTH, DEPTH),
        ("16UC1", DEPTH, DEPTH),
        ("16SC1", -DEPTH.astype(np.int16), -DEPTH.astype(np.int16)),
        ("32SC1", DEPTH.astype(np.int32), DEPTH.astype(np.int32)),
        ("32FC1", DEPTH.astype(np.float32), DEPTH.astype(np.float32)),
        ("64FC1", DEPTH.astype(np.float64), DEPTH.astype(np.float64)),
    ],
)
def test_raw_images_of_ros_are_what_their_encoding_says(
    encoding: str, values: Array, expected: Array, pad: int
) -> None:
    for big in (False, True):
        found = value_of(raw(encoding, values, pad=pad, big=big))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_gbrg16", "yuv422", "nv12", "8UC3", "rgb16", ""])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(DataError, match=f"encoding '{encoding}'; read are rgb8, bgr8"):
        value_of(raw(encoding, COLOURS[..., 0]))


def test_an_image_that_is_cut_off_is_refused() -> None:
    message = raw("16UC1", DEPTH)
    for change in ({"data": message.data[:-1]}, {"step": 3}, {"width": 0}, {"height": 2**31}):
        with pytest.raises(DataError, match="16UC1 in rows of"):
            value_of(SimpleNamespace(**{**vars(message), **change}))
    shorter = SimpleNamespace(**{**vars(raw("16UC1", DEPTH, pad=4)), "data": raw("16UC1", DEPTH, pad=4).data[:-4]})
    np.testing.assert_array_equal(value_of(shorter), DEPTH)  # The last row needs no padding.


def packed(kind: str, values: Array, factor: float = 0.0, offset: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        format=kind, data=np.frombuffer(struct.pack("<iff", 0, factor, offset) + encoded(values), "u1")
    )


def test_packed_depths_are_those_of_the_camera() -> None:
    np.testing.assert_array_equal(value_of(packed("16UC1; compressedDepth png", DEPTH)), DEPTH)
    # As the transport packs floats: factor / depth + offset, and 0 where nothing was measured.
    depth_m = np.array([[0.5, 1.0], [2.0, np.nan]])
    inverse = np.nan_to_num(1000 / depth_m + 3).astype(np.uint16)
    found = value_of(packed("32FC1; compressedDepth", inverse, 1000.0, 3.0))
    np.testing.assert_allclose(found, depth_m, rtol=1e-6)
    assert levels(found, (0.0, 2.0))[..., 0].tolist() == [[64, 128], [255, 0]]


@pytest.mark.parametrize("kind", ["16UC1; compressedDepth rvl", "mono8; compressedDepth", "compressedDepth"])
def test_other_packed_depths_are_refused_by_name(kind: str) -> None:
    with pytest.raises(DataError, match=f"format '{kind}'; read are 16UC1 and 32FC1 as PNG"):
        value_of(packed(kind, DEPTH))
    with pytest.raises(DataError, match="in a picture of 8 bits"):
        value_of(packed("16UC1; compressedDepth", COLOURS[..., 0]))


def test_a_picture_of_16_bits_in_a_message_is_one(tmp_path: Path) -> None:
    message = SimpleNamespace(format="16UC1; png compressed ", data=np.frombuffer(encoded(DEPTH), "u1"))
    np.testing.assert_array_equal(decoded(value_of(message), HEIGHT, WIDTH, span=SPAN), LEVELS)


def write_depth_bag(path: Path, encoding: str, values: Array) -> Path:
    pytest.importorskip("rosbags")
    from rosbags.rosbag2 import Writer

    from tests.support.robot_logs import built, header, typestore

    store, kind = typestore(), "sensor_msgs/msg/Image"
    with Writer(path, version=8) as writer:
        connection = writer.add_connection("/depth", kind, typestore=store)
        for k, each in enumerate(values):
            fields = vars(raw(encoding, each)) | {"header": header(10**18 + k * 10**8, "camera")}
            message = built(store, kind, fields | {"data": fields["data"].tobytes()})
            writer.write(connection, 10**18 + k * 10**8, store.serialize_cdr(message, kind))
    return path


def test_a_bag_of_depths_is_read_by_the_range(tmp_path: Path) -> None:
    path = write_depth_bag(tmp_path / "drive", "16UC1", np.stack([DEPTH, DEPTH[::-1], DEPTH]))
    columns = Columns(features=("/depth.data",), picture_range=SPAN)
    (recording,) = read_dataset(path, columns, frame=(HEIGHT, WIDTH)).recordings
    np.testing.assert_array_equal(recording.features, [LEVELS, LEVELS[::-1], LEVELS])
    with pytest.raises(DataError, match=r"message 0, column '/depth\.data': .* are uint16"):
        read_dataset(path, Columns(features=("/depth.data",)), frame=(HEIGHT, WIDTH))
    colours = write_depth_bag(tmp_path / "bayer", "bayer_rggb8", COLOURS[None, ..., 0].repeat(2, 0))
    with pytest.raises(DataError, match=r"bayer: message 0, column '/depth\.data': .*encoding 'bayer_rggb8'"):
        read_dataset(colours, Columns(features=("/depth.data",)), frame=(HEIGHT, WIDTH))


@pytest.mark.parametrize("shape", [(3, 32, 40), (3, 32, 40, 1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depths_in_hdf5(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    h5py = pytest.importorskip("h5py")
    depth = np.random.default_rng(0).integers(0, 12_000, shape).astype(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["depth"], file["pose"] = depth, np.zeros((3, 4, 4))
    columns = Columns(features=("depth",), period_s=0.1, picture_range=SPAN)
    (recording,) = read_dataset(tmp_path / "a.hdf5", columns, frame=(32, 40)).recordings
    np.testing.assert_array_equal(recording.features, levels(depth.reshape(3, 32, 40), SPAN))
    assert picture_column(tmp_path / "a.hdf5") == "depth"
    with pytest.raises(DataError, match=r"a row has shape \(4, 4\); name an element"):
        read_dataset(tmp_path / "a.hdf5", Columns(features=("pose",), period_s=0.1))


def test_grey_videos_of_16_bits(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "depth.mkv"
    depth = np.random.default_rng(0).integers(0, 12_000, (3, 16, 24)).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "gray16le"
        for picture in depth:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray16le")))
        container.mux(stream.encode())
    columns = Columns(features=("image",), picture_range=SPAN)
    (recording,) = read_dataset(path, columns, frame=(16, 24)).recordings
    np.testing.assert_array_equal(recording.features, levels(depth, SPAN))
    with pytest.raises(DataError, match=r"depth\.mkv: frame 0, column 'image': .* are uint16"):
        read_dataset(path, Columns(features=("image",)), frame=(16, 24))


def test_a_manifest_says_its_range_and_only_then() -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", colours="rgb")
    outputs = (OutputSpec(name="y", shape=(1,), std=(1.0,)),)
    plain_one = Manifest(name="depth", version=1, inputs=(spec,), outputs=outputs, time=TimeSpec.around(0.1))
    assert "picture_range" not in plain_one.model_dump_json(), "readers of version 0.1 refuse it"
    scaled = spec.model_copy(update={"picture_range": SPAN})
    said = plain_one.model_copy(update={"inputs": (scaled,)}).model_dump_json()
    assert Manifest.model_validate_json(said).inputs[0].picture_range == SPAN
    with pytest.raises(ValueError, match="'x' takes no pictures"):
        InputSpec(name="x", shape=(2,), picture_range=SPAN)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_a_client_gives_depths_as_its_camera_does(dtype: Any) -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", colours="rgb", picture_range=SPAN)
    depth = DEPTH.astype(dtype)
    np.testing.assert_array_equal(row_of(depth, (spec,))["x"], LEVELS[None])
    columns, rows = rows_of(np.stack([depth, depth[::-1]]), (spec,))
    np.testing.assert_array_equal(columns["x"], [LEVELS, LEVELS[::-1]])
    assert rows == 2
    np.testing.assert_array_equal(row_of(LEVELS, (spec,))["x"], LEVELS[None])
    grey = spec.model_copy(update={"shape": (HEIGHT, WIDTH, 1), "colours": "grey"})
    np.testing.assert_array_equal(row_of(depth, (grey,))["x"], LEVELS[None, ..., :1])
    packed_ = row_of(depth, (spec.model_copy(update={"encoding": "jpeg", "max_bytes": 4096}),))["x"]
    assert np.abs(decoded(packed_[0], HEIGHT, WIDTH).astype(int) - LEVELS).max() < 12
    with pytest.raises(InvalidArgument, match=r"shape \[1, 6, 3\], expected \[4, 6, 3\]"):
        row_of(depth[:1], (spec,))
    with pytest.raises(InvalidArgument, match="dtype uint16, expected uint8; scale its values to 0 … 255"):
        row_of(DEPTH, (spec.model_copy(update={"picture_range": None}),))


def test_a_range_needs_pictures_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"data\.picture_range needs data\.path"):
        DataOptions(dataset="har", picture_range=SPAN)


def test_a_picture_that_is_too_large_for_the_memory_is_named() -> None:
    def picture() -> Array:
        return np.empty((10**6, 10**9), np.uint16)

    table = Table(Path("log"), {"image": objects([picture])})
    with pytest.raises(DataError, match="log: row 0, column 'image': the picture is too large for the memory"):
        frames(table, "image", (HEIGHT, WIDTH))


def test_pictures_that_find_no_room_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tmp_path / "film"
    film.mkdir()
    (film / "a.png").write_bytes(encoded(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    write_labels(film / "labels.csv", image=["a.png"], y=[0])
    (tmp_path / "full").write_text("no folder, as a disk that is full has no room")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    with pytest.raises(DataError, match=rf"film.*: its pictures, {HEIGHT * WIDTH * 3} bytes, cannot be kept: "):
        read_dataset(film, Columns(features=("image",)), frame=(HEIGHT, WIDTH))
