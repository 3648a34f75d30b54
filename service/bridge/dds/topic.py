"""A topic in DDS: its name there, its type and its quality of service."""

from __future__ import annotations

from typing import Any

from cyclonedds.core import DDSException
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from statestream.models.data.tables import DataError
from statestream.service.bridge.config import DdsOptions
from statestream.service.bridge.dds.matching import Endpoint
from statestream.service.bridge.dds.message_types import message_type
from statestream.service.bridge.middleware import MiddlewareError, TopicSpec
from statestream.service.bridge.ros_types import RosTypes, dds_name


class DdsTopic:
    """A topic in a participant's domain.

    Raises:
        MiddlewareError: its type has no definition, or cannot be described to Cyclone.
    """

    def __init__(self, participant: DomainParticipant, options: DdsOptions, types: RosTypes, spec: TopicSpec) -> None:
        self.spec = spec
        self.name = f"rt{options.resolved(spec.name)}"
        """In DDS."""
        self._participant = participant
        self._qos = _qos(spec)
        self.endpoint = Endpoint.of(dds_name(spec.type), self._qos)
        try:
            self._topic = Topic(participant, self.name, message_type(types.store(spec.type).fielddefs, spec.type))
        except (DataError, DDSException) as error:
            raise MiddlewareError(str(error), field=spec.name) from error

    def reader(self) -> DataReader[Any]:
        """A reader that keeps all messages until they are taken: a reader of DDS does not count those that it drops."""
        return DataReader(self._participant, self._topic, Qos(Policy.History.KeepAll, base=self._qos))

    def writer(self) -> DataWriter[Any]:
        """A writer that keeps as many messages for late readers too, and whose messages outlive it."""
        lifespan = [Policy.Lifespan(round(self.spec.lifespan_s * 1e9))] if self.spec.lifespan_s else []
        kept = Policy.DurabilityService(0, self._qos[Policy.History], -1, -1, -1)
        lasting = Policy.WriterDataLifecycle(autodispose=False)
        return DataWriter(self._participant, self._topic, Qos(kept, lasting, *lifespan, base=self._qos))


def _qos(spec: TopicSpec) -> Qos:
    """Policies by which ROS 2 matches endpoints too. A writer that has no room says so at once."""
    return Qos(
        Policy.Reliability.Reliable(0) if spec.reliability == "reliable" else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if spec.durability == "transient_local" else Policy.Durability.Volatile,
        Policy.History.KeepLast(spec.depth) if spec.depth else Policy.History.KeepAll,
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.TypeConsistency.AllowTypeCoercion(ignore_member_names=True),
    )
