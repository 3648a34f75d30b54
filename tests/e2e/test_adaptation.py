"""What a session has learned outlives its server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import torch

from statestream.models.cells.gated import GRU
from statestream.models.data.recordings import Recording
from statestream.models.export.adaptation import AdaptiveNetwork, taught
from statestream.models.export.exporter import export_network
from statestream.models.spec import split_inputs
from statestream.models.training.network import Facts, Network, Scaling
from statestream.service.client import AsyncClient, AsyncSession
from statestream.service.embedded import Embedded
from tests.support.server_process import ServerProcess

WAIT_S = 60.0


def drifting(gain: float, rows: int = 240) -> Recording:
    """Rows whose target is a gain times their sum, which the network was never told."""
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    target = gain * x.sum(axis=1, keepdims=True)
    return Recording("r", np.arange(rows) * 10_000_000, x, target)


async def durable(session: AsyncSession, seq: int) -> None:
    for _ in range(int(WAIT_S / 0.02)):
        if session.durable_seq >= seq:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"durable_seq is {session.durable_seq}, not {seq}")


async def test_a_kill_and_a_resume_keep_what_two_sessions_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    facts = Facts("regression", ["a", "b"], ["y"], 0.01, Scaling.none(2), Scaling.none(1))
    network = AdaptiveNetwork(Network(GRU(2, 6), facts), 0.99).eval()
    recordings = [drifting(1.5), drifting(-2.0)]
    bundle = export_network(network, [taught(r) for r in recordings], tmp_path / "repository", name="learning")
    columns = [split_inputs(bundle.manifest.inputs, taught(r).features) for r in recordings]
    alone = Embedded.open(bundle.path)
    expected = [alone.session().chunk(c, r.t_ns).y for c, r in zip(columns, recordings, strict=True)]
    server = ServerProcess(tmp_path / "repository", "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "0.1")
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}", give_up_after_s=WAIT_S) as client, client.stream() as stream:
            sessions = [await stream.open("learning", session_id=f"robot{k}") for k in range(2)]
            heard = []
            for rows in (slice(0, 120), slice(120, 240)):
                results = await asyncio.gather(
                    *(
                        session.chunk({name: x[rows] for name, x in one.items()}, r.t_ns[rows])
                        for session, one, r in zip(sessions, columns, recordings, strict=True)
                    )
                )
                heard.append([result.y for result in results])
                if rows.start == 0:
                    await asyncio.gather(*(durable(session, 120) for session in sessions))
                    await server.end()
                    await server.start()
    finally:
        await server.end()
    for k, recording in enumerate(recordings):
        y = np.concatenate([part[k] for part in heard])
        np.testing.assert_allclose(y, expected[k], rtol=0, atol=1e-4)
        error = (y - np.asarray(recording.target))[200:]
        assert (error**2).mean() < 0.05 * np.asarray(recording.target).var()
