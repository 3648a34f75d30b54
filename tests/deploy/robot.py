"""A client that streams the leaky model and compares each output with the one that numpy computes."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from statestream.service.client import Client, Session, Stream
from statestream.service.errors import Unavailable
from tests.conftest import leak, leaky_manifest

TOLERANCE = 1e-5


def until_serving(client: Client, limit_s: float = 120.0) -> None:
    """Return once the server takes sessions; what it says then is raised."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        with suppress(Unavailable):
            if client.serving():
                return
        time.sleep(0.2)
    client.list_models()


class Robot:
    """One session, stepped with irregular time. Its server may come and go."""

    def __init__(self, stream: Stream) -> None:
        self._session: Session = stream.open("leaky", session_id="robot")
        self._random = np.random.default_rng(0)
        self._h = np.full(2, 0.5, np.float32)
        self._t_ns = 0
        self.rows = 0

    def step(self, rows: int) -> None:
        """Send so many rows, one by one; AssertionError at the first output that strays."""
        for _ in range(rows):
            x = self._random.normal(size=2).astype(np.float32)
            dt_ns = int(self._random.integers(10_000_000, 500_000_000)) if self.rows else 0
            dt_s = dt_ns / 1e9 if self.rows else leaky_manifest().time.nominal_s
            self._t_ns += dt_ns
            self._h = leak(self._h, x, dt_s)
            result = self._session.step(x, timestamp_ns=1 + self._t_ns)
            error = float(np.max(np.abs(result.y - 2 * self._h)))
            assert error <= TOLERANCE, f"row {self.rows} is off by {error:.2g}"
            self.rows += 1
