"""What a server may do with rows that it cannot serve in time, as the application puts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import InvalidArgument


@dataclass(frozen=True)
class Policy:
    """The policy of a session; as it stands, every row is applied, however late.

    Raises:
        InvalidArgument: a value that makes no sense.
    """

    keep_last: int = 0
    """At most so many rows of the session wait in the server; older ones become STALE. 0: all wait."""
    deadline_s: float = 0.0
    """Seconds that each row has from being handed to the client until its turn in the server. 0: no deadline."""
    late: Literal["drop", "suppress"] = "drop"
    """A row past its deadline: STALE, or SUPPRESSED (the state advances, the output is withheld)."""
    gap: Literal["clamp", "reset"] = "clamp"
    """More time passed than the model's longest dt: that dt is used, or the state starts anew."""

    def __post_init__(self) -> None:
        if self.keep_last < 0:
            raise InvalidArgument(f"{self.keep_last}, expected a number of rows, or 0 for all", field="keep_last")
        if not 0 <= self.deadline_s < float("inf"):
            raise InvalidArgument(f"{self.deadline_s}, expected seconds, or 0 for none", field="deadline_s")
        if self.keep_last and self.deadline_s:
            raise InvalidArgument("a session has either keep_last or a deadline", field="policy")
        for field, value, known in (
            ("late", self.late, ("drop", "suppress")),
            ("gap", self.gap, ("clamp", "reset")),
        ):
            if value not in known:
                raise InvalidArgument(f"'{value}', expected '{known[0]}' or '{known[1]}'", field=field)

    def message(self) -> pb.Policy:
        """For an `Open`."""
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
