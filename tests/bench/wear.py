"""What snapshots write to a disk in a day, into the table of `docs/durability.md`.

Counted is what SQLite hands to the file system (`wchar` of /proc/self/io): the write-ahead log, and each page once more
when the log is folded into the file. `python -m tests.bench.wear`
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from statestream.service.cli.console import out
from statestream.service.durability.stores.base import Label, Save
from statestream.service.durability.stores.sqlite import SqliteStore
from tests.bench.pages import put

SESSIONS = (1, 10, 100, 1000)
SNAPSHOT_BYTES = (500, 4000)
TICKS = 200
DAY_S = 86_400


def written() -> int:
    """Bytes that this process has written so far."""
    return int(re.findall(r"wchar: (\d+)", Path("/proc/self/io").read_text())[0])


def bytes_a_tick(sessions: int, snapshot_bytes: int) -> float:
    """Of sessions that all change between two ticks."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(f"{folder}/s.db")
        begin = 0
        for tick in range(-20, TICKS):
            if tick == 0:
                begin = written()
            snapshots = [os.urandom(snapshot_bytes) for _ in range(sessions)]
            store.save(
                "wear",
                [Save(f"session-{i}", 1, tick, True, s, Label("robots", "wrist")) for i, s in enumerate(snapshots)],
                6.0 if tick % 2 else None,
            )
        store.close()
        return (written() - begin) / TICKS


def main() -> None:
    """Rows by sessions, columns by the size of a snapshot."""
    sizes = [f"{size} bytes" for size in SNAPSHOT_BYTES]
    rows = [
        [f"{sessions:,}", *(f"{bytes_a_tick(sessions, size) * DAY_S / 1e9:.3g} GB" for size in SNAPSHOT_BYTES)]
        for sessions in SESSIONS
    ]
    out.print(put("durability.md", "wear", ["sessions that step", *sizes], rows), highlight=False)


if __name__ == "__main__":
    main()
