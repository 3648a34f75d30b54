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
from statestream.service.bridge.rows import Clock, HeldRows, MergedRows, Row
from statestream.service.errors import InvalidArgument
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


def rows_of(*features: str, labels: tuple[str, ...] = (), **more: Any) -> HeldRows:
    return HeldRows(manifest_of(InputSpec(name="x", shape=(2,), labels=labels)), features, **more)


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
    heard = [rows.add(topic, live(content), t_ns) for topic, t_ns, content in messages(of) if topic in rows.topics]
    found = [row for row in heard if row is not None]
    np.testing.assert_array_equal([x for x, _, _ in found], recording.features)
    assert [t_ns for _, t_ns, _ in found] == recording.t_ns.tolist()


def test_messages_without_a_stamp_have_the_time_they_were_heard() -> None:
    rows = rows_of("/a.x", "/a.y")
    row = rows.add("/a", SimpleNamespace(x=1, y=True), 77)
    assert row is not None
    assert (row[0].tolist(), row[1]) == ([1.0, 1.0], 77)
    later = rows.add("/a", stamped(5, x=2.0, y=3.0), 99)
    assert later is not None
    assert later[1] == 99, "one clock for a session"


def test_a_picture_is_decoded() -> None:
    frame = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", labels=("red", "green", "blue"))
    rows = HeldRows(manifest_of(spec), [PICTURE])
    row = rows.add(rows.topics[0], stamped(5, data=np.frombuffer(encoded(frame, "png"), np.uint8)), 9)
    assert row is not None
    np.testing.assert_array_equal(row[0], frame)
    with pytest.raises(DataError, match="cannot be decoded"):
        rows.add(rows.topics[0], stamped(6, data=np.zeros(9, np.uint8)), 9)
    with pytest.raises(DataError, match="is no picture, and the model takes pictures"):
        rows.add(rows.topics[0], stamped(6, data="x"), 9)


def test_a_picture_goes_as_it_is_to_a_model_that_takes_jpegs() -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", encoding="jpeg", colours="rgb")
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    of_camera = encoded(picture)
    rows = HeldRows(manifest_of(spec), [PICTURE])
    row = rows.add(CAMERA, stamped(5, data=np.frombuffer(of_camera, np.uint8)), 9)
    assert row == Row(of_camera, 5, new_clock=False)
    row = rows.add(CAMERA, stamped(6, data=np.frombuffer(encoded(picture, "png"), np.uint8)), 9)
    assert row is not None
    np.testing.assert_array_equal(decoded(row[0], HEIGHT, WIDTH), picture)
    with pytest.raises(DataError, match="cannot be decoded"):
        rows.add(CAMERA, stamped(7, data=np.frombuffer(b"no picture", np.uint8)), 9)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_depths_are_scaled_as_the_manifest_says(encoding: Literal["raw", "jpeg"]) -> None:
    shape, span = (HEIGHT, WIDTH, 3), (0.0, 4000.0)
    spec = InputSpec(name="x", shape=shape, dtype="uint8", encoding=encoding, colours="rgb", picture_range=span)
    about = {"encoding": "16UC1", "height": HEIGHT, "width": WIDTH, "step": 2 * WIDTH, "is_bigendian": 0}
    depth = np.full((HEIGHT, WIDTH), 1000, "<u2")
    rows = HeldRows(manifest_of(spec), ["/depth.data"])
    row = rows.add("/depth", stamped(5, data=depth.view(np.uint8).reshape(-1), **about), 9)
    assert row is not None
    pixels = decoded(row[0], HEIGHT, WIDTH)
    np.testing.assert_array_equal(pixels, np.full(shape, 64))
    with pytest.raises(DataError, match="has 8 bits"):
        rows.add("/depth", stamped(5, data=np.frombuffer(encoded(np.zeros(shape, np.uint8), "png"), np.uint8)), 9)


def test_pixels_in_another_order_are_refused() -> None:
    spec = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", colours="bgr")
    with pytest.raises(InvalidArgument, match="model: terrain:1 takes raw pixels in bgr, not rgb"):
        HeldRows(manifest_of(spec), [PICTURE])


def test_a_message_that_does_not_fit_changes_nothing() -> None:
    rows = rows_of("/a.x", "/a.name")
    with pytest.raises(DataError, match=re.escape("'/a.name' is no number")):
        rows.add("/a", SimpleNamespace(x=1.0, name="left"), 1)
    with pytest.raises(DataError, match="no field 'name'"):
        rows.add("/a", SimpleNamespace(x=1.0), 1)
    row = rows.add("/a", SimpleNamespace(x=2.0, name=3), 1)
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


S = 10**9


def restarts(*times_s: float) -> list[int]:
    """Places of the messages with which a new clock starts, where the model's longest dt is 20 s."""
    clock = Clock(20 * S)
    return [k for k, t_s in enumerate(times_s) if clock.restarts(round(t_s * S))]


def test_a_clock_that_jumps_back_far_is_a_new_one() -> None:
    assert restarts(100, 101, 100, 101, 3, 4) == [4]


def test_a_message_that_is_a_little_early_is_no_new_clock() -> None:
    assert restarts(100, 101, 100, 100.5, 102, 101.5, 101.7, 103) == []


def test_a_clock_that_is_set_back_a_little_is_a_new_one_with_the_fifth_message() -> None:
    assert restarts(100, 101, 97, 97.1, 97.2, 97.3, 97.4, 97.5) == [6]


def test_messages_out_of_order_among_themselves_are_no_new_clock() -> None:
    assert restarts(100, 101, 99.9, 99.8, 99.7, 99.6, 99.5, 99.4, 99.3, 102) == []


def test_a_new_clock_is_marked_at_its_row() -> None:
    rows = rows_of("/a.x", "/a.y")
    found = [rows.add("/a", stamped(t_s * S, x=1.0, y=2.0), 0) for t_s in (100, 101, 5, 6)]
    assert [row.new_clock for row in found if row is not None] == [False, False, True, False]


def test_the_time_of_a_row_is_chosen() -> None:
    message = stamped(5, x=1.0, y=2.0)
    assert [
        row.t_ns
        for time_of in ("stamp", "receipt")
        if (row := rows_of("/a.x", "/a.y", time_of=time_of).add("/a", message, 77)) is not None
    ] == [5, 77]
    with pytest.raises(DataError, match=r"a message of /a has no stamp; session.time = 'receipt' takes"):
        rows_of("/a.x", "/a.y", time_of="stamp").add("/a", SimpleNamespace(x=1.0, y=1.0), 77)


class Now:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def merged(now: Now) -> MergedRows:
    spec = InputSpec(name="x", shape=(2,), nan="not_measured")
    return MergedRows(manifest_of(spec), ["/a.x", "/b.y"], lateness_s=0.5, clock=now)


def events(rows: MergedRows) -> list[tuple[int, str, bool]]:
    """Events that are due: time, values as text, and whether a new clock starts."""
    return [(row.t_ns, str(np.asarray(row.x).tolist()), row.new_clock) for row in rows.due()]


def test_merged_messages_are_events_in_order_of_time() -> None:
    now = Now()
    rows = merged(now)
    assert rows.add("/a", stamped(20, x=2.0), 0) is None
    assert events(rows) == []
    assert rows.wait_s() == 0.5, "one of /b may still come"
    rows.add("/b", stamped(10, y=1.0), 0)
    assert events(rows) == [(10, "[nan, 1.0]", False)]
    now.s = 0.5
    assert events(rows) == [(20, "[2.0, nan]", False)]
    rows.add("/b", stamped(15, y=3.0), 0)
    assert events(rows) == []
    assert rows.late == 1
    assert rows.wait_s() is None


def test_merged_events_of_an_earlier_clock_come_before_the_new_one_starts() -> None:
    now = Now()
    rows = merged(now)
    for topic, message in (
        ("/a", stamped(100 * S, x=1.0)),
        ("/b", stamped(101 * S, y=2.0)),
        ("/a", stamped(3 * S, x=3.0)),
        ("/b", stamped(3 * S, y=4.0)),
    ):
        rows.add(topic, message, 0)
    assert events(rows) == [
        (100 * S, "[1.0, nan]", False),
        (101 * S, "[nan, 2.0]", False),
        (3 * S, "[3.0, 4.0]", True),
    ]


def test_rows_are_merged_only_for_a_model_that_takes_what_was_not_measured() -> None:
    with pytest.raises(InvalidArgument, match=r"session\.rows: 'merged', but terrain:1 takes no rows in which"):
        MergedRows(manifest_of(InputSpec(name="x", shape=(2,))), ["/a.x", "/b.y"])
