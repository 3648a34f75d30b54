"""What a Redis needs to keep sessions, measured on one and counted for more, into the table of `docs/durability.md`.

The records spread over the nodes of a cluster; the order of last use is on one of them, which bounds how far it grows.
`python -m tests.bench.sizing`
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from examples.server import free_port
from statestream.service.cli.console import out
from statestream.service.durability.stores.base import Label, Save
from statestream.service.durability.stores.redis import _USE, _USED, RedisStore
from tests.bench.pages import put
from tests.support.redis_server import RedisServer

SNAPSHOT_BYTES = (500, 4000)
SESSIONS, ROUNDS = 10_000, 10
NODES = (1, 3, 6)
BUSY = 0.5
"""How much of its one core a node should spend, so that it also has time for what is not every day."""


class Needs(NamedTuple):
    """What one session needs of a node."""

    memory_bytes: float
    log_bytes: float
    """A save, in the append-only file and to each replica."""
    save_us: float
    order_us: float
    """Of the CPU, a save, on the node that has the order of last use."""

    def sessions(self, nodes: int, tick_s: float = 1.0) -> float:
        """How many sessions that step all the time fit, by the CPU of the busiest node."""
        return BUSY * tick_s * 1e6 / (self.save_us / nodes + self.order_us)


def cpu_us(client: Any, work: Callable[[], object]) -> float:
    """CPU time of Redis for one session of `work`, which is done for all of them."""

    def used() -> float:
        return float(sum(client.info("cpu")[name] for name in ("used_cpu_user", "used_cpu_sys")))

    found = []
    for _ in range(ROUNDS):
        before = used()
        work()
        found.append((used() - before) / SESSIONS * 1e6)
    return median(found)


def measure(snapshot_bytes: int) -> Needs:
    """Sessions of one size on a Redis of their own."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), free_port())
        server.start()
        try:
            store, client = RedisStore(server.url), server.client()
            ids = [f"robot-{i:06}" for i in range(SESSIONS)]
            saves = [Save(i, 1, 5, True, os.urandom(snapshot_bytes), Label("robots", "wrist")) for i in ids]
            client.config_set("auto-aof-rewrite-percentage", 0)  # its size says what was written
            empty = client.info("memory")["used_memory"]
            store.save("sizing", saves, 60.0)
            memory = client.info("memory")["used_memory"] - empty
            log = client.info("persistence")["aof_current_size"]
            both_us = cpu_us(client, lambda: store.save("sizing", saves, None))
            written = client.info("persistence")["aof_current_size"] - log
            each = iter(ids)
            parts = list(iter(lambda: list(islice(each, 1000)), []))
            order_us = cpu_us(client, lambda: store._send(_USE.on(_USED, *part) for part in parts))
            store.close()
        finally:
            server.stop()
    return Needs(memory / SESSIONS, written / SESSIONS / ROUNDS, both_us - order_us, order_us)


def main() -> None:
    """A row for each size of a snapshot."""
    rows = []
    for size in SNAPSHOT_BYTES:
        needs = measure(size)
        rows.append(
            [
                f"{size} bytes",
                f"{needs.memory_bytes:,.0f} bytes",
                f"{needs.log_bytes:,.0f} bytes",
                f"{needs.save_us:.1f} + {needs.order_us:.1f} µs",
                *(f"{round(needs.sessions(nodes), -3):,.0f}" for nodes in NODES),
            ]
        )
    columns = ["snapshot", "memory", "written a save", "CPU a save", *(f"sessions on {n}" for n in NODES)]
    out.print(put("durability.md", "sizing", columns, rows), highlight=False)


if __name__ == "__main__":
    main()
