"""Live messages as rows: what the log's reader makes of the same messages."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from statestream.models.data.pictures import decoded
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.spec import InputSpec, Manifest, OutputSpec, TimeSpec
from statestream.service.errors import InvalidArgument
from statestream_ros2.bridge import Rows
from tests.support.robot_logs import (
    CAMERA,
    COMMAND,
    HEIGHT,
    IMU,
    PICTURE,
    RATES,
    WIDTH,
    drive,
    encoded,
    messages,
    write_mcap,
)

FEATURES = (RATES[0], f"{COMMAND}.twist.angular.z")


def manifest_of(x: InputSpec) -> Manifest:
    outputs = (OutputSpec(name="y", shape=(1,), std=(1.0,)),)
    return Manifest(name="terrain", version=1, inputs=(x,), outputs=outputs, time=TimeSpec.around(0.02))


def rows_of(*features: str, labels: tuple[str, ...] = ()) -> Rows:
    return Rows(manifest_of(InputSpec(name="x", shape=(2,), labels=labels)), features)


def live(content: Any) -> Any:
    """A message as a node hears it: attributes all the way down."""
    if isinstance(content, dict):
        return SimpleNamespace(**{name: live(value) for name, value in content.items()})
    return np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content


def stamped(t_ns: int, **content: Any) -> Any:
    return live({"header": {"stamp": {"sec": t_ns // 10**9, "nanosec": t_ns % 10**9}}, **content})


def test_live_messages_are_the_rows_of_their_log(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    of = drive()
    (recording,) = read_dataset(write_mcap(tmp_path / "drive.mcap", of), Columns(features=FEATURES)).recordings
    rows = rows_of(labels=FEATURES)
    assert rows.topics == (IMU, COMMAND)
    heard = [rows.hear(topic, live(content), t_ns) for topic, t_ns, content in messages(of) if topic in rows.topics]
    found = [row for row in heard if row is not None]
    np.testing.assert_array_equal([x for x, _ in found], recording.features)
    assert [t_ns for _, t_ns in found] == recording.t_ns.tolist()


def test_messages_without_a_stamp_have_the_time_they_were_heard() -> None:
    rows = rows_of("/a.x", "/a.y")
    row = rows.hear("/a", SimpleNamespace(x=1, y=True), 77)
    assert row is not None
    assert (row[0].tolist(), row[1]) == ([1.0, 1.0], 77)
    later = rows.hear("/a", stamped(5, x=2.0, y=3.0), 99)
    assert later is not None
    assert later[1] == 99, "one clock for a session"


def test_a_picture_is_decoded() -> None:
    frame = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", labels=("red", "green", "blue"))
    rows = Rows(manifest_of(spec), [PICTURE])
    row = rows.hear(rows.topics[0], stamped(5, data=np.frombuffer(encoded(frame, "png"), np.uint8)), 9)
    assert row is not None
    np.testing.assert_array_equal(row[0], frame)
    with pytest.raises(DataError, match="cannot be decoded"):
        rows.hear(rows.topics[0], stamped(6, data=np.zeros(9, np.uint8)), 9)
    with pytest.raises(DataError, match="is no picture, and the model takes pictures"):
        rows.hear(rows.topics[0], stamped(6, data="x"), 9)


def test_a_picture_goes_as_it_is_to_a_model_that_takes_jpegs() -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", encoding="jpeg", colours="rgb")
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    of_camera = encoded(picture)
    rows = Rows(manifest_of(spec), [PICTURE])
    assert rows.hear(CAMERA, stamped(5, data=np.frombuffer(of_camera, np.uint8)), 9) == (of_camera, 5)
    row = rows.hear(CAMERA, stamped(6, data=np.frombuffer(encoded(picture, "png"), np.uint8)), 9)
    assert row is not None
    np.testing.assert_array_equal(decoded(row[0], HEIGHT, WIDTH), picture)
    with pytest.raises(DataError, match="cannot be decoded"):
        rows.hear(CAMERA, stamped(7, data=np.frombuffer(b"no picture", np.uint8)), 9)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_depths_are_scaled_as_the_manifest_says(encoding: Literal["raw", "jpeg"]) -> None:
    shape, span = (HEIGHT, WIDTH, 3), (0.0, 4000.0)
    spec = InputSpec(name="x", shape=shape, dtype="uint8", encoding=encoding, colours="rgb", picture_range=span)
    about = {"encoding": "16UC1", "height": HEIGHT, "width": WIDTH, "step": 2 * WIDTH, "is_bigendian": 0}
    depth = np.full((HEIGHT, WIDTH), 1000, "<u2")
    rows = Rows(manifest_of(spec), ["/depth.data"])
    row = rows.hear("/depth", stamped(5, data=depth.view(np.uint8).reshape(-1), **about), 9)
    assert row is not None
    pixels = decoded(row[0], HEIGHT, WIDTH)
    np.testing.assert_array_equal(pixels, np.full(shape, 64))
    with pytest.raises(DataError, match="has 8 bits"):
        rows.hear("/depth", stamped(5, data=np.frombuffer(encoded(np.zeros(shape, np.uint8), "png"), np.uint8)), 9)


def test_pixels_in_another_order_are_refused() -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", colours="bgr")
    with pytest.raises(InvalidArgument, match="model: terrain:1 takes raw pixels in bgr, not rgb"):
        Rows(manifest_of(spec), [PICTURE])


def test_a_message_that_does_not_fit_changes_nothing() -> None:
    rows = rows_of("/a.x", "/a.name")
    with pytest.raises(DataError, match=re.escape("'/a.name' is no number")):
        rows.hear("/a", SimpleNamespace(x=1.0, name="left"), 1)
    with pytest.raises(DataError, match="no field 'name'"):
        rows.hear("/a", SimpleNamespace(x=1.0), 1)
    row = rows.hear("/a", SimpleNamespace(x=2.0, name=3), 1)
    assert row is not None
    assert row[0].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("features", "labels", "text"),
    [
        (("/a.x",), (), "features: 1 fields, terrain:1 takes 2 in 1 inputs"),
        ((), (), "features: 0 fields, terrain:1 takes 2"),
        ((), ("gx", "gy"), "features: 'gx': expected TOPIC.FIELD"),
    ],
)
def test_features_that_do_not_fit_the_model_are_refused(
    features: tuple[str, ...], labels: tuple[str, ...], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        rows_of(*features, labels=labels)


def test_a_clock_that_jumps_back_is_a_new_one() -> None:
    rows = rows_of("/a.x", "/a.y")
    s = 10**9
    assert [rows.restarts(t) for t in (100 * s, 101 * s, 100 * s, 101 * s, 3 * s, 4 * s)] == [
        False, False, False, False, True, False
    ]  # fmt: skip
