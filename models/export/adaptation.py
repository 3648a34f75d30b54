"""Adaptive network: its readout keeps learning after deployment, in every session on its own.

    F, K     features, outputs            target_BK        true value of the output of the row before
    x_BF     [x, target, target_mask]     target_mask_B1   whether it is known by now

It learns a correction of the readout from the cell's outputs and the standardised row (`cells.least_squares`). The
correction's weights and covariance are states like any other: snapshots, resuming and moving a session include them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from statestream.models.cells.base import State
from statestream.models.cells.least_squares import LeastSquares
from statestream.models.data.recordings import Recording
from statestream.models.spec import InputSpec, StateSpec
from statestream.models.training.network import Network

PREFIX = "readout_"
SLOWEST = 0.995
"""Largest forgetting factor. Above it the covariance spans more than float32 resolves: over 4,000 rows of an IMU two
runtimes were 1e-5 of a standard deviation apart at 0.99, and 5e-3 at 0.998."""
ADAPTIVE_TOLERANCE = 1e-4
"""Tolerance of a graph against PyTorch; the learned weights accumulate the rounding of all rows."""


class AdaptiveNetwork(Network):
    """A network with a readout correction that each session learns.

    Shares `network`'s weights.

    Args:
        forgetting: λ of `cells.least_squares`, 0.9 to `SLOWEST`: it follows changes within about 1/(1 − λ) rows.

    Raises:
        ValueError: the network has no linear readout of rows to correct, or `forgetting` is out of range.
    """

    def __init__(self, network: Network, forgetting: float) -> None:
        facts = network.facts
        if facts.task != "regression" or len(network.input_shape) > 1:
            raise ValueError(
                f"adaptation needs regression from rows of numbers; the network's task is '{facts.task}', its input "
                f"{list(network.input_shape)}"
            )
        if not 0.9 <= forgetting <= SLOWEST:
            raise ValueError(f"forgetting: {forgetting}, expected 0.9 to {SLOWEST}")
        super().__init__(network.cell, facts)
        self.readout = network.readout
        self.sizes = [len(facts.features), len(facts.labels), 1]
        # A row with NaN cannot be an input of the correction; the cell's outputs can.
        row = 0 if self.holds else len(facts.features)
        self.learner = LeastSquares(network.cell.output_size + row, len(facts.labels), forgetting)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        labels = tuple(self.facts.labels)
        target = InputSpec(name="target", shape=(len(labels),), labels=labels, nan="not_measured")
        return *super().inputs, target, InputSpec(name="target_mask", shape=(1,), dtype="bool")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (sum(self.sizes),)

    @property
    def states(self) -> tuple[StateSpec, ...]:
        own = (spec.model_copy(update={"name": PREFIX + spec.name}) for spec in self.learner.states)
        return *super().states, *own

    def initial_state(self, batch: int) -> State:
        return super().initial_state(batch) | _prefixed(self.learner.initial_state(batch))

    def step(self, x_BF: Tensor, state: State, dt_B1: Tensor) -> tuple[Tensor, State]:
        z_BF, target_BK = self._split(x_BF)
        d_B1 = dt_B1 / self.facts.nominal_s
        y_BO, after = self.cell.step(z_BF, state, d_B1)
        corrected_BK, own = self.learner.step(self._evidence(y_BO, z_BF, target_BK), self._own(state), d_B1)
        return self._restore(corrected_BK), after | _prefixed(own)

    @property
    def state_parts(self) -> None:
        return None

    def unroll(
        self, x_BTF: Tensor, state: State, dt_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        z_BTF, target_BTK = self._split(x_BTF)
        d_BT1 = dt_BT1 / self.facts.nominal_s
        y_BTO, after = self.cell.unroll(z_BTF, state, d_BT1, valid_BT)
        evidence = self._evidence(y_BTO, z_BTF, target_BTK)
        corrected_BTK, own = self.learner.unroll(evidence, self._own(state), d_BT1, valid_BT)
        return self._restore(corrected_BTK), after | _prefixed(own)

    def time_constants(self, x_BF: Tensor, state: State, dt_B1: Tensor) -> Tensor:
        return super().time_constants(torch.split(x_BF, self.sizes, dim=-1)[0], state, dt_B1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split into the standardised row and the standardised target, NaN where unknown."""
        row, target, mask = torch.split(x, self.sizes, dim=-1)
        return self._normalise(row), torch.where(mask > 0, (target - self.target_mean) / self.target_std, torch.nan)

    def _evidence(self, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        predicted = linear(y, self.readout.weight, self.readout.bias)
        return torch.cat([y, *(() if self.holds else (z,)), predicted, target], dim=-1)

    def _own(self, state: State) -> State:
        return {spec.name: state[PREFIX + spec.name] for spec in self.learner.states}

    def _restore(self, y: Tensor) -> Tensor:
        return y * self.target_std + self.target_mean


def taught(recording: Recording) -> Recording:
    """Append to each row the target of the row before and its mask, as an adaptive network's input."""
    known = np.arange(len(recording)) > 0
    target_TK = np.roll(np.asarray(recording.target, np.float32), 1, axis=0)
    mask_T1 = known[:, None].astype(np.float32)
    return replace(recording, features=np.concatenate([recording.features, target_TK, mask_T1], axis=1))


def _prefixed(state: State) -> State:
    return {PREFIX + name: value for name, value in state.items()}
