"""The plant: MuJoCo's double pendulum on a cart, and an LQR that knows its whole state."""

from __future__ import annotations

from functools import cache
from importlib import resources

import mujoco
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

PHYSICS_S = 0.002
LIMIT_RAD = 0.6
"""An arm that leans further has fallen."""
SENSORS = ("cart", "lower", "upper")
"""Metres, radians, radians between the arms. No velocities: a controller has to see them in what it was told before."""
_KNOCK_STEPS = 400
_KNOCK = 0.15
"""Radians a second, of both arms."""
# What deviations cost: positions, then velocities; and what force costs.
_STATE_COST = np.diag([10.0, 50.0, 50.0, 1.0, 1.0, 1.0])
_FORCE_COST = np.array([[20.0]])


def _model() -> mujoco.MjModel:
    path = resources.files("gymnasium") / "envs/mujoco/assets/inverted_double_pendulum.xml"
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.timestep = PHYSICS_S
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # the one that can be linearised
    return model


class Plant:
    """A double pendulum that starts a little off its balance; `random` decides how, and what knocks it."""

    def __init__(self, random: np.random.Generator, lean_rad: float = 0.08) -> None:
        self._model = _model()
        self._data = mujoco.MjData(self._model)
        self._random = random
        self.steps = 0
        self._data.qpos[:] = random.uniform(-1, 1, 3) * [0.1, lean_rad, lean_rad]
        mujoco.mj_forward(self._model, self._data)

    @property
    def time_s(self) -> float:
        return float(self._data.time)

    @property
    def positions(self) -> Vector:
        """What the sensors say, by `SENSORS`."""
        return self._data.qpos.copy()

    @property
    def state(self) -> Vector:
        """Positions and velocities."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    @property
    def fallen(self) -> bool:
        _, lower, upper = self._data.qpos
        return bool(max(abs(lower), abs(lower + upper)) > LIMIT_RAD)

    def step(self, force: float) -> None:
        """`PHYSICS_S` with a force on the cart, -1 to 1 of what the motor has. Now and then something knocks."""
        self.steps += 1
        if self.steps % _KNOCK_STEPS == 0:
            self._data.qvel[1:] += self._random.normal(0, _KNOCK, 2)
        self._data.ctrl[0] = min(max(force, -1.0), 1.0)
        mujoco.mj_step(self._model, self._data)


@cache
def gain() -> Vector:
    """The LQR's gain `[6]` about the upright: the best force is -gain·state. By iteration of the Riccati equation."""
    model = _model()
    a, b = np.zeros((6, 6)), np.zeros((6, 1))
    mujoco.mjd_transitionFD(model, mujoco.MjData(model), 1e-6, True, a, b, None, None)
    p = _STATE_COST
    for _ in range(20_000):
        k = np.linalg.solve(_FORCE_COST + b.T @ p @ b, b.T @ p @ a)
        p = _STATE_COST + a.T @ p @ (a - b @ k)
    best: Vector = k[0]
    return best


def expert(plant: Plant) -> float:
    """The force with which someone who sees all of the state answers it."""
    return float(np.clip(-gain() @ plant.state, -1, 1))
