"""Rows for the leaky model, their outputs, and what a session says of them on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from tests.conftest import leak
from tests.support.wire_client import WireStream, outputs, steps

EXISTING: dict[str, Any] = {"resume": pb.RESUME_MODE_EXISTING, "take_over": True}
RNG = np.random.default_rng(5)
X = RNG.normal(size=(400, 2)).astype(np.float32)
T_NS = (10**9 + np.cumsum(RNG.integers(10**7, 10**8, 400))).tolist()


def rollout(rows: int = 400) -> np.ndarray:
    """`[rows, 2]` outputs of the leaky model over X."""
    h: np.ndarray = np.full(2, 0.5, np.float32)
    y, last = [], None
    for x, t in zip(X[:rows], T_NS, strict=False):
        h = leak(h, x, 0.1 if last is None else (t - last) * 1e-9)
        last = t
        y.append(2 * h)
    return np.array(y)


def rows(first: int, last: int, flags: int = 0, channel: int = 1) -> pb.StreamRequest:
    """The rows from seq `first` to `last`."""
    n = last - first + 1
    part = slice(first - 1, last)
    return steps([channel] * n, range(first, last + 1), X[part], T_NS[part], [flags] * n if flags else ())


async def hear(stream: WireStream, heard: dict[int, np.ndarray], until_seq: int) -> None:
    """Read results until that of `until_seq`; each output is the rollout's."""
    expected = rollout()
    while until_seq not in heard:
        take(await stream.receive(), heard)
    for seq, y in heard.items():
        np.testing.assert_allclose(y, expected[seq - 1], rtol=1e-5, atol=1e-5)


def take(response: pb.StreamResponse, heard: dict[int, np.ndarray]) -> None:
    if response.results.seq:
        assert set(response.results.verdict) == {pb.VERDICT_APPLIED}
        assert not set(response.results.seq) & heard.keys(), "each output once"
        heard |= dict(zip(response.results.seq, outputs(response), strict=True))


async def opening(stream: WireStream, session_id: str, channel: int = 1, **more: Any) -> pb.StreamResponse:
    """The answer to an Open, whatever else comes before it."""
    response = await stream.open(channel, session_id, **more)
    while not (response.opened or response.failed):
        response = await stream.receive()
    return response


async def durable(stream: WireStream, seq: int) -> pb.Progress:
    """Read until the store has `seq`."""
    while True:
        progress = (await stream.receive()).progress
        if seq in progress.durable_seq:
            return progress
