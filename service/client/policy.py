"""Row policy: what a server may do with rows that it cannot serve in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import one_of, seconds, whole
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.limits import MAX_KEEP_LAST


@dataclass(frozen=True)
class Policy:
    """Policy of a session; by default every row is applied, however late.

    Raises:
        InvalidArgument: a value out of range, or both `keep_last` and `deadline_s`.
    """

    keep_last: int = 0
    """Most rows of the session that wait in the server; older ones become STALE. 0: all wait."""
    deadline_s: float = 0.0
    """Seconds from handing a row to the client until its turn in the server. 0: no deadline."""
    late: Literal["drop", "suppress"] = "drop"
    """For rows past their deadline, "drop": STALE; "suppress": SUPPRESSED (the state advances, no output is sent)."""
    gap: Literal["clamp", "reset"] = "clamp"
    """When more time passed than the model's longest dt, "clamp": that dt is used; "reset": the state is reset."""

    def __post_init__(self) -> None:
        whole(self.keep_last, "keep_last", limit=MAX_KEEP_LAST + 1)
        if not 0 <= seconds(self.deadline_s, "deadline_s") < float("inf"):
            raise InvalidArgument(f"{self.deadline_s}, expected seconds, or 0 for none", field="deadline_s")
        if self.keep_last and self.deadline_s:
            raise InvalidArgument("set keep_last or deadline_s, not both", field="policy")
        one_of(self.late, ("drop", "suppress"), "late")
        one_of(self.gap, ("clamp", "reset"), "gap")

    def message(self) -> pb.Policy:
        """Encode the policy for an `Open` message."""
        policy = pb.Policy(keep_last=self.keep_last)
        if self.keep_last:
            policy.keep = pb.KEEP_LAST
        if self.deadline_s:
            policy.keep = pb.KEEP_DEADLINE
        if self.late == "suppress":
            policy.late = pb.LATE_SUPPRESS
        if self.gap == "reset":
            policy.gap = pb.TIME_GAP_RESET
        return policy


KEEP_ALL = Policy()
"""The default: every row is applied."""
