"""Groups: sessions that advance together, in one message, as a gateway's do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from statestream.service.client.core.arguments import listed
from statestream.service.client.core.row_writer import BurstWriter
from statestream.service.client.core.stream_core import StreamCore
from statestream.service.client.inputs import Input, rows_of, times_of
from statestream.service.client.results import ChunkResult
from statestream.service.client.session import AsyncSession
from statestream.service.errors import InvalidArgument


class Group:
    """Sessions of one model on one stream that send together; made by `AsyncStream.group`.

    Raises:
        InvalidArgument: no session, one given twice, sessions of different models or of another stream.
    """

    def __init__(self, core: StreamCore, sessions: Sequence[AsyncSession]) -> None:
        self.sessions = tuple(listed(sessions, "sessions"))
        if not self.sessions:
            raise InvalidArgument("no sessions, expected at least one", field="sessions")
        if not all(isinstance(session, AsyncSession) for session in self.sessions):
            raise InvalidArgument(f"{self.sessions!r}, expected sessions of this stream", field="sessions")
        self._writer = BurstWriter(core, [session.record for session in self.sessions])

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
        self._writer.check()
        data, rows = rows_of(x, self._writer.model.manifest.inputs, len(self))
        return await self._writer.rows(data, times_of(timestamp_ns, rows))
