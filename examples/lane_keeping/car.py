"""The car: gymnasium's CarRacing at a speed limit, its camera, and an expert who knows where the centre line runs."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # before pygame is imported: there is no window
from gymnasium.envs.box2d.car_racing import FPS, STATE_W, TRACK_WIDTH, CarRacing

STEP_S = 1 / FPS
"""Seconds of a step of the simulator."""
FRAME = (84, STATE_W)
"""Height and width of what the camera sees: the 12 rows below show gauges, of the steering among others."""
SPEED = 28.0
_OPENING_STEPS = FPS
"""In the first second the simulator's camera comes down from above; the car stands until then."""
_SEEN_M = 80.0
"""No part of what begins further from the car is in the picture."""
_AHEAD = 4
"""Tiles between the car and the point of the centre line that the expert steers to."""
_LEAD_S = 0.1
"""How far ahead of now the expert thinks, so that an answer that comes late still fits."""
_BEHIND, _BEFORE = 5, 10
"""Tiles about the last known one among which the car is looked for."""


class _Circuit(CarRacing):
    """Is drawn only when it is looked at, and only what can be seen: that costs far more than driving."""

    def _render(self, mode: str) -> None:
        return None

    def look(self) -> npt.NDArray[np.uint8]:
        self._from = tuple(self.car.hull.position)
        picture: npt.NDArray[np.uint8] = super()._render("state_pixels")
        return picture

    def _draw_colored_polygon(
        self, surface: Any, poly: Any, color: Any, zoom: float, translation: Any, angle: float, clip: bool = True
    ) -> None:
        if not clip or math.dist(poly[0], self._from) < _SEEN_M:
            super()._draw_colored_polygon(surface, poly, color, zoom, translation, angle, clip)


class Car:
    """A car at the start of a track, which `seed` decides. Its gas and brake keep its speed; the steering is yours."""

    def __init__(self, seed: int) -> None:
        self._circuit = _Circuit()
        self._circuit.reset(seed=seed)
        self._centre = np.array(self._circuit.track)[:, 2:4]
        self._tile = 0
        self.steps = 0
        """Of the simulator, since the start."""
        self.tiles = 0
        """That lie behind the car; fewer again where it turns around."""
        for _ in range(_OPENING_STEPS):
            self._circuit.step(np.array([0.0, 0.0, 1.0]))

    @property
    def time_s(self) -> float:
        return self.steps * STEP_S

    @property
    def position(self) -> npt.NDArray[np.float64]:
        """`[2]` metres, of the middle of the car."""
        return np.array(self._circuit.car.hull.position)

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """`[tiles, 2]` metres, of the middle of the road."""
        return self._centre

    @property
    def around(self) -> bool:
        """Whether a whole lap is done."""
        return self.tiles >= len(self._centre)

    @property
    def off_m(self) -> float:
        """From the middle of the car to that of the nearest tile."""
        return float(np.hypot(*(self.position - self._centre[self._tile])))

    @property
    def off_road(self) -> bool:
        """Whether the middle of the car is beside the road."""
        return self.off_m > TRACK_WIDTH

    def look(self) -> npt.NDArray[np.uint8]:
        """What the camera sees: `[*FRAME, 3]`, red first."""
        return np.ascontiguousarray(self._circuit.look()[: FRAME[0]])

    def step(self, steering: float) -> None:
        """Drive on for `STEP_S`, with the wheel between -1, all the way to the left, and 1."""
        speed = float(self._circuit.car.hull.linearVelocity.length)
        gas, brake = min(max(0.06 * (SPEED - speed), 0.0), 1.0), 0.1 * (speed > SPEED + 3)
        self._circuit.step(np.array([min(max(steering, -1.0), 1.0), gas, brake]))
        self.steps += 1
        self._follow()

    def expert(self) -> float:
        """The steering of someone who sees the centre line and aims at a point of it from where the car soon will be.

        The angle to that point, in radians, is the part of the wheel's whole turn (pure pursuit).
        """
        hull = self._circuit.car.hull
        soon = self.position + _LEAD_S * np.array(hull.linearVelocity)
        heading = hull.angle + math.pi / 2 + _LEAD_S * hull.angularVelocity
        ahead = self._centre[(self._tile + _AHEAD) % len(self._centre)] - soon
        off = math.remainder(heading - math.atan2(ahead[1], ahead[0]), 2 * math.pi)
        return min(max(off, -1.0), 1.0)

    def _follow(self) -> None:
        """Find the nearest tile, among those about the last one."""
        near = self._tile + np.arange(-_BEHIND, _BEFORE + 1)
        off = np.hypot(*(self._centre[near % len(self._centre)] - self.position).T)
        moved = int(off.argmin()) - _BEHIND
        self.tiles += moved
        self._tile = (self._tile + moved) % len(self._centre)
