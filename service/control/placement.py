"""Placement: finds, restores or creates sessions in the tables of their models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statestream.models.spec import Int64Array, Tensors
from statestream.service.auth.identity import check_owner
from statestream.service.config import ServerConfig
from statestream.service.control.eviction import ExpiredSessions
from statestream.service.control.open_request import OpenRequest, wanted_outputs
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.durability.stores.base import Record
from statestream.service.errors import AlreadyExists, Expired, FailedPrecondition, NotFound
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions import snapshot
from statestream.service.sessions.columns import DETACHED
from statestream.service.sessions.snapshot import Snapshot, SnapshotError


class Placement:
    """Puts sessions into tables, and moves them between versions. `server` is this process's name in the store."""

    def __init__(
        self,
        config: ServerConfig,
        versions: ModelRegistry,
        registry: SessionRegistry,
        expired: ExpiredSessions,
        server: str,
    ) -> None:
        self._config = config
        self._versions = versions
        self._registry = registry
        self._expired = expired
        self._server = server

    def find_or_create(self, session_id: str, request: OpenRequest, record: Record | None) -> tuple[ModelRunner, bool]:
        """Find a session in its table, restore it from the store's `record`, or create it.

        Returns:
            Its model, and whether it existed.

        Raises:
            StatestreamError: see `SessionManager.open`.
        """
        runner = self._registry.get(session_id)
        if runner is not None:
            held = runner.table.route[runner.table.slot(session_id)] != DETACHED
            self._check_resume(session_id, self._registry.owner_of(session_id), runner, held, request)
            return runner, True
        expired_s = self._expired.since_s(session_id) if record is None else record.expired_s
        if expired_s is not None and request.may_resume:
            raise Expired(self._expiry(session_id, expired_s, record), field="session_id")
        if record is not None and expired_s is None:
            return self._resume(session_id, request, record), True
        if not request.may_create:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        return self._create(session_id, request), False

    def restore(self, session_id: str, read: Snapshot) -> ModelRunner:
        """Put a stored session into a table: its version's, or that of the version its sessions were moved to."""
        self._registry.check_room(read.owner)
        runner = self._versions.successor(read.model, read.version)
        own = self._versions.get(read.model, read.version) or runner
        own.table.restore(session_id, read)
        self._registry.enter(session_id, own)
        if own is not runner:
            self.move([session_id], own, runner)
        return runner

    def move(self, ids: Sequence[str], old: ModelRunner, new: ModelRunner, states: Tensors | None = None) -> Int64Array:
        """Move sessions to another version, with their queued rows; no turn of `old` may be running.

        Args:
            states: new states, `[sessions, *shape]` by name; None: their own, of the same schema.

        Returns:
            Their slots in `new`. Streams that hold them must be told before the loop goes on.
        """
        slots = np.array([old.table.slot(session_id) for session_id in ids], np.int64)
        rows = old.hand_over(slots)
        place = np.zeros(old.table.capacity, np.int64)
        place[slots] = moved = new.table.adopt(old.table, slots, states)
        self._registry.move(ids, new)
        new.take_over(rows._replace(slot=place[rows.slot]))
        return moved

    def _resume(self, session_id: str, request: OpenRequest, record: Record) -> ModelRunner:
        check_owner(session_id, owner_of(session_id, record), request.owner)
        read = _decoded(session_id, record)
        runner = self._versions.successor(read.model, read.version)
        held = record.held and record.server != self._server
        self._check_resume(session_id, read.owner, runner, held, request)
        if record.broken_off and request.complete:
            raise FailedPrecondition(
                f"the server that had session '{session_id}' died, and rows of it may be lost", field="session_id"
            )
        runner = self.restore(session_id, read)
        runner.table.set_epoch(runner.table.slot(session_id), record.epoch)
        return runner

    def _create(self, session_id: str, request: OpenRequest) -> ModelRunner:
        runner = self._versions.find(request.model, request.version)
        wanted_outputs(runner, request.outputs)
        self._registry.check_room(request.owner)
        runner.table.create(session_id, request.owner)
        self._registry.enter(session_id, runner)
        self._expired.forget(session_id)
        return runner

    def _expiry(self, session_id: str, expired_s: float, record: Record | None) -> str:
        if record is not None and record.lost:
            return f"session '{session_id}' was lost {expired_s:.0f} s ago: the snapshot store was damaged"
        limit_s = self._config.idle_ttl_s
        return f"session '{session_id}' expired {expired_s:.0f} s ago: no stream held it for longer than {limit_s:g} s"

    def _check_resume(self, session_id: str, owner: str, runner: ModelRunner, held: bool, request: OpenRequest) -> None:
        check_owner(session_id, owner, request.owner)
        if not request.may_resume:
            raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
        if held and not request.take_over:
            raise AlreadyExists(
                f"a stream holds session '{session_id}'; set take_over to take it over", field="session_id"
            )
        m = runner.manifest
        other_version = request.version and self._versions.successor(m.name, request.version) is not runner
        if request.model not in ("", m.name) or other_version:
            asked = f"{request.model or m.name}:{request.version or m.version}"
            raise FailedPrecondition(f"session '{session_id}' is of model {m.ref}, not {asked}", field="model")
        wanted_outputs(runner, request.outputs)


def owner_of(session_id: str, record: Record) -> str:
    """Owner of a stored session; only a record of an earlier version must be decoded for it."""
    return _decoded(session_id, record).owner if record.label is None else record.label.owner


def _decoded(session_id: str, record: Record) -> Snapshot:
    """Decode a stored session's snapshot; raises FailedPrecondition if it is unusable."""
    try:
        read = snapshot.decode(record.snapshot)
        if record.label not in (None, (read.owner, read.model)):
            raise SnapshotError(f"it is '{read.owner}'s of model '{read.model}', its label in the store differs")
    except SnapshotError as error:
        raise FailedPrecondition(
            f"the snapshot of session '{session_id}' is unusable: {error.text}", field="session_id"
        ) from error
    return read
