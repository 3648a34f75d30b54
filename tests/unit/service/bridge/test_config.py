"""A bridge's file: what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from statestream.service.bridge.config import BridgeConfig, MqttOptions, RosOptions, read_config
from statestream.service.errors import InvalidArgument

MQTT = """
session = { model = "terrain:3", name = "husky-1", keep_last = 2 }
middleware = { kind = "mqtt", password_file = "secret" }
topics = [ { name = "robot/imu" } ]
"""


def config_of(tmp_path: Path, text: str) -> BridgeConfig:
    file = tmp_path / "bridge.toml"
    file.write_text(text)
    return read_config(file)


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATESTREAM_TARGET", "edge:50051")
    config = config_of(tmp_path, MQTT)
    settings = config.settings
    assert (settings.target, settings.model, settings.session) == ("edge:50051", "terrain:3", "husky-1")
    assert settings.policy.keep_last == 2
    options = config.middleware_options
    assert isinstance(options, MqttOptions)
    assert options.client_id == "statestream-husky-1"
    assert options.password_file == tmp_path / "secret", "paths are beside the file"
    assert config.format_of(None) == "json"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (MQTT.replace("keep_last", "keeplast"), "session.keeplast: there is no such field; did you mean 'keep_last'?"),
        (
            MQTT.replace("mqtt", "mqt"),
            "middleware: there is no kind 'mqt'; kinds: dds, zenoh, mqtt; did you mean 'mqtt'?",
        ),
        (
            MQTT.replace("password_file", "hosts"),
            "middleware.hosts: there is no such field of kind 'mqtt'; did you mean",
        ),
        (MQTT.replace('"terrain:3"', "3"), "session.model: Input should be a valid string (got 3)"),
        (MQTT.replace("keep_last = 2", "keep_last = 2, deadline_s = 1.0"), "policy: set keep_last or deadline_s"),
        ("session = {", "bridge.toml: "),
        (MQTT.replace('topics = [ { name = "robot/imu" } ]', "topics = []"), "topics: Tuple should have at least 1"),
        (
            MQTT.replace('{ kind = "mqtt", password_file = "secret" }', '{ kind = "zenoh" }'),
            "topics.0.type: 'robot/imu' needs its ROS type, such as sensor_msgs/msg/Imu",
        ),
        (
            MQTT.replace('{ kind = "mqtt", password_file = "secret" }', '{ kind = "dds" }').replace(
                '"robot/imu"', '"/imu", format = "json"'
            ),
            "topics.0.format: 'json', but dds carries cdr",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        config_of(tmp_path, text)
    assert problem in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot read .*none\.toml: No such file"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("topic", "wire"),
    [
        ("/imu", "/imu"),
        ("imu", "/robot7/imu"),
        ("/odom", "/base/odom"),
        ("scan", "/robot7/front/scan"),
    ],
)
def test_names_on_the_wire(monkeypatch: pytest.MonkeyPatch, topic: str, wire: str) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    options = RosOptions(namespace="/robot7", remap={"/odom": "/base/odom", "scan": "front/scan"})
    assert options.resolved(topic) == wire
    assert options.domain == 7
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert RosOptions().resolved(topic) == (f"/{topic.lstrip('/')}")
