"""Opening sessions on a stream's channels: from `Open` to `Opened`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.config import ServerConfig
from statestream.service.control.open_request import Attachment, OpenRequest
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import Durability
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.limits import MAX_CHANNEL, MAX_KEEP_LAST
from statestream.service.sessions.policy import Late, Policy
from statestream.service.streams import converters

_DURABILITY = {
    Durability.UNSPECIFIED: pb.DURABILITY_UNSPECIFIED,
    Durability.PROCESS: pb.DURABILITY_PROCESS,
    Durability.POWER: pb.DURABILITY_POWER,
}


class PendingOpens:
    """Channels that are being opened, each in its own task.

    One may wait for the store while others do not.
    """

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __contains__(self, channel: int) -> bool:
        return channel in self._tasks

    def begin(self, channel: int, opening: Coroutine[None, None, None]) -> None:
        """Open a channel that is not being opened."""
        self._tasks[channel] = task = asyncio.get_running_loop().create_task(opening)
        task.add_done_callback(lambda _: self._tasks.pop(channel))

    async def of(self, channels: set[int]) -> None:
        """Return once none of these channels is being opened."""
        if tasks := [task for channel, task in self._tasks.items() if channel in channels]:
            await asyncio.wait(tasks)

    async def all(self) -> None:
        """Return once no channel is being opened."""
        await self.of(set(self._tasks))


def check(open_: pb.Open) -> None:
    """Check the channel and protocol version of an Open; `policy_of` checks its policy.

    Raises:
        InvalidArgument: names the field.
    """
    if open_.channel > MAX_CHANNEL:
        raise InvalidArgument(f"{open_.channel}, at most {MAX_CHANNEL}", field="channel")
    if open_.protocol_version not in (0, PROTOCOL_VERSION):
        raise InvalidArgument(
            f"{open_.protocol_version}; this server speaks {PROTOCOL_VERSION}", field="protocol_version"
        )


def request_of(open_: pb.Open, owner: str) -> OpenRequest:
    """Convert an Open of a caller to the session manager's request."""
    return OpenRequest(
        session_id=open_.session_id,
        model=open_.model,
        version=open_.version,
        may_create=open_.resume != pb.RESUME_MODE_EXISTING,
        may_resume=open_.resume != pb.RESUME_MODE_NEW,
        take_over=open_.take_over,
        outputs=tuple(open_.outputs),
        owner=owner,
    )


def policy_of(wanted: pb.Policy) -> Policy:
    """Convert an Open's policy. Raises InvalidArgument, naming the invalid field."""
    for field, values in (("keep", pb.Keep), ("late", pb.Late), ("gap", pb.TimeGap)):
        if getattr(wanted, field) not in values.values():
            raise InvalidArgument(f"{getattr(wanted, field)}, expected one of {values.keys()}", field=f"policy.{field}")
    if (wanted.keep == pb.KEEP_LAST) != (wanted.keep_last > 0) or wanted.keep_last > MAX_KEEP_LAST:
        raise InvalidArgument(
            f"{wanted.keep_last}; expected 1 to {MAX_KEEP_LAST} with KEEP_LAST, else 0", field="policy.keep_last"
        )
    late = Late.NOTHING
    if wanted.keep == pb.KEEP_DEADLINE:
        late = Late.SUPPRESS if wanted.late == pb.LATE_SUPPRESS else Late.DROP
    return Policy(wanted.keep_last, late, wanted.gap == pb.TIME_GAP_RESET)


def opened_message(
    channel: int, held: Attachment, config: ServerConfig, store: StoreThread | None
) -> pb.StreamResponse:
    """The answer to an Open: the session's seqs and limits, and its unacknowledged results."""
    table, m = held.runner.table, held.runner.manifest
    opened = pb.Opened(
        channel=channel,
        session_id=held.session_id,
        model=m.name,
        version=m.version,
        epoch=held.epoch,
        settled_seq=int(table.settled_seq[held.slot]),
        durable_seq=int((table.settled_seq if store is None else table.durable_seq)[held.slot]),
        durability=pb.DURABILITY_UNSPECIFIED if store is None else _DURABILITY[store.durability],
        resumed=held.resumed,
        max_unacked=config.max_unacked,
        credit_rows=config.credit_rows,
        credit_bytes=config.credit_bytes,
        idle_ttl_s=config.idle_ttl_s,
        protocol_version=PROTOCOL_VERSION,
        max_sessions=config.max_sessions,
    )
    known = table.unacked(held.slot) if held.resumed else None
    results = None if known is None else converters.unacknowledged(known, channel, held.epoch, held.outputs)
    return pb.StreamResponse(opened=[opened], results=results)
