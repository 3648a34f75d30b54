"""Stream handle: sessions sharing one RPC, kept across reconnects."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Literal

import numpy.typing as npt

from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import instance, message, one_of
from statestream.service.client.core.stream_core import StreamCore
from statestream.service.client.group import Group
from statestream.service.client.inputs import Input
from statestream.service.client.options import OnFull, OnLoss, OnLost, SessionOptions
from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.client.results import ChunkResult
from statestream.service.client.session import AsyncSession

Resume = Literal["auto", "new", "existing"]
_RESUME = {
    "auto": pb.RESUME_MODE_UNSPECIFIED,
    "new": pb.RESUME_MODE_NEW,
    "existing": pb.RESUME_MODE_EXISTING,
}


class AsyncStream:
    """Sessions sharing one RPC; made by `AsyncClient.stream`.

    The RPC begins with the first `open`, or on entering `async with`. `close`, or leaving the block, acknowledges the
    results that were read and ends the RPC. The sessions can be resumed.

    When the RPC breaks, another one starts, the sessions are opened again, and rows that their server has not settled
    are sent again. The application gets each result once, in order.
    """

    def __init__(self, core: StreamCore) -> None:
        self._core = core
        self._opened: dict[int, AsyncSession] = {}

    async def __aenter__(self) -> AsyncStream:
        self._core.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._core.close(politely=kind is None)

    async def close(self) -> None:
        """Acknowledge what was read and end the RPC; in a forked child, or a second time, do nothing."""
        await self._core.close()

    @property
    def reconnects(self) -> int:
        """Number of successful reconnects."""
        return self._core.reconnects

    @property
    def durability_lag_s(self) -> float:
        """Seconds for which the server has failed to store snapshots; 0: it stores them."""
        return self._core.durability_lag_s

    @property
    def sessions(self) -> list[AsyncSession]:
        """The sessions bound now."""
        return [session for session in self._opened.values() if not session.closed]

    async def open(
        self,
        model: str = "",
        session_id: str = "",
        *,
        version: int = 0,
        resume: Resume = "auto",
        take_over: bool = False,
        outputs: Sequence[str] = (),
        policy: Policy = KEEP_ALL,
        ring_rows: int = SessionOptions.ring_rows,
        on_full: OnFull = SessionOptions.on_full,
        on_lost: OnLost = SessionOptions.on_lost,
        on_loss: OnLoss | None = None,
    ) -> AsyncSession:
        """Start or resume a session.

        Args:
            model: may be empty when an existing session is resumed.
            session_id: empty: the server generates one.
            version: 0: the active one.
            resume: "auto": resume the session if it exists, else start a new one; "new": start one, an existing one
                is an error; "existing": resume one, a missing one is an error.
            take_over: take the session from a stream that holds it now; False: that is AlreadyExists.
            outputs: outputs to return, which may include `aux_<name>`; empty: all except aux.
            policy: what the server may do with rows that it cannot serve in time.
            ring_rows: most rows kept until a snapshot of the server holds them.
            on_full: when `ring_rows` are kept, "block": sending waits; "lose": the oldest rows are dropped.
            on_lost: when the server no longer has the session, "error": it ends with SessionLost; "restart": it
                starts again with the rows that have no result, and `on_notice` is called with RESET.
            on_loss: called with the first and last seq of dropped rows that the server needs again; they are
                SKIPPED. By default the loss is logged.

        Raises:
            StatestreamError: its class shows what to do about it, its text names the field.
        """
        self._core.connect()
        request = message(
            pb.Open,
            session_id=session_id,
            model=model,
            version=version,
            resume=_RESUME[one_of(resume, list(_RESUME), "resume")],
            take_over=take_over,
            policy=instance(policy, Policy, "policy").message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )
        options = SessionOptions(policy, ring_rows, on_full, on_lost, on_loss)
        session = AsyncSession(self._core, await self._core.manager.open(request, options))
        self._opened[session.channel] = session
        return session

    def group(self, sessions: Sequence[AsyncSession]) -> Group:
        """Group sessions for repeated bursts; see `Group.step`."""
        return Group(self._core, sessions)

    async def burst(
        self, sessions: Sequence[AsyncSession] | Group, x: Input, timestamp_ns: npt.ArrayLike | None = None
    ) -> ChunkResult:
        """Advance many sessions of one model by one row each, in one message; see `Group.step`."""
        group = sessions if isinstance(sessions, Group) else self.group(sessions)
        return await group.step(x, timestamp_ns)
