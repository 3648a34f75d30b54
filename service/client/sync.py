"""Blocking client: runs the asynchronous one on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, SupportsIndex, TypeVar

import numpy.typing as npt

from statestream.models.spec import Float32Array, Manifest
from statestream.service.client.admin import AsyncAdmin, ModelChange, SessionInfo, SessionPage
from statestream.service.client.aio import AsyncClient
from statestream.service.client.core.arguments import instance, listed
from statestream.service.client.core.grpc_options import NO_ACCESS, Metadata
from statestream.service.client.core.process import check_process, forked, refuse_pickle
from statestream.service.client.credentials import Access
from statestream.service.client.freshness import StaleWatch
from statestream.service.client.group import Group
from statestream.service.client.inputs import Input
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.notices import OnNotice
from statestream.service.client.options import OnFull, OnLoss, OnLost, SessionOptions
from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.client.results import ChunkResult, StepResult
from statestream.service.client.session import AsyncSession
from statestream.service.client.stream import AsyncStream, Resume
from statestream.service.errors import FailedPrecondition
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy

T = TypeVar("T")


def connect(target: str, **options: Any) -> Client:
    """Connect to a server at `host:port` or `unix:path`; see `Client`."""
    return Client(target, **options)


class LoopThread:
    """An event loop in its own thread, for blocking code."""

    def __init__(self) -> None:
        check_process()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="statestream client", daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether the thread is there: neither after `stop` nor in a forked child."""
        return not self._loop.is_closed() and not forked()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for it.

        An interrupt (Ctrl-C) cancels it.

        Raises:
            FailedPrecondition: the thread was stopped, or the process is a forked child.
        """
        if not self.runs:
            work.close()
            check_process()
            raise FailedPrecondition("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, work: Callable[[], T]) -> T:
        """Run a plain function in the loop's thread."""

        async def run() -> T:
            return work()

        return self.run(run())

    def stop(self) -> None:
        """Cancel running tasks and end the thread; works in a thread with a running loop (notebooks)."""
        if not self.runs:
            return
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class Client:
    """A blocking connection to a server; `close` ends it, and so does leaving `with`.

    Methods and errors are those of `AsyncClient`.

    Args:
        target: `host:port` or `unix:path`.
        access: TLS files and token; by default plain text and no token.
        metadata: sent with every RPC.
        timeout_s: time limit of each call except streams.
        route_key: see `AsyncClient`.
        reconnect: see `AsyncClient`.
        give_up_after_s: see `AsyncClient`.
        options: gRPC channel options; they override the client's own.
    """

    def __init__(
        self,
        target: str,
        *,
        access: Access = NO_ACCESS,
        metadata: Metadata = (),
        timeout_s: float = 30.0,
        route_key: str = "",
        reconnect: bool = True,
        give_up_after_s: float | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._loop = LoopThread()

        def make() -> AsyncClient:
            return AsyncClient(
                target,
                access=access,
                metadata=metadata,
                timeout_s=timeout_s,
                route_key=route_key,
                reconnect=reconnect,
                give_up_after_s=give_up_after_s,
                options=options,
            )

        try:
            self._client = self._loop.call(make)
        except BaseException:
            self._loop.stop()
            raise
        self.admin = Admin(self._loop, self._client.admin)

    __reduce__ = refuse_pickle

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target(self) -> str:
        return self._client.target

    def close(self) -> None:
        """Close every stream and the connection; does nothing in a forked child."""
        if not self._loop.runs:
            return
        try:
            self._loop.run(self._client.close())
        finally:
            self._loop.stop()

    def serving(self, model: str = "") -> bool:
        """Whether the server, or one of its models, accepts sessions; see `AsyncClient.serving`."""
        return self._loop.run(self._client.serving(model))

    def list_models(self) -> list[ModelInfo]:
        """List the models being served, newest version first within a name."""
        return self._loop.run(self._client.list_models())

    def get_model(self, name: str, version: int = 0) -> ModelInfo:
        """Describe one model; version 0 is the active one."""
        return self._loop.run(self._client.get_model(name, version))

    def stream(self, *, route_key: str = "", on_notice: OnNotice | None = None) -> Stream:
        """Create a stream, which can hold many sessions and begins with the first.

        Args:
            route_key: overrides the client's.
            on_notice: called in the client's thread with each notice of the server; by default it is logged.
        """

        def make() -> AsyncStream:
            return self._client.stream(route_key=route_key, on_notice=on_notice)

        return Stream(self._loop, self._loop.call(make))


class Stream:
    """Sessions sharing one RPC; see `AsyncStream`."""

    def __init__(self, loop: LoopThread, stream: AsyncStream) -> None:
        self._loop = loop
        self._stream = stream

    def __enter__(self) -> Stream:
        self._loop.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop.runs:
            self._loop.run(self._stream.__aexit__(kind, error, trace))

    def close(self) -> None:
        """Acknowledge what was read and end the RPC; see `AsyncStream.close`."""
        if self._loop.runs:
            self._loop.run(self._stream.close())

    def open(
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
    ) -> Session:
        """Start or resume a session.

        See `AsyncStream.open`. `on_loss` is called in the client's thread.
        """
        opening = self._stream.open(
            model,
            session_id,
            version=version,
            resume=resume,
            take_over=take_over,
            outputs=outputs,
            policy=policy,
            ring_rows=ring_rows,
            on_full=on_full,
            on_lost=on_lost,
            on_loss=on_loss,
        )
        return Session(self._loop, self._loop.run(opening))

    @property
    def reconnects(self) -> int:
        """Number of successful reconnects."""
        return self._stream.reconnects

    def group(self, sessions: Sequence[Session]) -> SyncGroup:
        """Group sessions for repeated bursts; see `Group.step`."""
        members = [instance(each, Session, "sessions").asynchronous for each in listed(sessions, "sessions")]
        return SyncGroup(self._loop, self._loop.call(lambda: self._stream.group(members)))

    def burst(
        self, sessions: Sequence[Session] | SyncGroup, x: Input, timestamp_ns: npt.ArrayLike | None = None
    ) -> ChunkResult:
        """Advance many sessions of one model by one row each, in one message; see `Group.step`."""
        group = sessions if isinstance(sessions, SyncGroup) else self.group(sessions)
        return group.step(x, timestamp_ns)


class SyncGroup:
    """Sessions of one model that advance together; see `Group`."""

    def __init__(self, loop: LoopThread, group: Group) -> None:
        self._loop = loop
        self._group = group

    def __len__(self) -> int:
        return len(self._group)

    def step(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance every session by one row: `x` is `[sessions, *shape]`, `timestamp_ns` `[sessions]`."""
        return self._loop.run(self._group.step(x, timestamp_ns))


class Session:
    """A session bound to a stream; see `AsyncSession`."""

    def __init__(self, loop: LoopThread, session: AsyncSession) -> None:
        self._loop = loop
        self.asynchronous = session
        """The wrapped session; it belongs to the client's thread."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    @property
    def session_id(self) -> str:
        return self.asynchronous.session_id

    @property
    def manifest(self) -> Manifest:
        return self.asynchronous.manifest

    @property
    def resumed(self) -> bool:
        """Whether the session existed before; its unacknowledged results come first in `results()`."""
        return self.asynchronous.resumed

    @property
    def epoch(self) -> int:
        return self.asynchronous.epoch

    @property
    def settled_seq(self) -> int:
        """The last row that has a verdict."""
        return self.asynchronous.settled_seq

    @property
    def durable_seq(self) -> int:
        """The last row that a snapshot of the server holds."""
        return self.asynchronous.durable_seq

    def step(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> StepResult:
        """Advance by one row and wait for its result; see `AsyncSession.step`."""
        return self._loop.run(self.asynchronous.step(x, timestamp_ns))

    def send(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> int:
        """Send one row without waiting and return its seq; see `AsyncSession.send`."""
        return self._loop.run(self.asynchronous.send(x, timestamp_ns))

    def chunk(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance by several rows and wait for all results; see `AsyncSession.chunk`."""
        return self._loop.run(self.asynchronous.chunk(x, timestamp_ns))

    def skip(self, rows: int = 1) -> ChunkResult:
        """Report the next `rows` rows as dropped by the application; see `AsyncSession.skip`."""
        return self._loop.run(self.asynchronous.skip(rows))

    def new_clock(self) -> None:
        """Declare a new origin of timestamps from the next row on, which takes the nominal dt."""
        self._loop.call(self.asynchronous.new_clock)

    def results(self) -> Iterator[StepResult]:
        """Iterate over results of rows sent with `send`; blocks; see `AsyncSession.results`."""
        results = self.asynchronous.results()
        try:
            while (result := self._loop.run(_next(results))) is not None:
                yield result
        finally:
            if self._loop.runs:
                self._loop.run(_aclose(results))

    def latest(self, max_age_s: float = float("inf")) -> StepResult | None:
        """The newest output; None: it is older than `max_age_s`; see `AsyncSession.latest`."""
        return self._loop.call(lambda: self.asynchronous.latest(max_age_s))

    def on_stale(self, max_age_s: float, callback: Callable[[float], object]) -> StaleWatch:
        """Like `AsyncSession.on_stale`.

        The callback runs in the client's thread and must not call this client.
        """
        return self._loop.call(lambda: self.asynchronous.on_stale(max_age_s, callback))

    def close(self, *, end_session: bool = False) -> None:
        """Unbind from the stream once every row is answered; see `AsyncSession.close`."""
        if self._loop.runs:
            self._loop.run(self.asynchronous.close(end_session=end_session))


class Admin:
    """Operates a server's models and sessions; see `AsyncAdmin`."""

    def __init__(self, loop: LoopThread, admin: AsyncAdmin) -> None:
        self._loop = loop
        self._admin = admin

    def load_model(self, name: str, version: int = 0, *, policy: UpgradePolicy = UpgradePolicy.PIN) -> ModelChange:
        """Load a bundle from the server's repository and make it active, or the shadow."""
        return self._loop.run(self._admin.load_model(name, version, policy=policy))

    def promote_model(self, name: str) -> ModelChange:
        """Make the shadow active."""
        return self._loop.run(self._admin.promote_model(name))

    def rollback_model(self, name: str) -> ModelChange:
        """Make the previously active version active again."""
        return self._loop.run(self._admin.rollback_model(name))

    def unload_model(self, name: str, version: int, *, policy: UnloadPolicy = UnloadPolicy.REFUSE) -> None:
        """Stop serving a version, or drop the shadow."""
        self._loop.run(self._admin.unload_model(name, version, policy=policy))

    def list_sessions(self, model: str = "", *, limit: int = 1000, after: str = "") -> SessionPage:
        """List sessions in order of id; see `AsyncAdmin.list_sessions`."""
        return self._loop.run(self._admin.list_sessions(model, limit=limit, after=after))

    def inspect_session(self, session_id: str) -> tuple[SessionInfo, Mapping[str, Float32Array]]:
        """Return a session and its state tensors by name, each flat, `[size]`."""
        return self._loop.run(self._admin.inspect_session(session_id))

    def snapshot_session(self, session_id: str) -> bytes:
        """Return a session as bytes for `restore_session`."""
        return self._loop.run(self._admin.snapshot_session(session_id))

    def restore_session(self, snapshot: bytes, session_id: str = "") -> SessionInfo:
        """Restore a session from a snapshot, under another id if one is given."""
        return self._loop.run(self._admin.restore_session(snapshot, session_id))

    def reset_session(self, session_id: str) -> None:
        """Reset a session to the model's initial state."""
        self._loop.run(self._admin.reset_session(session_id))

    def close_session(self, session_id: str) -> None:
        """End a session."""
        self._loop.run(self._admin.close_session(session_id))

    def drain(self) -> int:
        """Drain the server: it finishes queued rows and stops. Returns its number of sessions."""
        return self._loop.run(self._admin.drain())


async def _next(results: AsyncIterator[StepResult]) -> StepResult | None:
    async for result in results:
        return result
    return None


async def _aclose(results: Any) -> None:
    await results.aclose()
