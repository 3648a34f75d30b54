"""The way from sensor to controller: packets that come off their beat, or not at all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from examples.balance.plant import PHYSICS_S

PERIOD_S = 0.01


class Link(NamedTuple):
    """How a link treats packets that are sent at 100 Hz."""

    jitter_s: float = 0.0
    """Most by which a packet is measured early or late."""
    dropped: float = 0.0
    """Part of the packets that never come."""

    def steps(self, seconds: float, random: np.random.Generator) -> list[int]:
        """The physics steps at which packets are measured that come, in order."""
        beat_s = np.arange(PERIOD_S, seconds, PERIOD_S)
        measured_s = beat_s + random.uniform(-self.jitter_s, self.jitter_s, beat_s.size)
        kept = random.random(beat_s.size) >= self.dropped
        steps: list[int] = np.unique(np.rint(measured_s[kept] / PHYSICS_S).astype(int)).tolist()
        return steps


STEADY = Link()
POOR = Link(jitter_s=0.004, dropped=0.3)
BAD = Link(jitter_s=0.004, dropped=0.5)
