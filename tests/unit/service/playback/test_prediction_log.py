"""Predictions as messages of ROS 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.service.client.ros2 import DEFINITION, topic_of
from statestream.service.errors import InvalidArgument
from statestream.service.playback.play import Played
from statestream.service.playback.prediction_log import beside, write_prediction_log
from tests.conftest import leaky_manifest

MESSAGE = Path(__file__).parents[4] / "deploy/ros2/statestream_msgs/msg/Prediction.msg"


def test_the_definition_is_that_of_the_ros_package() -> None:
    assert MESSAGE.read_text() == DEFINITION


def test_names(tmp_path: Path) -> None:
    (tmp_path / "run.1").mkdir()
    assert beside(tmp_path / "drive.mcap") == tmp_path / "drive.predictions.mcap"
    assert beside(tmp_path / "run.1") == tmp_path / "run.1.predictions.mcap"
    assert topic_of("left-wrist.v2") == "/statestream/left_wrist_v2"


def test_a_time_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    recording = Recording("r", np.array([-1, 5]), np.zeros((2, 2), np.float32))
    played = Played(recording, np.zeros((2, 2), np.float32), np.ones(2, np.int64), np.ones(2, np.float32))
    with pytest.raises(InvalidArgument, match="no times before the epoch, got -1 ns"):
        write_prediction_log(tmp_path / "out.mcap", [played], leaky_manifest())
    assert not list(tmp_path.iterdir())
