"""Store thread: the only thread that calls the store, so that the event loop never waits for it.

Requests for single sessions queue up while the thread is busy, and share its next transaction.
"""

from __future__ import annotations

import asyncio
import platform
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from statestream.service.durability.health import StoreHealth
from statestream.service.durability.stores.base import Claim, Durability, Record, Store
from statestream.service.errors import FailedPrecondition, Unavailable


class _Request(NamedTuple):
    kind: str
    what: Any
    answer: asyncio.Future[Any]


class StoreThread:
    """A store and its thread. `server` is this process's name in the store, and unique."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.server = f"{platform.node()}-{uuid.uuid4().hex[:12]}"
        self.health = StoreHealth(clock)
        self._durability = Durability.UNSPECIFIED
        self._store = store
        self._thread = ThreadPoolExecutor(1, "store")
        self._requests: list[_Request] = []
        self._answering: asyncio.Task[None] | None = None
        self._late_ends: list[tuple[str, int]] = []

    @property
    def durability(self) -> Durability:
        """What a snapshot survives; UNSPECIFIED before `open`."""
        return self._durability

    async def open(self) -> None:
        """Open the store.

        Raises:
            FailedPrecondition: it cannot be opened; the message has the reason.
        """
        try:
            self._durability = await self.call(self._store.open)
        except Exception as error:
            raise FailedPrecondition(f"cannot open the store: {error}", field="store") from error

    async def close(self) -> None:
        """Close the store and end the thread."""
        await self.call(self._store.close)
        self._thread.shutdown(wait=False)

    async def call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run `work` on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    @property
    def store(self) -> Store:
        """The store, for `call` alone."""
        return self._store

    # Single sessions

    async def read(self, session_id: str) -> Record | None:
        """The store's record of a session. Raises Unavailable while the store fails."""
        record: Record | None = await self._ask("read", session_id)
        return record

    async def claim(self, claim: Claim) -> bool:
        """Claim a session for this server; true if granted. Raises Unavailable while the store fails."""
        granted: bool = await self._ask("claim", claim)
        return granted

    async def end(self, session_id: str, epoch: int) -> None:
        """Delete a session from the store; while the store fails, once it is back (see `end_late`)."""
        try:
            await self._ask("end", (session_id, epoch))
        except Unavailable:
            self._late_ends.append((session_id, epoch))

    async def end_late(self) -> None:
        """Delete the sessions that ended while the store failed; raises the store's error if it still does."""
        if self._late_ends:
            ends = list(self._late_ends)
            await self.call(self._store.end, ends)
            del self._late_ends[: len(ends)]

    async def _ask(self, kind: str, what: Any) -> Any:
        if not self.health.up:
            raise Unavailable("the snapshot store is unavailable; try again later", field="store", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        request = _Request(kind, what, loop.create_future())
        self._requests.append(request)
        if self._answering is None:
            self._answering = loop.create_task(self._answer())
        return await request.answer

    async def _answer(self) -> None:
        """Run queued requests on the thread until none are left; those queued meanwhile share the next call."""
        while self._requests:
            requests, self._requests = self._requests, []
            try:
                answers = await self.call(self._run_batch, [(kind, what) for kind, what, _ in requests])
            except Exception as error:
                self.health.failed(error)
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(
                            Unavailable(f"the snapshot store failed: {error}", field="store", retry_after_s=1.0)
                        )
            else:
                for request, answer in zip(requests, answers, strict=True):
                    if not request.answer.done():
                        request.answer.set_result(answer)
        self._answering = None

    def _run_batch(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """Run requests on the thread: one call of the store a kind."""
        answers: list[Any] = [None] * len(requests)
        for kind, ask in (
            ("end", self._end),
            ("claim", lambda claims: self._store.claim(self.server, claims)),
            ("read", self._store.read),
        ):
            mine = [i for i, request in enumerate(requests) if request[0] == kind]
            if mine:
                for i, answer in zip(mine, ask([requests[i][1] for i in mine]), strict=True):
                    answers[i] = answer
        return answers

    def _end(self, ends: list[tuple[str, int]]) -> list[None]:
        self._store.end(ends)
        return [None] * len(ends)
