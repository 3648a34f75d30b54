"""Host: the models and sessions of one server, and the routes of results to streams."""

from __future__ import annotations

import asyncio
import logging
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np

from statestream.models import bundle as bundles
from statestream.models.bundle import Bundle, BundleError
from statestream.models.spec import Int64Array
from statestream.service.auth.identity import SERVER, Identity
from statestream.service.batching.batcher import Limits
from statestream.service.batching.results import TurnResults
from statestream.service.batching.row_queue import RowBatch
from statestream.service.batching.single_row import SingleResult
from statestream.service.config import ServerConfig
from statestream.service.control.byte_budget import SharedByteBudget
from statestream.service.control.session_manager import (
    DetachReason,
    OpenRequest,
    SessionManager,
    check_id,
    wanted_outputs,
)
from statestream.service.durability.stores.base import Store
from statestream.service.durability.writer import SnapshotWriter
from statestream.service.engine.onnx import Engine
from statestream.service.engine.providers import TensorRTCache
from statestream.service.engine.refusal import refusing
from statestream.service.errors import FailedPrecondition, Internal, NotFound, StatestreamError, Unavailable
from statestream.service.serving.frame_decoder import FrameDecoder, check_pictures
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.repository import check_row_fits
from statestream.service.serving.result_batch import AnyResultBatch, ResultBatch, SingleRowBatch
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions.table import DETACHED, SessionInfo

log = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255


class SessionSubscriber(Protocol):
    """A stream's callbacks for its sessions."""

    def deliver(
        self, runner: ModelRunner, turn: AnyResultBatch, start: int, stop: int, outputs: tuple[str, ...]
    ) -> None:
        """Receive the rows from `start` to `stop` of a turn's results."""
        ...

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        """The session was detached from this stream; its queued `rows` will get no results here."""
        ...

    def moved(self, channel: int, runner: ModelRunner, slot: int) -> None:
        """The session continues on another version of its model, in this slot."""
        ...

    def reset(self, channel: int) -> None:
        """The session was reset."""
        ...

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        """Settled and durable seqs of sessions; `lag_s` is how long the store has failed."""
        ...

    def fell_back(self, channel: int, text: str) -> None:
        """The store lost a snapshot of the session that it had confirmed."""
        ...

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """Rows of the session could not run; its state is unchanged."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """Destination of results: a stream, and the outputs it wants."""

    subscriber: SessionSubscriber
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A session attached to a channel of a stream."""

    session_id: str
    runner: ModelRunner
    slot: int
    epoch: int
    outputs: tuple[str, ...]
    resumed: bool


class Host:
    """Models and sessions of one server. All methods run on its event loop, except `load`."""

    def __init__(
        self, config: ServerConfig, clock: Callable[[], float], on_load: Callable[[ModelRunner], None] | None = None
    ) -> None:
        """Prepare. `on_load` is called with each model before it serves, so that observers can attach."""
        self.config = config
        self._on_load = on_load
        self._draining = False
        self.waiting = SharedByteBudget(config.max_waiting_bytes)
        self._clock = clock
        self.versions = ModelRegistry()
        self.session_manager = SessionManager(
            config, clock, versions=self.versions, take_away=self._take_away, moved=self._notify_moved
        )
        self._decoder = FrameDecoder(config.decode_threads)
        self._routes: dict[int, Route] = {}
        self._next_route = count()
        self._tasks: set[asyncio.Task[None]] = set()

    # Models

    def add(self, bundle: Bundle, engine: Engine) -> ModelRunner:
        """Serve a bundle whose version is not loaded; active if no other version of its name is."""
        limits = Limits(
            credit_rows=self.config.credit_rows,
            max_unacked=self.config.max_unacked,
            max_batch=self.config.max_batch,
            turn_steps=_turn_steps(engine, self.config.max_turn_ms),
            turn_bytes=self.config.max_decoded_bytes,
        )
        runner = ModelRunner(
            bundle,
            engine,
            limits=limits,
            decoder=self._decoder,
            clock=self._clock,
            deliver=self._deliver,
            failed=self._turn_failed,
        )
        if self._on_load is not None:
            self._on_load(runner)
        self.versions.add(runner)
        log.info(
            "serving %s on %s: %.0f µs a step, %.0f µs a batch of 64, %s, at most %d rows of a session a turn",
            bundle.manifest.ref,
            engine.provider,
            engine.cost.step_s * 1e6,
            engine.cost.batch_s * 1e6,
            "on the loop" if runner.inline else "in a thread",
            limits.turn_steps,
        )
        return runner

    def load(self, name: str, version: int = 0, *, build: bool = False, measure: bool = True) -> tuple[Bundle, Engine]:
        """Read a bundle of the repository, check it, and load its engine. Safe in any thread.

        Args:
            build: whether TensorRT may build its engines, which takes minutes.
            measure: see `Engine.load`.

        Raises:
            NotFound: the repository has no such model or version.
            FailedPrecondition: the bundle is refused; the message has the reason, for example a link out of the
                repository.
        """
        found = bundles.versions(self.config.repository, name) if _plain(name) else []
        if not found:
            raise NotFound(f"no model '{name}' in the repository", field="name")
        if version and version not in found:
            raise NotFound(f"model '{name}' has no version {version}; it has {found}", field="version")
        path = self.config.repository / name / str(version or found[-1])
        try:
            with refusing(f"{path} cannot be loaded"):
                return self._load(path, name, version or found[-1], build, measure)
        except BundleError as error:
            raise FailedPrecondition(str(error), field="bundle") from error

    def close(self) -> None:
        """Stop the threads of engines and decoder."""
        for runner in self.versions:
            runner.close()
        self._decoder.close()

    def _load(self, path: Path, name: str, version: int, build: bool, measure: bool) -> tuple[Bundle, Engine]:
        config = self.config
        _check_inside(path, config.repository)
        bundle = Bundle.open(path)
        if (bundle.manifest.name, bundle.manifest.version) != (name, version):
            raise BundleError(f"{path}: the manifest says {bundle.manifest.ref}")
        check_pictures(bundle.manifest, config.max_decoded_bytes)
        check_row_fits(bundle.manifest, config.max_message_bytes)
        engine = Engine.load(
            bundle,
            providers=config.providers,
            threads=config.threads,
            cache=TensorRTCache(config.engine_cache, config.max_batch, build),
            max_batch=config.max_batch,
            measure=measure,
        )
        for concern in engine.concerns:
            log.warning("%s: %s", bundle.manifest.ref, concern)
        return bundle, engine

    # Sessions

    @property
    def draining(self) -> bool:
        """Whether new sessions are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuse new sessions from now on."""
        self._draining = True

    @property
    def sessions(self) -> int:
        """Number of sessions in memory; those only in the store are not counted."""
        return len(self.session_manager.registry)

    async def open(self, subscriber: SessionSubscriber, channel: int, request: OpenRequest) -> Attachment:
        """Attach a session to a stream: a new one, or one that exists.

        Raises:
            Unavailable: the server is draining.
            InvalidArgument: the id is not usable, or an output does not exist.
            StatestreamError: see `SessionManager.acquire`.
        """
        if self._draining:
            raise Unavailable("the server is draining; open the session elsewhere", retry_after_s=1.0)
        session_id = request.session_id or str(uuid.uuid4())
        check_id(session_id)
        async with self.session_manager.lock(session_id):
            runner, slot, epoch, resumed = await self.session_manager.acquire(session_id, request)
            outputs = wanted_outputs(runner, request.outputs)
            runner.table.attach(slot, self._route(subscriber, outputs), channel, epoch)
        return Attachment(session_id, runner, slot, epoch, outputs, resumed)

    def detach(self, held: Attachment) -> None:
        """Detach a session from its stream; it can be resumed. Its queued rows still run."""
        held.runner.table.detach(held.slot)

    async def reset(self, session_id: str, by: Identity = SERVER) -> None:
        """Reset a session after its queued rows; its seqs continue. For errors see `SessionRegistry.find`."""
        async with self.session_manager.lock(session_id):
            runner = self.session_manager.registry.find(session_id, by)
            slot = runner.table.slot(session_id)
            await runner.settled(slot)
            runner.reset(slot)
            self._notify(runner, slot, lambda subscriber, channel: subscriber.reset(channel))

    def infos(self, model: str = "", owner: str | None = None) -> Iterator[tuple[ModelRunner, SessionInfo]]:
        """Sessions by id, of one model or all, one owner or all."""
        for session_id in self.session_manager.registry.of(owner):
            runner = self.session_manager.registry.find(session_id)
            if model in ("", runner.manifest.name):
                yield runner, runner.table.info(session_id)

    def _notify_moved(self, runner: ModelRunner, slot: int) -> None:
        self._notify(runner, slot, lambda subscriber, channel: subscriber.moved(channel, runner, slot))

    def _take_away(self, runner: ModelRunner, slot: int, reason: DetachReason) -> None:
        rows = runner.waiting(slot)
        self._notify(runner, slot, lambda subscriber, channel: subscriber.lost(channel, reason, rows, runner.row_bytes))
        runner.table.detach(slot)

    def _notify(self, runner: ModelRunner, slot: int, notify: Callable[[SessionSubscriber, int], None]) -> None:
        """Call `notify` with the stream and channel of the session, if attached."""
        route = self._routes.get(int(runner.table.route[slot]))
        if route is not None:
            notify(route.subscriber, int(runner.table.channel[slot]))

    # Snapshots

    async def keep_in(
        self, store: Store, changed: Callable[[bool], None] = lambda up: None, lost: Callable[[], None] = lambda: None
    ) -> None:
        """Save sessions in a store from now on.

        Args:
            changed: called with False when the store fails, with True when it is back.
            lost: called when damage of the store cost sessions.

        Raises:
            FailedPrecondition: the store cannot be opened.
        """
        snapshot_writer = SnapshotWriter[ModelRunner](
            store,
            server=f"{platform.node()}-{uuid.uuid4().hex[:12]}",
            tick_s=self.config.store_tick_s,
            ttl_s=self.config.idle_ttl_s,
            clock=self._clock,
            runners=lambda: list(self.versions),
            hearer=self,
            changed=changed,
            lost=lost,
        )
        await snapshot_writer.start()
        self.session_manager.save_with(snapshot_writer)

    def stored(self, runner: ModelRunner, slots: Int64Array) -> None:
        """See `writer.Hearer`."""
        self._progress(runner, slots)

    def all_stored(self) -> None:
        """See `writer.Hearer`."""
        self.session_manager.spill()

    def not_stored(self, runner: ModelRunner) -> None:
        """See `writer.Hearer`."""
        self._progress(runner, np.flatnonzero(runner.table.route != DETACHED))

    def fenced(self, runner: ModelRunner, session_id: str, generation: int) -> None:
        """See `writer.Hearer`."""
        log.warning("another server has claimed session '%s'", session_id)
        task = asyncio.get_running_loop().create_task(self.session_manager.drop(runner, session_id, generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fell_back(self, runner: ModelRunner, slot: int, durable_seq: int, found_seq: int) -> None:
        """See `writer.Hearer`."""
        text = f"the store had seq {found_seq} although it had confirmed {durable_seq}; the session was stored again"
        log.error("session '%s': %s", runner.table.id_of(slot), text)
        self._notify(runner, slot, lambda subscriber, channel: subscriber.fell_back(channel, text))

    def _progress(self, runner: ModelRunner, slots: Int64Array) -> None:
        """Report settled and durable seqs to the streams of these sessions."""
        table = runner.table
        slots = slots[table.route[slots] != DETACHED]
        if not len(slots):
            return
        order, spans = _by_route(table.route[slots])
        slots = slots[order]
        lag_s = 0.0 if self.session_manager.snapshot_writer is None else self.session_manager.snapshot_writer.lag_s
        for number, start, stop in spans:
            mine = slots[start:stop]
            if (route := self._routes.get(number)) is not None:
                columns = (
                    table.channel[mine].tolist(),
                    table.settled_seq[mine].tolist(),
                    table.durable_seq[mine].tolist(),
                )
                route.subscriber.progress(*columns, lag_s)

    # Routes

    def leave(self, subscriber: SessionSubscriber) -> None:
        """Remove the routes of a stream that has ended."""
        self._routes = {number: kept for number, kept in self._routes.items() if kept.subscriber is not subscriber}

    def _route(self, subscriber: SessionSubscriber, outputs: tuple[str, ...]) -> int:
        for number, route in self._routes.items():
            if route.subscriber is subscriber and route.outputs == outputs:
                return number
        number = next(self._next_route)
        self._routes[number] = Route(subscriber, outputs)
        return number

    def _deliver(self, runner: ModelRunner, results: TurnResults | SingleResult) -> None:
        if isinstance(results, SingleResult):
            if (route := self._routes.get(results.route)) is not None:
                route.subscriber.deliver(runner, SingleRowBatch(results), 0, 1, route.outputs)
            return
        order, spans = _by_route(results.route)
        turn = ResultBatch(results, order)
        for number, start, stop in spans:
            if (route := self._routes.get(number)) is not None:
                route.subscriber.deliver(runner, turn, start, stop, route.outputs)

    def _turn_failed(self, runner: ModelRunner, rows: RowBatch, error: Internal) -> None:
        slots, counts = np.unique(rows.slot, return_counts=True)
        for slot, waiting in zip(slots.tolist(), counts.tolist(), strict=True):
            route = self._routes.get(int(runner.table.route[slot]))
            if route is not None:
                route.subscriber.failed(int(runner.table.channel[slot]), waiting, runner.row_bytes, error)


def _by_route(route: Int64Array) -> tuple[Int64Array | slice, Iterable[tuple[int, int, int]]]:
    """Order rows by route; also each route's number, start and stop."""
    first = int(route[0])
    if (route == first).all():
        return slice(None), [(first, 0, len(route))]
    order = np.argsort(route, kind="stable")
    route = route[order]
    starts = np.concatenate([[0], np.flatnonzero(route[1:] != route[:-1]) + 1])
    stops = [*starts[1:].tolist(), len(route)]
    return order, zip(route[starts].tolist(), starts.tolist(), stops, strict=True)


def _turn_steps(engine: Engine, max_turn_ms: float) -> int:
    """Rows of a session a turn: a batch of 64 sessions takes about `max_turn_ms`."""
    return int(np.clip(max_turn_ms / 1000 / max(engine.cost.batch_s, 1e-9), 1, 256))


def _check_inside(path: Path, repository: Path) -> None:
    """Check that a bundle's folder and files lie in the repository; raises FailedPrecondition otherwise."""
    root = repository.resolve()
    for each in (path, *path.iterdir()):
        if not each.resolve().is_relative_to(root):
            raise FailedPrecondition(f"{each} leads out of the repository", field="bundle")


def _plain(name: str) -> bool:
    """Whether a name is a single folder in the repository."""
    if not 0 < len(name.encode()) <= _MAX_NAME_BYTES or name.startswith("."):
        return False
    return not any(character in name for character in "/\\\0")
