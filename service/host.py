"""What a server holds: its models, and which session belongs to which of them and to which stream."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Protocol

import numpy as np

from statestream.models import bundle as bundles
from statestream.models.bundle import Bundle, BundleError
from statestream.models.spec import Int64Array
from statestream.service.batcher import Limits, Turn
from statestream.service.config import ServerConfig
from statestream.service.engine import Engine
from statestream.service.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    StatestreamError,
    Unavailable,
)
from statestream.service.results import Results
from statestream.service.runner import Runner
from statestream.service.sessions import NOBODY, SessionInfo
from statestream.service.wire import Outgoing

log = logging.getLogger(__name__)

MAX_ID_BYTES = 256


class Holder(Protocol):
    """A stream, as far as its sessions are concerned."""

    def deliver(self, runner: Runner, turn: Outgoing, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        """Take the rows from `start` to `stop` of a turn's results."""
        ...

    def lost(self, channel: int, reason: Loss, rows: int, row_bytes: int) -> None:
        """The session on `channel` is no longer this stream's, which hears nothing of the `rows` that wait."""
        ...

    def reset(self, channel: int) -> None:
        """The session on `channel` was set back to the initial state."""
        ...

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """Rows of `channel` could not run; the session is as it was before them."""
        ...


class Loss(Enum):
    """Why a stream lost a session."""

    TAKEN = "another stream took the session over"
    ENDED = "the session was ended"


@dataclass(frozen=True, slots=True)
class Lane:
    """Where results go: a stream, and the outputs that it wants of them."""

    holder: Holder
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What an Open asks for; see `inference.proto`."""

    session_id: str
    model: str
    version: int
    may_create: bool
    may_resume: bool
    take_over: bool
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A session on a channel of a stream."""

    session_id: str
    runner: Runner
    slot: int
    epoch: int
    outputs: tuple[str, ...]
    resumed: bool


class Host:
    """Models and sessions of one server. All methods run on its event loop."""

    def __init__(self, config: ServerConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self.draining = False
        self.refused: dict[str, str] = {}
        """Bundles that were not loaded, by name, and why."""
        self._clock = clock
        self._models: dict[tuple[str, int], Runner] = {}
        self._owner: dict[str, Runner] = {}
        self._lanes: dict[int, Lane] = {}
        self._next_lane = count()

    # Models

    @property
    def runners(self) -> list[Runner]:
        """The models being served, by name, the newest version first."""
        return [self._models[key] for key in sorted(self._models, key=lambda key: (key[0], -key[1]))]

    def runner(self, name: str, version: int = 0) -> Runner:
        """A loaded model; version 0 is the newest. NotFound says what there is instead."""
        if version < 0:
            raise InvalidArgument(f"{version}; expected a version number, or 0 for the newest", field="version")
        served = [v for n, v in self._models if n == name]
        if version in served:
            return self._models[name, version]
        if served and version == 0:
            return self._models[name, max(served)]
        if served:
            raise NotFound(f"model '{name}' has no version {version} here; it has {sorted(served)}", field="version")
        if name in self.refused:
            raise NotFound(f"model '{name}' was refused: {self.refused[name]}", field="model")
        names = ", ".join(f"'{n}'" for n in sorted({n for n, _ in self._models})) or "none"
        raise NotFound(f"no model '{name}' here; there are {names}", field="model")

    def add(self, bundle: Bundle, engine: Engine) -> Runner:
        """Serve a bundle."""
        key = (bundle.manifest.name, bundle.manifest.version)
        if key in self._models:
            raise AlreadyExists(f"model '{bundle.manifest.ref}' is loaded", field="version")
        limits = Limits(
            credit_rows=self.config.credit_rows,
            max_unacked=self.config.max_unacked,
            max_batch=self.config.max_batch,
            turn_steps=_turn_steps(engine, self.config.max_turn_ms),
        )
        runner = Runner(
            bundle, engine, limits=limits, clock=self._clock, deliver=self._deliver, failed=self._turn_failed
        )
        self._models[key] = runner
        self.refused.pop(bundle.manifest.name, None)
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

    def remove(self, name: str, version: int) -> None:
        """Stop serving a version that has no sessions."""
        runner = self.runner(name, version)
        if len(runner.table):
            raise FailedPrecondition(
                f"{runner.manifest.ref} has {len(runner.table)} sessions; close them first", field="version"
            )
        del self._models[name, runner.manifest.version]
        runner.close()

    def load(self, name: str, version: int = 0) -> tuple[Bundle, Engine]:
        """Read and check a bundle of the repository, in any thread.

        Raises:
            NotFound: the repository has no such model or version.
            FailedPrecondition: it must not be served, and why.
        """
        found = bundles.versions(self.config.repository, name) if _plain(name) else []
        if not found:
            raise NotFound(f"no model '{name}' in the repository", field="name")
        if version and version not in found:
            raise NotFound(f"model '{name}' has no version {version}; it has {found}", field="version")
        path = self.config.repository / name / str(version or found[-1])
        try:
            bundle = Bundle.open(path)
            if (bundle.manifest.name, bundle.manifest.version) != (name, version or found[-1]):
                raise BundleError(f"{path}: the manifest says {bundle.manifest.ref}")
            return bundle, Engine.load(bundle, providers=self.config.providers, threads=self.config.threads)
        except BundleError as error:
            raise FailedPrecondition(str(error), field="bundle") from error

    # Sessions

    @property
    def sessions(self) -> int:
        return len(self._owner)

    async def open(self, holder: Holder, channel: int, request: Request) -> Held:
        """Give a session to a stream: a new one, or one that exists.

        Raises:
            Unavailable: the server is draining.
            InvalidArgument: no usable id or outputs.
            AlreadyExists: the id is taken, or another stream holds it and `take_over` was not asked for.
            NotFound: no such model or version, or no such session and none may be made.
            FailedPrecondition: the session belongs to another model.
            ResourceExhausted: no room for another session.
        """
        if self.draining:
            raise Unavailable("the server is draining; open the session elsewhere", retry_after_s=1.0)
        session_id = request.session_id or str(uuid.uuid4())
        if len(session_id.encode()) > MAX_ID_BYTES:
            raise InvalidArgument(f"{len(session_id.encode())} bytes, at most {MAX_ID_BYTES}", field="session_id")
        while (runner := self._owner.get(session_id)) is not None:
            slot = runner.table.slot(session_id)
            self._may_resume(runner, slot, session_id, request)
            if runner.table.lane[slot] != NOBODY:
                self._take_away(runner, slot, Loss.TAKEN)
            if not runner.waiting(slot):
                break
            await runner.settled(slot)  # and look again: much may have happened meanwhile
        resumed = runner is not None
        if runner is None:
            runner = self._create(session_id, request)
        outputs = _outputs(runner, request.outputs)
        slot = runner.table.slot(session_id)
        runner.table.attach(slot, self._lane(holder, outputs), channel)
        return Held(session_id, runner, slot, int(runner.table.epoch[slot]), outputs, resumed)

    def _may_resume(self, runner: Runner, slot: int, session_id: str, request: Request) -> None:
        if not request.may_resume:
            raise AlreadyExists(f"there is a session '{session_id}'", field="session_id")
        if runner.table.lane[slot] != NOBODY and not request.take_over:
            raise AlreadyExists(
                f"a stream holds session '{session_id}'; set take_over to take it over", field="session_id"
            )
        m = runner.manifest
        if request.model not in ("", m.name) or request.version not in (0, m.version):
            asked = f"{request.model or m.name}:{request.version or m.version}"
            raise FailedPrecondition(f"session '{session_id}' is of model {m.ref}, not {asked}", field="model")
        _outputs(runner, request.outputs)

    def _create(self, session_id: str, request: Request) -> Runner:
        if not request.may_create:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        runner = self.runner(request.model, request.version)
        _outputs(runner, request.outputs)
        if self.sessions >= self.config.max_sessions:
            raise ResourceExhausted(
                f"the server holds {self.sessions} sessions, its most", field="session_id", retry_after_s=5.0
            )
        runner.table.create(session_id)
        self._owner[session_id] = runner
        return runner

    def detach(self, held: Held) -> None:
        """A stream lets go of a session, which waits to be resumed. Rows that wait still run."""
        held.runner.table.detach(held.slot)

    def find(self, session_id: str) -> Runner:
        """The model of a session; NotFound where there is none of this id."""
        runner = self._owner.get(session_id)
        if runner is None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        return runner

    async def end(self, session_id: str) -> None:
        """Forget a session, after the rows that wait; a stream that holds it is told."""
        runner = self.find(session_id)
        slot = runner.table.slot(session_id)
        if runner.table.lane[slot] != NOBODY:
            self._take_away(runner, slot, Loss.ENDED)
        epoch = int(runner.table.epoch[slot])
        await runner.settled(slot)
        if self._owner.get(session_id) is runner and runner.table.epoch[slot] == epoch:
            self._forget(session_id)

    async def reset(self, session_id: str) -> None:
        """Set a session back to its initial state, after the rows that wait; its seqs go on."""
        runner = self.find(session_id)
        slot = runner.table.slot(session_id)
        await runner.settled(slot)
        if self._owner.get(session_id) is not runner:
            raise NotFound(f"session '{session_id}' has ended", field="session_id")
        runner.table.reset(slot)
        if (lane := int(runner.table.lane[slot])) != NOBODY:
            self._lanes[lane].holder.reset(int(runner.table.channel[slot]))

    def expire(self) -> list[str]:
        """Forget the sessions that no stream has held for longer than the configured time; returns their ids."""
        expired = [
            session_id
            for runner in self._models.values()
            for session_id in runner.table.idle(self.config.idle_ttl_s)
            if not runner.waiting(runner.table.slot(session_id))
        ]
        for session_id in expired:
            self._forget(session_id)
        return expired

    def infos(self, model: str = "") -> Iterator[tuple[Runner, SessionInfo]]:
        """Every session by id, of one model or of all."""
        for session_id in sorted(self._owner):
            runner = self._owner[session_id]
            if model in ("", runner.manifest.name):
                yield runner, runner.table.info(session_id)

    def _take_away(self, runner: Runner, slot: int, reason: Loss) -> None:
        lane, channel = int(runner.table.lane[slot]), int(runner.table.channel[slot])
        runner.table.detach(slot)
        self._lanes[lane].holder.lost(channel, reason, runner.waiting(slot), runner.row_bytes)

    def _forget(self, session_id: str) -> None:
        self._owner.pop(session_id).table.end(session_id)

    # Lanes

    def leave(self, holder: Holder) -> None:
        """A stream has ended; its lanes lead nowhere."""
        self._lanes = {lane: there for lane, there in self._lanes.items() if there.holder is not holder}

    def _lane(self, holder: Holder, outputs: tuple[str, ...]) -> int:
        for number, lane in self._lanes.items():
            if lane.holder is holder and lane.outputs == outputs:
                return number
        number = next(self._next_lane)
        self._lanes[number] = Lane(holder, outputs)
        return number

    def _deliver(self, runner: Runner, results: Results) -> None:
        order, lanes, starts = _by_lane(results.lane)
        turn = Outgoing(results, order)
        for number, start, stop in zip(lanes, starts, [*starts[1:], results.n], strict=True):
            lane = self._lanes.get(number)
            if lane is not None:
                lane.holder.deliver(runner, turn, start, stop, lane.outputs)

    def _turn_failed(self, runner: Runner, turn: Turn, error: Internal) -> None:
        slots, counts = np.unique(turn.rows.slot, return_counts=True)
        for slot, rows in zip(slots.tolist(), counts.tolist(), strict=True):
            lane = self._lanes.get(int(runner.table.lane[slot]))
            if lane is not None:
                lane.holder.failed(int(runner.table.channel[slot]), rows, runner.row_bytes, error)


def _by_lane(lane: Int64Array) -> tuple[Int64Array | slice, list[int], list[int]]:
    """An order in which the rows of each lane stand together, the lanes, and where each one's rows start."""
    first = int(lane[0])
    if (lane == first).all():
        return slice(None), [first], [0]
    order = np.argsort(lane, kind="stable")
    lane = lane[order]
    starts = np.flatnonzero(np.diff(lane, prepend=NOBODY - 1))
    return order, lane[starts].tolist(), starts.tolist()


def _outputs(runner: Runner, wanted: tuple[str, ...]) -> tuple[str, ...]:
    m = runner.manifest
    everything = [t.name for t in m.outputs]
    for name in wanted:
        if name not in everything and name not in [f"aux_{t.name}" for t in m.aux]:
            raise InvalidArgument(f"model {m.ref} has no output '{name}'; it has {everything}", field="outputs")
    return wanted or tuple(everything)


def _turn_steps(engine: Engine, max_turn_ms: float) -> int:
    """Rows of one session in a turn, so that a batch of 64 such sessions takes about `max_turn_ms`."""
    return int(np.clip(max_turn_ms / 1000 / max(engine.cost.batch_s, 1e-9), 1, 256))


def _plain(name: str) -> bool:
    """Whether a name stays within the repository."""
    return bool(name) and "/" not in name and "\\" not in name and not name.startswith(".") and "\0" not in name
