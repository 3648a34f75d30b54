"""Whether endpoints of DDS match, and what keeps them apart, in the words of the bridge's configuration."""

from __future__ import annotations

from typing import Any, NamedTuple

from cyclonedds.qos import Policy, Qos

from statestream.service.bridge.dds.message_types import ros_name

_RELIABILITIES = (
    (Policy.Reliability.BestEffort, "best_effort"),
    (Policy.Reliability.Reliable, "reliable"),
)
_DURABILITIES = (
    (Policy.Durability.Volatile, "volatile"),
    (Policy.Durability.TransientLocal, "transient_local"),
    (Policy.Durability.Transient, "transient"),
    (Policy.Durability.Persistent, "persistent"),
)
"""Values of policies and their names, weakest first: an offer may be stronger than what is asked for."""
OTHER_POLICIES = {
    3: "presentation",
    4: "deadline",
    5: "latency budget",
    6: "ownership",
    8: "liveliness",
    10: "partition",
    12: "destination order",
    24: "type consistency: its type of this name has other fields",
    25: "data representation: the bridge reads and writes XCDR1 alone",
}
"""Policies that the configuration does not set, by their numbers in Cyclone DDS."""


class Endpoint(NamedTuple):
    """What a reader asks for, or a writer offers."""

    type: str
    """Name of the type in DDS."""
    reliability: str
    durability: str

    @classmethod
    def of(cls, type_name: str, qos: Qos) -> Endpoint:
        """An endpoint with this quality of service."""
        policies = (Policy.Reliability, _RELIABILITIES), (Policy.Durability, _DURABILITIES)
        return cls(type_name, *(_name(qos[policy], named) for policy, named in policies))


class Mismatch(NamedTuple):
    """A setting that keeps a writer and a reader apart."""

    setting: str
    """In the configuration of a topic."""
    offered: str
    asked: str


def mismatch(writer: Endpoint, reader: Endpoint) -> Mismatch | None:
    """The first setting that keeps two endpoints of a topic apart; None: they match, as far as settings say."""
    if writer.type != reader.type:
        return Mismatch("type", ros_name(writer.type), ros_name(reader.type))
    if _is_weaker(writer.reliability, reader.reliability, _RELIABILITIES):
        return Mismatch("reliability", writer.reliability, reader.reliability)
    if _is_weaker(writer.durability, reader.durability, _DURABILITIES):
        return Mismatch("durability", writer.durability, reader.durability)
    return None


def _name(policy: Any, named: tuple[tuple[Any, str], ...]) -> str:
    """Name of a policy's value; of one that is not given, the weakest."""
    return next((name for kind, name in named if policy == kind or type(policy) is kind), named[0][1])


def _is_weaker(offered: str, asked: str, named: tuple[tuple[Any, str], ...]) -> bool:
    names = [name for _, name in named]
    return names.index(offered) < names.index(asked)
