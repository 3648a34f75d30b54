"""Reader of a SQLite file's records, page by page past damage.

The format is described at https://www.sqlite.org/fileformat2.html. SQLite itself follows a tree from its root, and
finds nothing below a damaged page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"SQLite format 3\0"
TABLE = 0x0D
"""Type of a page with rows of a table."""
_INDEX_INNER, _INDEX = 0x02, 0x0A
INDEX = frozenset({_INDEX_INNER, _INDEX})
"""Types of pages with entries of an index."""
_USUAL_PAGE_BYTES = 4096
_FILE_HEADER_BYTES = 100
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_WAL_MAGICS = (0x377F0682, 0x377F0683)
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)

Value = int | float | bytes | str | None


class Entry(NamedTuple):
    """One row of a table, or one entry of an index."""

    page: int
    rowid: int | None
    """None: it is an entry of an index."""
    values: list[Value]
    """None also stands for a value that cannot be read."""


class Pages:
    """Pages of a file and its write-ahead log as of the last commit.

    Numbers start at 1.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._log: BinaryIO | None = None
        self._newer: dict[int, int] = {}
        head = self._file.read(_FILE_HEADER_BYTES)
        self.signature = head[: len(MAGIC)]
        """First bytes of the file; MAGIC if it is intact."""
        self.page_bytes = _page_bytes(head)
        self.count = path.stat().st_size // self.page_bytes
        log = Path(f"{path}-wal")
        if log.exists():
            self._log = log.open("rb")
            self._read_log(self._log)
        self.free = frozenset(self._free())
        """Pages that are not in use, whatever they contain."""

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._log is not None:
            self._log.close()

    def read(self, number: int) -> bytes:
        """Read one page; empty if it cannot be read."""
        file, offset = self._file, (number - 1) * self.page_bytes
        if self._log is not None and number in self._newer:
            file, offset = self._log, self._newer[number]
        try:
            file.seek(offset)
            page = file.read(self.page_bytes)
        except OSError:
            return b""
        return page if len(page) == self.page_bytes else b""

    def entries(self, *, of: frozenset[int]) -> Iterator[Entry]:
        """Readable entries of all pages of the given types."""
        for number in range(1, self.count + 1):
            if number in self.free:
                continue
            page = self.read(number)
            head = _FILE_HEADER_BYTES if number == 1 else 0
            if page and page[head] in of:
                yield from self._entries_of(number, page, head)

    def unreadable(self) -> int:
        """Number of used pages that are all zeros or cannot be read."""
        return sum(not self.read(number).strip(b"\0") for number in range(1, self.count + 1) if number not in self.free)

    def _entries_of(self, number: int, page: bytes, head: int) -> Iterator[Entry]:
        kind = page[head]
        cells = int.from_bytes(page[head + 3 : head + 5], "big")
        begin = head + (12 if kind == _INDEX_INNER else 8)
        for at in range(begin, min(begin + 2 * cells, len(page) - 1), 2):
            cell = int.from_bytes(page[at : at + 2], "big")
            try:
                yield self._entry(number, page, cell, kind)
            except (IndexError, ValueError, struct.error):
                continue

    def _entry(self, number: int, page: bytes, at: int, kind: int) -> Entry:
        rowid = None
        size, at = _varint(page, at + 4 if kind == _INDEX_INNER else at)
        if kind == TABLE:
            rowid, at = _varint(page, at)
        return Entry(number, rowid, _record(self._payload(page, at, size, kind)))

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        """Read a cell's payload at `at`, which may continue on overflow pages.

        Returns:
            `size` bytes, or as many as can be read.
        """
        usable = self.page_bytes
        here = usable - 35 if kind == TABLE else (usable - 12) * 64 // 255 - 23
        if size <= here:
            return _exactly(page[at : at + size], size)
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= here else least
        parts, left = [page[at : at + local]], size - local
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while left > 0:
            more = self.read(following) if following else b""
            if not more:
                break
            parts.append(more[4 : 4 + left])
            left -= len(parts[-1])
            following = int.from_bytes(more[:4], "big")
        return b"".join(parts)

    def _read_log(self, log: BinaryIO) -> None:
        """Find the newest committed copy of each page; frames of an earlier log have other salts."""
        header = log.read(_WAL_HEADER_BYTES)
        if len(header) < _WAL_HEADER_BYTES or int.from_bytes(header[:4], "big") not in _WAL_MAGICS:
            return
        self.page_bytes, salts = int.from_bytes(header[8:12], "big"), header[16:24]
        offset, pending = _WAL_HEADER_BYTES, dict[int, int]()
        while len(frame := log.read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES and frame[8:16] == salts:
            pending[int.from_bytes(frame[:4], "big")] = offset + _FRAME_HEADER_BYTES
            offset += _FRAME_HEADER_BYTES + self.page_bytes
            log.seek(offset)
            if count := int.from_bytes(frame[4:8], "big"):
                self._newer |= pending
                self.count, pending = count, {}

    def _free(self) -> Iterator[int]:
        following, seen = int.from_bytes(self.read(1)[32:36], "big"), set[int]()
        while following and following not in seen:
            seen.add(following)
            yield following
            trunk = self.read(following)
            leaves = int.from_bytes(trunk[4:8], "big")
            yield from struct.unpack_from(f">{min(leaves, max(len(trunk) - 8, 0) // 4)}I", trunk, 8) if trunk else ()
            following = int.from_bytes(trunk[:4], "big")


def _page_bytes(head: bytes) -> int:
    size = int.from_bytes(head[16:18], "big") if head.startswith(MAGIC) else _USUAL_PAGE_BYTES
    size = 65536 if size == 1 else size
    return size if size >= 512 and not size & (size - 1) else _USUAL_PAGE_BYTES


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint, of one to nine bytes, at `at`; returns it and where it ends."""
    value = 0
    for end in range(at, at + 8):
        value = value << 7 | data[end] & 0x7F
        if data[end] < 0x80:
            return value, end + 1
    return value << 8 | data[at + 8], at + 9


def _record(data: bytes) -> list[Value]:
    end, at = _varint(data, 0)
    kinds = []
    while at < end:
        kind, at = _varint(data, at)
        kinds.append(kind)
    values: list[Value] = []
    with suppress(IndexError, ValueError, struct.error):
        for kind in kinds:
            value, at = _value(data, at, kind)
            values.append(value)
    return values + [None] * (len(kinds) - len(values))


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    """Read the value of a type at `at`; returns it and where it ends."""
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind == 7:
        return float(struct.unpack_from(">d", data, at)[0]), at + 8
    if kind < len(_INTEGER_BYTES):
        size = _INTEGER_BYTES[kind]
        return int.from_bytes(_exactly(data[at : at + size], size), "big", signed=True), at + size
    if kind < 12:
        raise ValueError(f"type {kind}")
    size = (kind - 12) // 2
    found = _exactly(data[at : at + size], size)
    return (found.decode() if kind % 2 else found), at + size
