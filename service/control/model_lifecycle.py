"""Model lifecycle: loads, shadows, promotes, rolls back and unloads versions while streams run.

A version becomes active only if its bundle reproduces its golden recording. Sessions move between turns: state, last
timestamp, unacknowledged results and queued rows move with them, and their streams continue without interruption.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Manifest, Tensors
from statestream.service.control.host import Host
from statestream.service.errors import AlreadyExists, FailedPrecondition
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.serving.compatibility import check_same_interface, check_same_state
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.shadow import Shadow, drop_shadow, shadow_of

log = logging.getLogger(__name__)

_AT_ONCE = 1000
"""Sessions moved at a time; moving more would delay others."""
_POLL_S = 0.2


class VersionChange(NamedTuple):
    """Result of a change of versions."""

    manifest: Manifest
    """The version in question: active now, or the shadow."""
    moved: int = 0
    """Sessions moved to it."""
    stayed: int = 0
    """Sessions that stay on their version until they are closed."""


class ModelLifecycle:
    """Changes of the versions that a host serves, one at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._versions = host.versions
        self._changing = asyncio.Lock()

    async def load(self, name: str, version: int = 0, policy: UpgradePolicy = UpgradePolicy.PIN) -> VersionChange:
        """Load a version of the repository (0: its newest), and make it active, or the shadow.

        Raises:
            NotFound: the repository has no such model or version, or a shadow would have no active version.
            AlreadyExists: it is active; or it is loaded and cannot be a shadow.
            FailedPrecondition: its bundle is refused, or sessions cannot continue on it. Nothing has changed.
        """
        async with self._changing:
            if policy is UpgradePolicy.SHADOW:
                return await self._shadow(name, version)
            new, fresh = await self._loaded(name, version)
            if new is self._versions.active(name) and not fresh:
                raise AlreadyExists(f"{new.manifest.ref} is active", field="version")
            others = [runner for runner in self._versions.of(name) if runner is not new]
            if policy is UpgradePolicy.PIN:
                self._versions.activate(new)
                return VersionChange(new.manifest, stayed=sum(len(old.table) for old in others))
            # The active version may have sessions that are only in the store.
            others = [old for old in others if len(old.table) or old is self._versions.active(name)]
            try:
                for old in others:
                    check_same_state(old.manifest, new.manifest)
            except FailedPrecondition:
                if fresh:
                    self._versions.remove(new)
                raise
            self._versions.activate(new)
            return VersionChange(new.manifest, moved=sum([await self._carry(old, new) for old in others]))

    async def promote(self, name: str) -> VersionChange:
        """Make the shadow active and move the sessions it has seen.

        They keep their states if both versions have the same state schema, otherwise they get the shadow's. In that
        case, sessions that the shadow has not seen stay on their version.

        Raises:
            NotFound: no such model.
            FailedPrecondition: the active version has no shadow.
        """
        async with self._changing:
            old = self._versions.find(name)
            await old.rest()
            if (shadow := shadow_of(old)) is None:
                raise FailedPrecondition(f"no version follows {old.manifest.ref}", field="name")
            new = self._host.models.add(shadow.bundle, shadow.engine)
            self._versions.activate(new)
            if shadow.same_states:
                return VersionChange(new.manifest, moved=await self._carry(old, new))
            moved = self._adopt(old, new, shadow)
            await self._store()
            return VersionChange(new.manifest, moved, stayed=len(old.table))

    async def rollback(self, name: str) -> VersionChange:
        """Make the previously active version active again. Sessions move to it if they can.

        The version that was active takes no new sessions, and is unloaded if it has none.

        Raises:
            NotFound: no such model.
            FailedPrecondition: no version was active before, or it is unloaded.
        """
        async with self._changing:
            old, new = self._versions.find(name), self._versions.before(name)
            if new is None:
                raise FailedPrecondition(f"there is no version before {old.manifest.ref} here", field="name")
            self._versions.activate(new)
            self._versions.retire(old)
            moved = 0
            try:
                check_same_state(old.manifest, new.manifest)
            except FailedPrecondition as error:
                log.warning("sessions of %s stay with it: %s", old.manifest.ref, error.text)
            else:
                moved = await self._carry(old, new)
            stayed = len(old.table)
            if not stayed:
                self._versions.remove(old)
            return VersionChange(new.manifest, moved, stayed)

    async def unload(self, name: str, version: int, policy: UnloadPolicy = UnloadPolicy.REFUSE) -> None:
        """Stop serving a version (0: the active one), or drop the shadow.

        If it was active, the version before it is active again. If a wait is cancelled, the version keeps its sessions
        and takes no new ones.

        Raises:
            NotFound: it is not loaded.
            FailedPrecondition: it has sessions and the policy is REFUSE, or they cannot be moved.
        """
        async with self._changing:
            active = self._versions.active(name)
            shadow = None if active is None else shadow_of(active)
            if active is not None and shadow is not None and shadow.manifest.version == version:
                drop_shadow(active)
                return
            runner = self._versions.get(name, version) or self._versions.find(name, version)
            if policy is UnloadPolicy.REFUSE and len(runner.table):
                raise FailedPrecondition(
                    f"{runner.manifest.ref} has {len(runner.table)} sessions; close, wait for or move them first",
                    field="version",
                )
            if policy is UnloadPolicy.MOVE and len(runner.table):
                successor = self._versions.before(name) if runner is active else active
                if successor is None:
                    raise FailedPrecondition(f"no other version of '{name}' to move the sessions to", field="version")
                check_same_state(runner.manifest, successor.manifest)
                if successor is not active:
                    self._versions.activate(successor)
                self._versions.retire(runner)
                await self._carry(runner, successor)
            self._versions.retire(runner)
        # Polling: sessions end in many places, which need not know of this.
        while len(runner.table):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        if self._versions.get(name, runner.manifest.version) is runner:
            self._versions.remove(runner)

    async def _loaded(self, name: str, version: int) -> tuple[ModelRunner, bool]:
        """The version, and whether it was loaded by this call."""
        if (runner := self._versions.get(name, version)) is not None:
            return runner, False
        bundle, engine = await asyncio.to_thread(self._host.repository.load, name, version)
        if (runner := self._versions.get(name, bundle.manifest.version)) is not None:
            return runner, False
        return self._host.models.add(bundle, engine), True

    async def _shadow(self, name: str, version: int) -> VersionChange:
        active = self._versions.find(name)
        bundle, engine = await asyncio.to_thread(self._host.repository.load, name, version)
        if self._versions.get(name, bundle.manifest.version) is not None:
            raise AlreadyExists(f"{bundle.manifest.ref} is loaded; unload it first", field="version")
        check_same_interface(active.manifest, bundle.manifest)
        drop_shadow(active)
        active.attach(Shadow(bundle, engine, active))
        log.info("%s follows %s", bundle.manifest.ref, active.manifest.ref)
        return VersionChange(bundle.manifest, stayed=len(active.table))

    async def _carry(self, old: ModelRunner, new: ModelRunner) -> int:
        """Move every session of `old` to `new`; returns how many.

        Those that are being opened or ended follow as soon as that is done.
        """
        locks = self._host.session_manager.locks
        self._versions.redirect(old, new)
        ids, busy, moved = old.table.ids, list[str](), 0
        for start in range(0, len(ids), _AT_ONCE):
            await old.rest()
            present = [session_id for session_id in ids[start : start + _AT_ONCE] if session_id in old.table]
            free = [session_id for session_id in present if not locks.held(session_id)]
            busy += [session_id for session_id in present if locks.held(session_id)]
            self._move(free, old, new)
            moved += len(free)
            await asyncio.sleep(0)
        for session_id in busy:
            async with locks.hold(session_id):
                await old.rest()
                if session_id in old.table:
                    self._move([session_id], old, new)
                    moved += 1
        await self._store()
        log.info("%d sessions went from %s to %s", moved, old.manifest.ref, new.manifest.ref)
        return moved

    def _adopt(self, old: ModelRunner, new: ModelRunner, shadow: Shadow) -> int:
        """Move sessions the shadow has seen to `new`, with its states; returns how many.

        They move all at once, as the shadow no longer repeats turns.
        """
        locks = self._host.session_manager.locks
        free = [session_id for session_id in old.table.ids if not locks.held(session_id)]
        slots = np.array([old.table.slot(session_id) for session_id in free], np.int64)
        known = np.flatnonzero(shadow.knows(slots, old.table))
        self._move([free[i] for i in known.tolist()], old, new, shadow.states(slots[known]))
        return len(known)

    def _move(self, ids: Sequence[str], old: ModelRunner, new: ModelRunner, states: Tensors | None = None) -> None:
        """Move sessions, and tell their streams where they are; see `Placement.move`."""
        self._host.router.moved(new, self._host.placement.move(ids, old, new, states))

    async def _store(self) -> None:
        """Store at once which version the sessions are on."""
        if self._host.persistence is not None:
            await self._host.persistence.commit()
