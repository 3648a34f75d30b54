"""What `make demo` shows, with a small model: killing the server costs no row, half of the rows keep their times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from examples.server import KillableServer
from examples.wrist_exercises import demo
from examples.wrist_exercises.networks import halved, untold
from examples.wrist_exercises.streaming import CLIENTS, stream
from statestream.models.data.recordings import Dataset, Recording
from statestream.service.client import Verdict
from tests.support.bundles import write_leaky

PERIOD_NS = 20_000_000
ROWS = 120


def recordings() -> list[Recording]:
    random = np.random.default_rng(0)
    t_ns = np.arange(ROWS, dtype=np.int64) * PERIOD_NS
    return [
        Recording(f"{k}", t_ns, random.normal(size=(ROWS, 2)).astype(np.float32), np.zeros(ROWS, np.int64))
        for k in range(CLIENTS)
    ]


async def test_a_server_killed_in_the_middle_loses_no_row(tmp_path: Path) -> None:
    write_leaky(tmp_path / "repository")
    server = KillableServer(tmp_path / "repository", "--store", f"sqlite:{tmp_path / 's.db'}", "--store-tick", "0.2")
    pids = []
    start = server.start

    def started() -> None:
        start()
        pids.append(server.pid)

    server.start = started  # type: ignore[method-assign]
    server.start()
    try:
        console = Console(quiet=True)
        played = await stream(server, "leaky", recordings(), "ab", speed=1.0, kill=True, console=console)
    finally:
        server.stop()
    assert len(set(pids)) == 2
    assert demo.lost(played) == 0
    assert sum(len(p.verdict) for p in played) == CLIENTS * ROWS


def test_a_row_without_an_output_counts_as_lost() -> None:
    played = demo.Played(
        recordings()[0], np.zeros((ROWS, 2), np.float32), np.full(ROWS, int(Verdict.APPLIED)), np.zeros(ROWS)
    )
    assert demo.lost([played]) == 0
    played.verdict[3] = Verdict.SKIPPED
    played.output[7] = np.nan
    assert demo.lost([played]) == 2


def test_halved_recordings_keep_their_times_and_untold_ones_have_none() -> None:
    whole = recordings()
    for half, recording in zip(halved(whole), whole, strict=True):
        assert 0.3 * ROWS < len(half) < 0.7 * ROWS
        assert set(half.t_ns) < set(recording.t_ns)
    assert [list(r.t_ns) for r in halved(whole)] == [list(r.t_ns) for r in halved(whole)]
    blind = untold(Dataset(tuple(whole), ("a", "b"), ("x", "y")))
    assert all(not r.t_ns.any() for r in blind.recordings)
