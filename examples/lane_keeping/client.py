"""The driver who is a network behind the service: a JPEG goes out, a command comes back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from examples.lane_keeping.car import Car
from examples.lane_keeping.link import Lap, Link, lap
from statestream.models import jpeg
from statestream.service.client import Policy, connect

POLICY = Policy(keep_last=1)
"""Of frames that wait, a car wants to hear about the newest alone."""


class Frame(NamedTuple):
    """A frame that the service answered."""

    t_ns: int
    jpeg: bytes
    steering: float
    expert: float
    x: float
    y: float


class Drive(NamedTuple):
    """A lap, and the frames on the way."""

    lap: Lap
    frames: list[Frame]


def drive(address: str, model: str, link: Link, seed: int, most_s: float, *, blind: bool) -> Drive:
    """One lap through the service, in a session of its own.

    Args:
        seed: decides the track, and what happens on the link.
        most_s: see `lap`.
        blind: send no timestamps: every frame is taken to be the nominal period after the one before.
    """
    frames: list[Frame] = []
    with connect(address) as client, client.stream() as stream, stream.open(model, policy=POLICY) as session:

        def driver(car: Car) -> tuple[float, float]:
            picture, t_ns = jpeg.encode(car.look()), round(car.time_s * 1e9)
            result = session.step(picture, None if blind else t_ns)
            frames.append(Frame(t_ns, picture, float(result.y[0]), car.expert(), *car.position))
            return frames[-1].steering, result.latency_s

        found = lap(Car(seed), driver, link, np.random.default_rng(seed), most_s=most_s)
        session.close(end_session=True)
    return Drive(found, frames)


def by_expert(link: Link, seed: int, most_s: float) -> Drive:
    """One lap of the expert, whom nothing but the link holds up, and whom nobody films."""
    found = lap(Car(seed), lambda car: (car.expert(), 0.0), link, np.random.default_rng(seed), most_s=most_s)
    return Drive(found, [])
