"""A store in a dictionary, by the words of `stores.base`: what others are held against, and what fails on command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from statestream.service.durability.stores.base import ABSENT, FENCED, Claim, Damage, Durability, Label, Record, Save


@dataclass(frozen=True)
class Entry:
    epoch: int
    server: str
    held: bool
    settled_seq: int
    used_s: float
    snapshot: bytes
    label: Label | None = None
    expired_s: float | None = None


class MemoryStore:
    """A `base.Store`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.entries: dict[str, Entry] = {}
        self.alive_until_s: dict[str, float] = {}
        self.broken: Exception | None = None
        """What every method raises."""
        self.found_damage: Damage | None = None
        """What `damage` says next."""
        self.calls: list[str] = []
        self.threads: set[int] = set()
        """Which threads called it."""

    def open(self) -> Durability:
        self._called("open")
        return Durability.POWER

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        self._called("read")
        return [self._record(self.entries.get(i)) for i in session_ids]

    def _record(self, e: Entry | None) -> Record | None:
        if e is None:
            return None
        now_s = self.clock()
        alive = self.alive_until_s.get(e.server, 0) > now_s
        expired_s = None if e.expired_s is None else now_s - e.expired_s
        return Record(e.epoch, e.server, e.held and alive, e.held and not alive, expired_s, e.snapshot, label=e.label)

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        self._called("claim")
        return [self._claim(server, c) for c in claims]

    def _claim(self, server: str, c: Claim) -> bool:
        e = self.entries.get(c.session_id)
        if (0 if e is None else e.epoch) != c.expected or (e is None and not c.snapshot):
            return False
        if c.snapshot:
            self.entries[c.session_id] = Entry(c.epoch, server, True, c.settled_seq, self.clock(), c.snapshot, c.label)
        elif e is not None:
            self.entries[c.session_id] = replace(e, epoch=c.epoch, server=server, held=True, used_s=self.clock())
        return True

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        self._called("save")
        if alive_s is not None:
            self.alive_until_s[server] = self.clock() + alive_s
        return [self._save(server, s) for s in saves]

    def _save(self, server: str, s: Save) -> int:
        e = self.entries.get(s.session_id)
        if e is not None and e.epoch >= s.epoch and e.server != server:
            return FENCED
        epoch = s.epoch if e is None else max(e.epoch, s.epoch)
        self.entries[s.session_id] = Entry(epoch, server, s.held, s.settled_seq, self.clock(), s.snapshot, s.label)
        return ABSENT if e is None else e.settled_seq

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        self._called("end")
        for session_id, epoch in ends:
            if session_id in self.entries and self.entries[session_id].epoch <= epoch:
                del self.entries[session_id]

    def expire(self, ttl_s: float, keep_s: float) -> int:
        self._called("expire")
        now_s, n = self.clock(), 0
        for session_id, e in list(self.entries.items()):
            record = self._record(e)
            if e.expired_s is None and e.used_s < now_s - ttl_s and record is not None and not record.held:
                self.entries[session_id] = replace(e, expired_s=now_s, snapshot=b"", label=None)
                n += 1
        return n

    def count(self) -> int:
        self._called("count")
        return sum(e.expired_s is None for e in self.entries.values())

    def damage(self) -> Damage | None:
        found, self.found_damage = self.found_damage, None
        return found

    def close(self) -> None:
        pass

    def _called(self, what: str) -> None:
        self.calls.append(what)
        self.threads.add(threading.get_ident())
        if self.broken is not None:
            raise self.broken


def alike(store: object, model: MemoryStore, operations: list[tuple[str, tuple[object, ...]]]) -> None:
    """Both give the same answers to the same operations."""
    for name, arguments in operations:
        got, expected = getattr(store, name)(*arguments), getattr(model, name)(*arguments)
        if name == "read":
            got, expected = (
                [r and r._replace(expired_s=None if r.expired_s is None else 0.0) for r in records]
                for records in (got, expected)
            )
        assert got == expected, (name, arguments)
