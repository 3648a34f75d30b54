"""How topics are heard and predictions are said, so that the middleware loses what the session's policy would lose.

    session         the first topic is heard        predictions are said
    all rows        reliable, all                   reliable, all
    keep_last N     best effort, the last N         best effort, the last
    deadline        best effort, as many as one     best effort, the last,
                    deadline spans                  for as long as the deadline
    … suppress      reliable, all: each advances    "
                    the state, however late

Of the other topics the newest message counts alone, also one that was published before the node came, where it was
latched. A topic is heard reliably only if all who publish it offer that: the middleware would not connect them else.
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
    """rclpy's TRANSIENT_LOCAL: who comes late gets the last message too."""


@dataclass(frozen=True)
class QoS:
    """What rclpy calls a profile, in words."""

    reliable: bool
    keep: int | Literal["all"]
    """Messages that wait at most."""
    latched: bool = False
    lifespan_s: float = 0.0
    """Older messages are not delivered; 0: all are."""


def heard(policy: Policy, nominal_s: float, offers: Sequence[Offer]) -> QoS:
    """How to hear the first topic; `nominal_s` is the model's nominal period."""
    if policy.keep_last:
        return QoS(reliable=False, keep=policy.keep_last)
    if policy.deadline_s and policy.late == "drop":
        return QoS(reliable=False, keep=max(1, math.ceil(policy.deadline_s / nominal_s)))
    return QoS(reliable=all(offer.reliable for offer in offers), keep="all")


def held(offers: Sequence[Offer]) -> QoS:
    """How to hear another topic, whose newest value counts."""
    return QoS(all(offer.reliable for offer in offers), keep=1, latched=all(offer.latched for offer in offers))


def said(policy: Policy) -> QoS:
    """How to publish predictions."""
    if policy.keep_last or policy.deadline_s:
        return QoS(reliable=False, keep=1, lifespan_s=policy.deadline_s)
    return QoS(reliable=True, keep="all")
