"""Videos in messages, one frame each: any frame is what its decoder says, from the first key frame on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.formats import picture_column
from statestream.models.data.readers.mcap_logs import READER, McapLog
from statestream.models.data.readers.messages import Packet
from statestream.models.data.readers.video_messages import MessageVideo
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.foxglove_logs import (
    ENCODERS,
    FRAME,
    KEY_EVERY,
    LEVELS,
    LOGGED_NS,
    ROWS,
    T_NS,
    X,
    channel,
    of_json,
    of_ros,
    of_video,
    video,
    write_mcap,
    write_video_by_sdk,
)
from tests.support.robot_logs import IMU

pytest.importorskip("av")
pytest.importorskip("mcap_protobuf")

Film = tuple[str, list[bytes], np.ndarray]
"""A format, packets, and their frames."""
DECODERS = {"h264": "h264", "h265": "hevc", "vp9": "vp9", "av1": "libdav1d"}
VIDEO = Columns(features=("/video.data",))


@pytest.fixture(scope="module", params=list(ENCODERS))
def film(request: pytest.FixtureRequest) -> Film:
    """A format, its packets, and the frames as PyAV decodes them in one go."""
    import av

    try:
        packets = video(request.param)
    except (ValueError, LookupError) as error:
        pytest.skip(f"PyAV has no encoder of {request.param}: {error}")
    decoder: Any = av.CodecContext.create(DECODERS[request.param], "r")
    frames = [frame for data in packets for frame in decoder.decode(av.Packet(data))] + decoder.decode(None)
    return request.param, packets, np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def test_frames_of_messages_are_what_the_decoder_says(tmp_path: Path, film: Film) -> None:
    kind, packets, frames = film
    assert np.abs(frames.mean(axis=(1, 2, 3)) - LEVELS).max() < 4
    for log in (
        write_video_by_sdk(tmp_path / "a.mcap", packets, kind),
        write_mcap(tmp_path / "b.mcap", of_video(packets, kind)),
    ):
        assert picture_column(log) == "/video.data"
        (recording,) = read_dataset(log, VIDEO, frame=FRAME).recordings
        np.testing.assert_array_equal(recording.features, frames)
        np.testing.assert_array_equal(recording.t_ns, T_NS if log.name == "a.mcap" else LOGGED_NS)
        cells = READER.read(log, ["/video.data"]).cells("/video.data")
        for k in (25, 3, 4, 39, 0, 39, 38, ROWS - 1, 12):
            np.testing.assert_array_equal(cells[k](), frames[k])


def test_rows_start_at_the_first_key_frame(tmp_path: Path, film: Film) -> None:
    kind, packets, frames = film
    late = write_video_by_sdk(tmp_path / "a.mcap", packets, kind)
    columns = Columns(features=("/video.data",), target=("/level.of",))
    (recording,) = read_dataset(late, columns, frame=FRAME).recordings
    np.testing.assert_array_equal(recording.target, LEVELS[:, None].astype(np.float32))
    found = MessageVideo(tmp_path, "/video", [Packet(data, kind) for data in packets[3:]], McapLog.facts)
    assert found.first == KEY_EVERY - 3
    np.testing.assert_array_equal(found.picture(found.first), frames[KEY_EVERY])
    late = write_mcap(tmp_path / "b.mcap", of_json("/state"), of_video(packets[3:] + packets[:3], kind))
    (recording,) = read_dataset(late, VIDEO, frame=FRAME).recordings
    np.testing.assert_array_equal(recording.t_ns, LOGGED_NS[KEY_EVERY - 3 :])
    np.testing.assert_array_equal(recording.features[:-3], frames[KEY_EVERY:])


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    packets = video("h264")

    def problem(packets: list[bytes], kind: str = "h264") -> str:
        log = write_mcap(tmp_path / "a.mcap", of_video(packets, kind))
        with pytest.raises(DataError) as caught:
            read_dataset(log, VIDEO, frame=FRAME)
        assert str(caught.value).startswith(f"{log}: ")
        return str(caught.value)

    few = packets[1:KEY_EVERY] * 7
    assert "video of /video: none of 60 messages has a key frame of h264" in problem(few)
    damaged = [*packets[:15], b"\0\0\0\1\x41 no frame", *packets[16:]]
    assert "video of /video: the frame of message 15 cannot be decoded" in problem(damaged)
    assert "'/video.data': no frame of a video, it is empty" in problem([b"", *packets])
    assert "'/video.data': video of format 'h266'; read are h264, h265, vp9, av1" in problem(packets, "h266")
    mixed = [Packet(packets[0], "h264"), Packet(packets[1], "vp9")]
    with pytest.raises(DataError, match="its format changes"):
        MessageVideo(tmp_path, "/video", mixed, McapLog.facts)


def test_a_video_of_ros_is_decoded(tmp_path: Path) -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store, kind = get_typestore(Stores.ROS2_HUMBLE), "foxglove_msgs/msg/CompressedVideo"
    text = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    store.register(get_types_from_msg(text, kind))
    packets = video("h264")

    def frame(k: int) -> bytes:
        stamp = store.types["builtin_interfaces/msg/Time"](*divmod(int(T_NS[k]), 10**9))
        message = store.types[kind](stamp, "camera", np.frombuffer(packets[k], np.uint8), "h264")
        return bytes(store.serialize_cdr(message, kind))

    definition = store.generate_msgdef(kind, ros_version=2)[0].encode()
    log = write_mcap(
        tmp_path / "a.mcap", channel("/video", "cdr", (kind, "ros2msg", definition), frame), profile="ros2"
    )
    assert picture_column(log) == "/video.data"
    (recording,) = read_dataset(log, VIDEO, frame=FRAME).recordings
    assert np.abs(recording.features.mean(axis=(1, 2, 3)) - LEVELS).max() < 4


def test_without_pyav_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    log = write_mcap(tmp_path / "a.mcap", of_video(video("h264"), "h264"), of_ros())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"reading videos needs .*pip install 'statestream\[mcap\]'"):
        read_dataset(log, VIDEO, frame=FRAME)
    (recording,) = read_dataset(log, Columns(features=(f"{IMU}.angular_velocity.x",))).recordings
    np.testing.assert_array_equal(recording.features[:, 0], X[:, 0].astype(np.float32))
