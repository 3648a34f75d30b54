"""Ownership: claims sessions in the store, so that each epoch has one owner."""

from __future__ import annotations

import numpy as np

from statestream.service.control.open_request import OpenRequest
from statestream.service.control.placement import Placement
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import Claim, Label, Record
from statestream.service.errors import AlreadyExists, Unavailable
from statestream.service.serving.router import ResultRouter
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason
from statestream.service.sessions import snapshot
from statestream.service.sessions.columns import DETACHED

_TRIES = 5


class Ownership:
    """Claims the sessions of this server in `store`."""

    def __init__(
        self, store: StoreThread, registry: SessionRegistry, placement: Placement, router: ResultRouter
    ) -> None:
        self._store = store
        self._registry = registry
        self._placement = placement
        self._router = router

    async def acquire(self, session_id: str, request: OpenRequest) -> tuple[ModelRunner, int, bool]:
        """Find or create a session and claim it.

        Returns:
            Its model, its new epoch, and whether it existed.

        Raises:
            StatestreamError: see `SessionManager.open`.
        """
        record: Record | None = None
        ours = session_id in self._registry
        fresh = not ours
        if fresh and request.session_id:
            record = await self._store.read(session_id)
        for _ in range(_TRIES):
            runner, resumed = self._placement.find_or_create(session_id, request, record)
            claim = _claim(runner, session_id, record, fresh=fresh)
            try:
                if await (self._store.claim(claim) if ours else self._claim_or_forget(claim)):
                    return runner, claim.epoch, resumed
            except Unavailable:
                if request.session_id:
                    raise
                # No other server can know an id that was just generated.
                return self._placement.find_or_create(session_id, request, None)[0], claim.epoch, False
            record, fresh = await self._store.read(session_id), True
            if ours and record is not None and self._moved(runner, session_id, record):
                await release(self._router, runner, runner.table.slot(session_id), DetachReason.MOVED)
                self._registry.forget(session_id)
                ours = False
        raise Unavailable(
            f"other servers are opening session '{session_id}'; try again", field="session_id", retry_after_s=0.1
        )

    async def claim_restored(self, runner: ModelRunner, session_id: str, record: Record | None) -> None:
        """Claim a session that was just restored from bytes, of which the store had `record`.

        Raises:
            AlreadyExists: another server has the session; it is removed from its table.
        """
        claim = _claim(runner, session_id, record, fresh=True)
        if not await self._claim_or_forget(claim):
            raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
        runner.table.set_epoch(runner.table.slot(session_id), claim.epoch)

    def _moved(self, runner: ModelRunner, session_id: str, record: Record) -> bool:
        """Whether another server has claimed a session after this one did."""
        here = runner.table.epoch[runner.table.slot(session_id)]
        return record.server != self._store.server and record.epoch > int(here)

    async def _claim_or_forget(self, claim: Claim) -> bool:
        """Claim a session that was just put into its table; remove it if the claim fails."""
        granted = False
        try:
            granted = await self._store.claim(claim)
        finally:
            if not granted:
                self._registry.forget(claim.session_id)
        return granted


async def release(router: ResultRouter, runner: ModelRunner, slot: int, why: DetachReason) -> None:
    """Detach the session in `slot`, which its stream is told, and wait for its queued rows."""
    if runner.table.route[slot] != DETACHED:
        router.lost(runner, slot, why)
        runner.table.detach(slot)
    await runner.settled(slot)


def _claim(runner: ModelRunner, session_id: str, record: Record | None, *, fresh: bool) -> Claim:
    """Build the compare-and-set claim. `fresh=False`: the store still holds what this server last wrote."""
    table, slot = runner.table, runner.table.slot(session_id)
    here = int(table.epoch[slot])
    if not fresh:
        return Claim(session_id, here, here + 1)
    stored = 0 if record is None else record.epoch
    epoch = max(here, stored) + 1
    if record is not None and record.expired_s is None:
        return Claim(session_id, stored, epoch)
    taken = table.copy(np.array([slot]))
    data = snapshot.encode(table.layout, taken)[0]
    label = Label(table.owner_of(slot), runner.manifest.name)
    return Claim(session_id, stored, epoch, int(taken.settled_seq[0]), data, label)
