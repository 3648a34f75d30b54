"""Quality of service by a session's policy: the middleware loses what the session would lose.

    session         the first topic                 predictions
    all rows        reliable, all                   reliable, all
    keep_last N     best effort, the last N         best effort, the last
    deadline        best effort, as many as one     best effort, the last,
                    deadline spans                  for as long as the deadline
    … suppress      reliable, all: each advances    "
                    the state, however late

Of the other topics only the newest message counts, also one that was published before the subscription, if its
publishers offer that. A topic is received reliably only if all its publishers offer that: the middleware would not
connect them otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from statestream.service.client import Policy


class Offer(NamedTuple):
    """What a publisher offers."""

    reliable: bool
    latched: bool
    """DDS's TRANSIENT_LOCAL: a late subscriber gets the last message too."""


@dataclass(frozen=True)
class QoS:
    """Quality of service of a topic; ROS calls it a profile."""

    reliable: bool
    keep: int | Literal["all"]
    """Most messages that wait."""
    latched: bool = False
    lifespan_s: float = 0.0
    """Older messages are not delivered; 0: all are."""


def driving(policy: Policy, nominal_s: float, offers: Sequence[Offer] = ()) -> QoS:
    """Quality of service of the first topic.

    Args:
        nominal_s: the model's nominal period.
        offers: of its publishers; empty: unknown.
    """
    if policy.keep_last:
        return QoS(reliable=False, keep=policy.keep_last)
    if policy.deadline_s and policy.late == "drop":
        return QoS(reliable=False, keep=max(1, math.ceil(policy.deadline_s / nominal_s)))
    return QoS(reliable=all(offer.reliable for offer in offers), keep="all")


def held(offers: Sequence[Offer]) -> QoS:
    """Quality of service of another topic, whose newest value counts."""
    return QoS(all(offer.reliable for offer in offers), keep=1, latched=all(offer.latched for offer in offers))


def published(policy: Policy) -> QoS:
    """Quality of service of predictions."""
    if policy.keep_last or policy.deadline_s:
        return QoS(reliable=False, keep=1, lifespan_s=policy.deadline_s)
    return QoS(reliable=True, keep="all")
