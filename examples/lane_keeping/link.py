"""The way from camera to wheel: commands act late, some frames never arrive."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from examples.lane_keeping.car import STEP_S, Car

FRAME_STEPS = 2
"""Steps of the simulator between frames: 25 frames a second."""
MOST_OFF_S = 1.0
"""Who is beside the road for longer has not kept to it."""
MOST_S = 60.0
"""A lap takes 33 to 39 s."""


class Link(NamedTuple):
    """What the network does to frames and commands."""

    delay_s: float = 0.0
    """Mean time from frame to command, beside what the service takes."""
    jitter_s: float = 0.0
    """Most by which it is shorter or longer."""
    dropped: float = 0.0
    """Part of the frames that never arrive."""


STEADY = Link()
POOR = Link(delay_s=0.050, jitter_s=0.030, dropped=0.05)

Driver = Callable[[Car], tuple[float, float]]
"""Looks at a car; says how to steer, and how many seconds that answer took."""


class Lap(NamedTuple):
    """How one lap went."""

    whole: bool
    """All around, and never beside the road for more than `MOST_OFF_S`."""
    lap_s: float
    """Until it was over, one way or the other."""
    off_road_s: float
    """The longest time beside the road."""


def steps_of(seconds: float) -> int:
    """Steps of the simulator until an answer is there that takes so long; what is begun counts."""
    return math.ceil(round(seconds / STEP_S, 9))


def lap(
    car: Car,
    driver: Driver,
    link: Link,
    random: np.random.Generator,
    *,
    most_s: float = MOST_S,
    pushed: Callable[[], float] = lambda: 0.0,
) -> Lap:
    """Drive until the lap is done, lost, or takes too long. Commands act in order, each when it has arrived.

    Args:
        random: decides what happens on the link.
        pushed: what is added to the steering, anew for each frame.
    """
    arriving: deque[tuple[int, float]] = deque()
    steering = off = 0.0
    arrival = beside = longest = 0
    while not car.around and car.time_s < most_s and beside <= steps_of(MOST_OFF_S):
        if car.steps % FRAME_STEPS == 0:
            off = pushed()
            late_s = link.delay_s + random.uniform(-link.jitter_s, link.jitter_s)
            if random.random() >= link.dropped:
                command, took_s = driver(car)
                arrival = max(arrival, car.steps + steps_of(took_s + late_s))
                arriving.append((arrival, command))
        while arriving and arriving[0][0] <= car.steps:
            steering = arriving.popleft()[1]
        car.step(steering + off)
        beside = beside + 1 if car.off_road else 0
        longest = max(longest, beside)
    return Lap(car.around and longest <= steps_of(MOST_OFF_S), car.time_s, longest * STEP_S)
