"""Groups: sessions that advance together, in one message, as a gateway's do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Int64Array
from statestream.service.client.core.arguments import listed
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.inputs import Input, rows_of, times_of
from statestream.service.client.results import ChunkResult
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.verdict import RowFlag

if TYPE_CHECKING:
    from statestream.service.client.session import AsyncSession
    from statestream.service.client.stream import AsyncStream


class Group:
    """Sessions of one model on one stream that send together.

    They are checked once, so that a burst creates no Python object per session.

    Raises:
        InvalidArgument: no session, one given twice, sessions of different models or of another stream.
    """

    def __init__(self, stream: AsyncStream, sessions: Sequence[AsyncSession]) -> None:
        self.sessions = tuple(listed(sessions, "sessions"))
        self._stream = stream
        self._generation = -1
        if not self.sessions:
            raise InvalidArgument("no sessions, expected at least one", field="sessions")
        if not all(hasattr(session, "channel") for session in self.sessions):
            raise InvalidArgument(f"{self.sessions!r}, expected sessions of this stream", field="sessions")
        self.model = self.sessions[0].model
        self.channels: Int64Array = np.array([session.channel for session in self.sessions], np.int64)
        """`[sessions]`"""
        self.check()
        if len(np.unique(self.channels)) < len(self.channels):
            raise InvalidArgument("a session is listed twice", field="sessions")
        self.place: Int64Array = np.full(int(self.channels.max()) + 1, -1)
        """`[channels]` index of the session on each channel; -1: none."""
        self.place[self.channels] = np.arange(len(self.channels))

    def __len__(self) -> int:
        return len(self.sessions)

    async def step(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance every session by one row, in one message, and wait for all results.

        Args:
            x: `[sessions, *shape]` of the manifest's input, or such arrays by input name.
            timestamp_ns: `[sessions]`, each on its own session's clock; None: the nominal step.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
        """
        self.check()
        data, rows = rows_of(x, self.model.manifest.inputs, len(self))
        t_ns = times_of(timestamp_ns, rows)

        def block(seq: Int64Array, now_s: float) -> RowBlock:
            clocks = self._stream.table.clocks(self.channels)
            flags = None if clocks is None else (clocks * np.uint8(RowFlag.NEW_CLOCK)).astype(np.uint8)
            return RowBlock(self.channels, seq, t_ns, flags, data, self._stream.table.due_s(self.channels, now_s))

        return await self._stream.put_burst(self, block)

    def check(self) -> None:
        """Raise the error that ended one of the sessions, if one did."""
        self._stream.check()
        if self._generation == self._stream.generation:
            return
        for session in self.sessions:
            session.check()
            if self._stream.session_on(session.channel) is not session:
                raise InvalidArgument(f"'{session.session_id}' is on another stream", field="sessions")
            if session.model.manifest.ref != self.model.manifest.ref:
                raise InvalidArgument(
                    f"'{session.session_id}' runs {session.model.manifest.ref}, others {self.model.manifest.ref}",
                    field="sessions",
                )
        self._generation = self._stream.generation
