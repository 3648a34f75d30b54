"""Topics of Fast DDS, the default middleware of ROS 2, reach the bridge's middleware, and what it publishes them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader

from tests.support import fastdds_peer
from tests.support.fastdds_peer import LOOPBACK, TIMEOUT_S, Peer, imu, joints, line_of

pytest.importorskip("cyclonedds", reason="cyclonedds is not installed (pip install 'statestream[dds]')")

from cyclonedds._clayer import ddspy_write
from cyclonedds.core import DDSException
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import make_idl_struct
from cyclonedds.idl import types as idl
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

from statestream.models.data.tables import DataError
from statestream.service.bridge.cdr import check_encapsulation
from statestream.service.bridge.config import DdsOptions
from statestream.service.bridge.dds.calls import matched
from statestream.service.bridge.dds.message_types import message_type
from statestream.service.bridge.dds.middleware import DdsMiddleware
from statestream.service.bridge.formats import encoder_of
from statestream.service.bridge.middleware import MiddlewareError, Received, TopicSpec
from statestream.service.bridge.ros_types import RosTypes
from statestream.service.client.ros2 import TYPE

IMU = TopicSpec("/imu/data", "sensor_msgs/msg/Imu")
JOINTS = TopicSpec("/joint_states", "sensor_msgs/msg/JointState")
PREDICTIONS = TopicSpec("/statestream/leaky", TYPE)
PEER_TYPES = {IMU.type: "imu", JOINTS.type: "joints", "tf2_msgs/msg/TFMessage": "tf"}
MOST_OF_A_LOG = 200
START_NS = 1_700_000_000_123_456_789
STEP_NS = 10_000_000
RELIABLE, BEST_EFFORT = "reliable volatile 100", "best_effort volatile 100"
PREDICTION: dict[str, Any] = {
    "header": {"stamp": {"sec": 12, "nanosec": 345}, "frame_id": "base"},
    "model": "leaky:2",
    "session": 'husky "1"',
    "verdict": "APPLIED",
    "dt_s": 0.25,
    "labels": ["grass", "gravel"],
    "y": [0.5, -1.0],
    "class_name": "grass",
}
HELLO = {**PREDICTION, "session": "hello"}


@pytest.fixture(scope="module")
def program() -> Path:
    return fastdds_peer.peer_program()


@pytest.fixture(scope="module")
def types() -> RosTypes:
    return RosTypes()


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    return fastdds_peer.free_domain()


@pytest.fixture
def peer(program: Path, domain: int) -> Iterator[Peer]:
    with fastdds_peer.running(program, domain) as running:
        yield running


@asynccontextmanager
async def receiving(
    types: RosTypes, domain: int, *topics: TopicSpec, published: TopicSpec = PREDICTIONS, **options: Any
) -> AsyncIterator[DdsMiddleware]:
    middleware = DdsMiddleware(DdsOptions(kind="dds", domain=domain, **options), types)
    await middleware.start(topics, published)
    try:
        yield middleware
    finally:
        await middleware.close()


async def taken(middleware: DdsMiddleware, count: int) -> list[Received]:
    """The next messages, as many as there are to be."""
    found: list[Received] = []
    while len(found) < count:
        found += await asyncio.wait_for(middleware.take(), TIMEOUT_S)
    assert len(found) == count
    return found


async def publishing(peer: Peer, middleware: DdsMiddleware, topic: str, kind: str, policies: str = RELIABLE) -> None:
    """Let the peer publish a topic, and wait until both sides know of each other."""
    assert middleware._entities is not None
    before = sum(map(matched, middleware._entities._readers))
    peer.tell(f"publish {topic} {kind} {policies}")
    await told(peer.matched, topic)
    await until(lambda: sum(map(matched, middleware._entities._readers)) > before)


def encoded(prediction: dict[str, Any]) -> bytes:
    payload = encoder_of("cdr")(prediction)
    assert payload is not None
    return payload


async def subscribed(peer: Peer, middleware: DdsMiddleware, hello: bytes) -> None:
    """Let the peer subscribe to predictions, and wait until it gets one."""
    peer.tell(f"subscribe rt/statestream/leaky {RELIABLE}")
    while not peer.count("prediction"):
        await middleware.publish(PREDICTIONS.name, hello)
        await asyncio.sleep(0.05)


async def predictions(peer: Peer, count: int) -> list[dict[str, Any]]:
    """The next predictions after those of `subscribed`."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        if (prediction := await told(peer.prediction))["session"] != HELLO["session"]:
            found.append(prediction)
    return found


async def until(condition: Callable[[], bool]) -> None:
    async def waiting() -> None:
        while not condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(waiting(), TIMEOUT_S)


async def told(function: Callable[..., Any], *arguments: Any) -> Any:
    """What waits for the peer, beside the event loop."""
    return await asyncio.to_thread(function, *arguments)


async def test_messages_come_as_they_were_sent(peer: Peer, types: RosTypes, domain: int) -> None:
    names = ["shoulder", "", "ellbow–é"]
    sent = {
        0: [imu(START_NS + k * STEP_NS, 0.1 * k, 9.81, frame="i" * k, covariance=k) for k in range(5)],
        1: [joints(START_NS, names[:k], [0.5] * k, [-1e-9] * (k % 2), "base") for k in range(4)],
    }
    expected = {
        k: [await told(peer.serialized, kind, message) for message in sent[k]]
        for k, kind in enumerate(["imu", "joints"])
    }
    async with receiving(types, domain, IMU, JOINTS) as middleware:
        for topic, kind in (("rt/imu/data", "imu"), ("rt/joint_states", "joints")):
            await publishing(peer, middleware, topic, kind)
        for k, topic in enumerate(("rt/imu/data", "rt/joint_states")):
            for message in sent[k]:
                await told(peer.write, topic, message)
        found = await taken(middleware, 9)
    assert {k: [bytes(r.payload) for r in found if r.topic == k] for k in expected} == expected
    sources = [r.source_ns for r in found if r.topic == 0]
    assert all(source is not None for source in sources)
    assert sources == sorted(sources)
    assert all(abs(r.receipt_ns - (r.source_ns or 0)) < 60 * 10**9 for r in found)
    assert middleware.lost == 0


def test_fast_dds_serializes_as_rosbags_does(peer: Peer, types: RosTypes) -> None:
    store, random = types.store(JOINTS.type), np.random.default_rng(0)
    for k in range(20):
        stamp = store.types["builtin_interfaces/msg/Time"](sec=k, nanosec=START_NS % 10**9)
        names = ["n" * int(n) for n in random.integers(0, 9, k % 4)]
        message = store.types[JOINTS.type](
            header=store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="f" * k),
            name=names,
            position=random.normal(size=len(names)),
            velocity=random.normal(size=k % 3),
            effort=np.zeros(0),
        )
        assert_same_bytes(peer, store, JOINTS.type, message, bytes(store.serialize_cdr(message, JOINTS.type)))


def test_fast_dds_serializes_as_the_robot_of_a_log_did(peer: Peer, types: RosTypes) -> None:
    """Messages of types that the peer knows, in a log that nodes of ROS 2 recorded."""
    folder = Path(os.environ.get("STATESTREAM_DATA", "no data")) / "ros2_log"
    logs = sorted(folder.glob("*.mcap"))
    if not logs:
        pytest.skip(f"no log of ROS 2 (*.mcap) in {folder}")
    compared: Counter[str] = Counter()
    for path in logs:
        with path.open("rb") as file:
            found = [(s.name, m.data) for s, _, m in make_reader(file).iter_messages() if s and s.name in PEER_TYPES]
        stores = {kind: types.store(kind) for kind in {name for name, _ in found}}
        for kind, payload in found[:: max(1, len(found) // MOST_OF_A_LOG)]:
            store = stores[kind]
            assert_same_bytes(peer, store, kind, store.deserialize_cdr(payload, kind), payload)
            compared[kind] += 1
    assert compared, f"{folder} has no message of {', '.join(PEER_TYPES)}"


def assert_same_bytes(peer: Peer, store: Any, kind: str, message: Any, payload: bytes) -> None:
    """Fast DDS gives a message the bytes of a payload, but for padding: nodes of ROS leave there what was in memory."""
    theirs = peer.serialized(PEER_TYPES[kind], line_of(store.fielddefs, kind, message))
    size = min(len(theirs), len(payload))
    assert max(len(theirs), len(payload)) - size < 4
    other = bytearray(payload)
    for k in range(size):
        if theirs[k] != payload[k]:
            other[k] ^= 0xFF
    changed = store.deserialize_cdr(bytes(other), kind)
    assert store.serialize_cdr(changed, kind) == store.serialize_cdr(message, kind), "a byte that differs is no padding"


async def test_predictions_reach_a_subscriber(peer: Peer, types: RosTypes, domain: int) -> None:
    async with receiving(types, domain, IMU) as middleware:
        await subscribed(peer, middleware, encoded(HELLO))
        for k in range(50):
            await middleware.publish(PREDICTIONS.name, encoded({**PREDICTION, "session": "s" * k}))
        await middleware.publish(PREDICTIONS.name, encoded(PREDICTION))
        *found, last = await predictions(peer, 51)
    assert [p["session"] for p in found] == ["s" * k for k in range(50)]
    fields = {name: value for name, value in PREDICTION.items() if name != "header"}
    assert last == {**fields, "sec": 12, "nanosec": 345, "frame_id": "base"}


async def test_names_are_resolved(peer: Peer, types: RosTypes, domain: int) -> None:
    relative = TopicSpec("imu", IMU.type)
    remap = {"/joint_states": "arm/joints"}
    async with receiving(types, domain, relative, JOINTS, namespace="robot7", remap=remap) as middleware:
        for topic, kind, message in (
            ("rt/robot7/imu", "imu", imu(START_NS, 0, 0)),
            ("rt/robot7/arm/joints", "joints", joints(START_NS, [], [])),
        ):
            await publishing(peer, middleware, topic, kind)
            await told(peer.write, topic, message)
        assert [r.topic for r in await taken(middleware, 2)] == [0, 1]


@pytest.mark.parametrize(
    ("offered", "asked", "text"),
    [
        (
            "imu best_effort volatile 1",
            {},
            r"/imu/data: a publisher offers reliability best_effort, asked for is reliable",
        ),
        (
            "imu reliable volatile 1",
            {"durability": "transient_local"},
            r"offers durability volatile, asked for is transient_",
        ),
        (
            "joints reliable volatile 1",
            {},
            r"offers type sensor_msgs/msg/JointState, asked for is sensor_msgs/msg/Imu; set ",
        ),
    ],
)
async def test_a_publisher_that_does_not_match_is_refused_by_name(
    peer: Peer, types: RosTypes, domain: int, offered: str, asked: dict[str, Any], text: str
) -> None:
    async with receiving(types, domain, TopicSpec(IMU.name, IMU.type, **asked)) as middleware:
        peer.tell(f"publish rt/imu/data {offered}")
        with pytest.raises(MiddlewareError, match=text):
            await asyncio.wait_for(middleware.take(), TIMEOUT_S)


async def test_a_publisher_that_does_not_match_beside_one_that_does_is_told_once(
    peer: Peer, types: RosTypes, domain: int, program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with fastdds_peer.running(program, domain) as other:
        async with receiving(types, domain, IMU) as middleware:
            await publishing(peer, middleware, "rt/imu/data", "imu")
            other.tell(f"publish rt/imu/data imu {BEST_EFFORT}")
            await told(other.next, "incompatible")
            await told_by_log(caplog, "offers reliability best_effort")
            await told(peer.write, "rt/imu/data", imu(START_NS, 0, 0))
            assert len(await taken(middleware, 1)) == 1


async def told_by_log(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async def waiting() -> None:
        while not any(text in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.05)

    await asyncio.wait_for(waiting(), TIMEOUT_S)
    assert sum(text in record.getMessage() for record in caplog.records) == 1


async def test_a_subscriber_that_asks_for_more_is_told_of(
    peer: Peer, types: RosTypes, domain: int, caplog: pytest.LogCaptureFixture
) -> None:
    weak = TopicSpec(PREDICTIONS.name, TYPE, reliability="best_effort", depth=1)
    with caplog.at_level(logging.WARNING):
        async with receiving(types, domain, IMU, published=weak):
            peer.tell(f"subscribe rt/statestream/leaky {RELIABLE}")
            await told_by_log(
                caplog, "/statestream/leaky: a subscriber asks for reliability reliable, offered is best_effort"
            )


async def test_what_was_published_before_comes_where_it_is_kept(peer: Peer, types: RosTypes, domain: int) -> None:
    peer.tell("publish rt/imu/data imu reliable transient_local 1")
    for k in range(3):
        await told(peer.write, "rt/imu/data", imu(START_NS + k, 0, 0))
    kept = TopicSpec(IMU.name, IMU.type, durability="transient_local", depth=1)
    async with receiving(types, domain, kept) as middleware:
        found = await taken(middleware, 1)
    assert bytes(found[0].payload) == await told(peer.serialized, "imu", imu(START_NS + 2, 0, 0))


async def test_a_publisher_that_is_killed_is_gone_and_another_is_heard(
    program: Path, types: RosTypes, domain: int
) -> None:
    async with receiving(types, domain, IMU) as middleware:
        for k in range(2):
            with fastdds_peer.running(program, domain, lease_s=1) as peer:
                await publishing(peer, middleware, "rt/imu/data", "imu")
                await told(peer.write, "rt/imu/data", imu(START_NS + k, 0, 0))
                assert [r.gone for r in await taken(middleware, 1)] == [False]
            assert [(r.topic, r.gone) for r in await taken(middleware, 1)] == [(0, True)]


async def test_only_the_newest_wait(peer: Peer, types: RosTypes, domain: int) -> None:
    """The queue behind the reader keeps as many as the topic's depth."""
    newest = TopicSpec(IMU.name, IMU.type, depth=2)
    async with receiving(types, domain, newest) as middleware:
        await publishing(peer, middleware, "rt/imu/data", "imu")
        messages = [imu(START_NS + k, k, 0) for k in range(20)]
        for message in messages:
            await told(peer.write, "rt/imu/data", message)
        last = await told(peer.serialized, "imu", messages[-1])
        found = [bytes(r.payload) for r in await asyncio.wait_for(middleware.take(), TIMEOUT_S)]
        while found[-1] != last:
            found = [bytes(r.payload) for r in await asyncio.wait_for(middleware.take(), TIMEOUT_S)]
    assert 1 <= len(found) <= 2


@contextmanager
def cyclone_writer(domain: int, kind: Any, **representation: bool) -> Iterator[Callable[[bytes], None]]:
    """A function that writes bytes as they are to `/imu/data`, by a participant of its own."""
    participant = DomainParticipant(domain)
    qos = Qos(Policy.Reliability.Reliable(10**9), Policy.DataRepresentation(**representation))
    writer = DataWriter(participant, Topic(participant, "rt/imu/data", kind), qos)

    def write(payload: bytes) -> None:
        assert ddspy_write(writer._ref, payload) == 0

    yield write


def imu_payload(types: RosTypes, *, little_endian: bool = True) -> bytes:
    store = types.store(IMU.type)
    vector, nine = store.types["geometry_msgs/msg/Vector3"](x=1.0, y=-2.0, z=3.0), np.arange(9.0)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=12, nanosec=34)
    message = store.types[IMU.type](
        header=store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="imu"),
        orientation=store.types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        orientation_covariance=nine,
        angular_velocity=vector,
        angular_velocity_covariance=nine,
        linear_acceleration=vector,
        linear_acceleration_covariance=nine,
    )
    return bytes(store.serialize_cdr(message, IMU.type, little_endian=little_endian))


async def test_a_message_in_xcdr2_is_refused_by_name(types: RosTypes, domain: int) -> None:
    kind = message_type(types.store(IMU.type).fielddefs, IMU.type)
    payload = imu_payload(types)
    in_xcdr2 = kind.deserialize(payload).serialize(use_version_2=True)
    async with receiving(types, domain, IMU) as middleware:
        with cyclone_writer(domain, kind, use_cdrv0_representation=True) as write:
            write(payload)
            write(in_xcdr2)
            found = await taken(middleware, 2)
    check_encapsulation(found[0].payload)
    with pytest.raises(DataError, match="CDR2_LE"):
        check_encapsulation(found[1].payload)


async def test_a_publisher_of_xcdr2_alone_is_refused(types: RosTypes, domain: int) -> None:
    kind = message_type(types.store(IMU.type).fielddefs, IMU.type)
    async with receiving(types, domain, IMU) as middleware:
        with (
            cyclone_writer(domain, kind, use_xcdrv2_representation=True),
            pytest.raises(MiddlewareError, match=r"/imu/data: a publisher does not match by its data representation"),
        ):
            await asyncio.wait_for(middleware.take(), TIMEOUT_S)


async def test_big_endian_messages_are_read(types: RosTypes, domain: int) -> None:
    kind = message_type(types.store(IMU.type).fielddefs, IMU.type)
    async with receiving(types, domain, IMU) as middleware:
        with cyclone_writer(domain, kind, use_cdrv0_representation=True) as write:
            write(imu_payload(types, little_endian=False))
            found = await taken(middleware, 1)
    message = types.store(IMU.type).deserialize_cdr(bytes(found[0].payload), IMU.type)
    assert (message.header.stamp.sec, message.angular_velocity.y) == (12, -2.0)


async def test_a_type_of_the_same_name_with_other_fields_is_refused(types: RosTypes, domain: int) -> None:
    other = make_idl_struct("Imu", "sensor_msgs.msg.dds_.Imu_", {"a": idl.float64})
    async with receiving(types, domain, IMU) as middleware:
        with (
            cyclone_writer(domain, other, use_cdrv0_representation=True),
            pytest.raises(
                MiddlewareError, match=r"/imu/data: .* type consistency: its type of this name has other fields"
            ),
        ):
            await asyncio.wait_for(middleware.take(), TIMEOUT_S)


async def test_names_of_fields_do_not_matter(types: RosTypes, domain: int) -> None:
    """Some tools append an underscore to them."""
    kind = message_type(types.store(IMU.type).fielddefs, IMU.type)
    other = make_idl_struct("Imu", "sensor_msgs.msg.dds_.Imu_", {f"{n}_": t for n, t in kind.__annotations__.items()})
    async with receiving(types, domain, IMU) as middleware:
        with cyclone_writer(domain, other, use_cdrv0_representation=True) as write:
            write(imu_payload(types))
            assert (await taken(middleware, 1))[0].payload == imu_payload(types)


async def test_a_subscriber_that_stops_holds_up_a_reliable_publisher(
    peer: Peer, types: RosTypes, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing waits for room, not in the event loop, and nothing is lost."""
    payload, codes = encoded({**PREDICTION, "session": "s" * 4000}), []

    def write(*arguments: Any) -> int:
        codes.append(ddspy_write(*arguments))
        return codes[-1]

    async def publish_all() -> None:
        for _ in range(500):
            await middleware.publish(PREDICTIONS.name, payload)

    monkeypatch.setattr("statestream.service.bridge.dds.middleware.ddspy_write", write)
    async with receiving(types, domain, IMU) as middleware:
        await subscribed(peer, middleware, encoded(HELLO))
        peer.stop()
        task = asyncio.create_task(publish_all())
        await until(lambda: DDSException.DDS_RETCODE_TIMEOUT in codes)
        peer.resume()
        await asyncio.wait_for(task, TIMEOUT_S)
        assert len(await predictions(peer, 500)) == 500


async def test_a_domain_that_cannot_be_joined_is_told(types: RosTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK.replace("'lo'", "'no-such-interface'"))
    with pytest.raises(MiddlewareError, match=r"middleware: cannot join domain 99: .*CYCLONEDDS_URI may name"):
        async with receiving(types, 99, IMU):
            pass
