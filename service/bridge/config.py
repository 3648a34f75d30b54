"""Configuration of `statestream bridge`: a TOML file with a server, a session, a middleware and its topics."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from statestream.models.files import read_text
from statestream.models.problems import first_problem
from statestream.models.spec import Spec
from statestream.service.bridge.middleware import Format
from statestream.service.bridge.settings import Settings
from statestream.service.errors import InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Seconds = Annotated[float, Field(ge=0)]
_PATHS = (
    *(("server", name) for name in ("ca", "cert", "key", "token_file")),
    *(("middleware", name) for name in ("ca", "config", "password_file")),
)
"""Settings that are paths, by their tables."""


def _domain() -> int:
    return int(os.environ.get("ROS_DOMAIN_ID") or 0)


class ServerOptions(Spec):
    """The server, and who connects to it; by default what the environment says, as for `statestream stream`."""

    target: str = Field(default_factory=lambda: os.environ.get("STATESTREAM_TARGET", "127.0.0.1:50051"))
    """`HOST:PORT` or `unix:PATH`."""
    tls: bool = False
    """Use TLS, with the system's certificate authorities."""
    ca: str = ""
    """PEM of the authority of the server's certificate; uses TLS."""
    cert: str = ""
    """PEM of this client's certificate."""
    key: str = ""
    """PEM of the certificate's key."""
    token_file: str = ""
    """File with this client's token."""


class SessionOptions(Spec):
    """The session, its policy, and how messages become rows."""

    model: str
    """`NAME` or `NAME:VERSION`."""
    name: str = ""
    """A session with a name continues after a restart; empty: a new session each time."""
    features: tuple[str, ...] = ()
    """`TOPIC.FIELD` of each element of the model's input; empty: the model's own labels."""
    keep_last: int = 0
    """Most rows that wait in the server, older ones are dropped; 0: all wait."""
    deadline_s: Seconds = 0.0
    """Seconds that a row may take; 0: no deadline."""
    late: Literal["drop", "suppress"] = "drop"
    """"suppress": a late row still advances the state."""
    gap: Literal["clamp", "reset"] = "clamp"
    """After more time than the model's longest dt, use that dt, or reset the state."""
    rows: Literal["held", "merged"] = "held"
    """"held": each message of the first topic is a row, with the newest values of the others. "merged": each message is
    an event, in order of time, for a model with `nan = "not_measured"`."""
    lateness_s: Seconds = 0.05
    """Of merged rows: longest wait for an earlier message of another topic."""
    time: Literal["auto", "stamp", "receipt"] = "auto"
    """Time of a row: its message's `header.stamp`, or when it came; "auto": the stamp, if the first message has one."""
    use_sim_time: bool = False
    """Take the time of receipt from the topic `/clock`, as nodes of a simulation do."""
    end_when_gone: bool = False
    """End the session when the first topic's publisher is gone; the next message starts another one."""


class RosOptions(Spec):
    """What the middlewares of ROS 2 share."""

    domain: Annotated[int, Field(ge=0, le=232)] = Field(default_factory=_domain)
    """By default `ROS_DOMAIN_ID`, else 0."""
    namespace: str = ""
    """Namespace of this node; a name without a leading slash is in it."""
    remap: dict[str, str] = Field(default_factory=dict)
    """Names on the wire, by the names used here: `{ "/imu/data" = "/robot7/imu/data" }`."""
    node: str = "statestream_bridge"
    """Name of this node."""

    def resolved(self, topic: str) -> str:
        """Fully qualified name of a topic on the wire, with a leading slash."""
        name = self.remap.get(topic, topic)
        space = self.namespace.strip("/")
        return name if name.startswith("/") else f"/{space}/{name}" if space else f"/{name}"


class DdsOptions(RosOptions):
    """DDS, as of ROS 2's default middlewares."""

    kind: Literal["dds"]


class ZenohOptions(RosOptions):
    """Zenoh, with the names of rmw_zenoh."""

    kind: Literal["zenoh"]
    connect: tuple[str, ...] = ("tcp/localhost:7447",)
    """Endpoints of a router or of other peers."""
    listen: tuple[str, ...] = ("tcp/localhost:0",)
    """Endpoints at which peers find this one."""
    type_hashes: bool = True
    """False: for ROS 2 Humble, whose keys have no hashes of types."""
    config: Path | None = None
    """Zenoh's own configuration file, in place of `connect` and `listen`."""


class MqttOptions(Spec):
    """A broker of MQTT."""

    kind: Literal["mqtt"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, lt=65536)] = 1883
    username: str = ""
    password_file: Path | None = None
    """File with the password."""
    tls: bool = False
    """Use TLS, with the system's certificate authorities."""
    ca: Path | None = None
    """PEM of the authority of the broker's certificate; uses TLS."""
    client_id: str = ""
    """By default `statestream-` and the session's name; without a name, the broker gives one."""
    will: str = ""
    """Topic where the publisher's last will comes; it says that the publisher is gone."""
    will_payload: str = ""
    """Payload of that will; empty: any."""


MiddlewareOptions = Annotated[DdsOptions | ZenohOptions | MqttOptions, Field(discriminator="kind")]


class TopicOptions(Spec):
    """A topic that features name."""

    name: str
    type: str = ""
    """ROS type, such as `sensor_msgs/msg/Imu`; needed for DDS and Zenoh."""
    format: Format | None = None
    """By default "cdr" for DDS and Zenoh, "json" for MQTT."""
    reliability: Literal["reliable", "best_effort"] | None = None
    """By default as the session's policy wants it."""
    durability: Literal["volatile", "transient_local"] = "volatile"
    """"transient_local" (MQTT: retained): a message from before the subscription counts too."""


class PredictionOptions(Spec):
    """Where predictions are published."""

    topic: str = ""
    """By default `/statestream/MODEL`, without the slash in MQTT."""
    format: Format | None = None
    """By default "cdr" for DDS and Zenoh, "json" for MQTT; "float32" has the output alone, and no row without one."""


class BridgeConfig(Spec):
    """A bridge."""

    server: ServerOptions = Field(default_factory=ServerOptions)
    session: SessionOptions
    middleware: MiddlewareOptions
    topics: tuple[TopicOptions, ...] = Field(min_length=1)
    predictions: PredictionOptions = PredictionOptions()
    definitions: Path | None = None
    """Folder of `PACKAGE/msg/TYPE.msg`, for types that ROS does not have; relative to the file."""

    @model_validator(mode="after")
    def _formats_fit(self) -> BridgeConfig:
        for k, topic in enumerate(self.topics):
            found = self.format_of(topic.format)
            if self.is_ros and found != "cdr":
                raise ValueError(f"topics.{k}.format: '{found}', but {self.middleware.kind} carries cdr")
            if found == "cdr" and not topic.type:
                raise ValueError(f"topics.{k}.type: '{topic.name}' needs its ROS type, such as sensor_msgs/msg/Imu")
        if self.is_ros and self.format_of(self.predictions.format) != "cdr":
            raise ValueError(f"predictions.format: {self.middleware.kind} carries cdr")
        return self

    @property
    def is_ros(self) -> bool:
        """Whether the middleware is one of ROS 2."""
        return isinstance(self.middleware, RosOptions)

    def format_of(self, given: Format | None) -> Format:
        """The format of a topic, or the middleware's own."""
        return given or ("cdr" if self.is_ros else "json")

    @property
    def middleware_options(self) -> DdsOptions | ZenohOptions | MqttOptions:
        """The middleware's table, with what follows from the session."""
        options = self.middleware
        if isinstance(options, MqttOptions) and self.session.name and not options.client_id:
            return options.model_copy(update={"client_id": f"statestream-{self.session.name}"})
        return options

    @property
    def settings(self) -> Settings:
        """The session's settings, checked."""
        ours = self.session.model_dump(include={"model", "features", "keep_last", "deadline_s", "late", "gap"})
        return Settings(session=self.session.name, **ours, **self.server.model_dump())


def read_config(path: Path) -> BridgeConfig:
    """Read a file; paths in it are relative to it.

    Raises:
        InvalidArgument: the file or a setting is wrong; the text names it and its value.
    """
    try:
        values: dict[str, Any] = tomllib.loads(read_text(path))
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}", field="CONFIG") from error
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}", field="CONFIG") from error
    try:
        config = BridgeConfig(**_placed(values, path.parent))
    except ValidationError as error:
        raise InvalidArgument(f"{path}: {first_problem(error, BridgeConfig, values)}", field="CONFIG") from error
    _ = config.settings  # Checks its values.
    return config


def _placed(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Values whose paths are beside the file."""
    found = dict(values)
    for table, name in _PATHS:
        inner = values.get(table)
        if isinstance(inner, dict) and isinstance(inner.get(name), str) and inner[name]:
            found[table] = {**found[table], name: str(folder / inner[name])}
    if isinstance(values.get("definitions"), str):
        found["definitions"] = str(folder / values["definitions"])
    return found
