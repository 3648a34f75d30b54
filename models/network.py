"""The whole graph that is trained and served: normalise, advance the cell, read out, restore units.

    F   features          x_BF   raw features, in the units of the recording
    K   outputs           y_BK   log-probabilities, or targets in their own units
    O   cell outputs      dt_B1  elapsed time, seconds; the cell sees d = dt / nominal

Normalisation is inside, so that training and serving cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from statestream.models.cells.base import Cell, State
from statestream.models.spec import StateSpec

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation, one number a channel, from the training split."""

    mean: Sequence[float]
    std: Sequence[float]

    @classmethod
    def none(cls, channels: int) -> Scaling:
        """Leaves values as they are."""
        return cls([0.0] * channels, [1.0] * channels)


@dataclass(frozen=True)
class Facts:
    """What a network must know of its data: enough, with the cell's options, to build it again."""

    task: Task
    features: Sequence[str]
    labels: Sequence[str]
    """Classes, or names of the target columns: one an output."""
    nominal_s: float
    inputs: Scaling
    targets: Scaling
    """Unused (`Scaling.none`) for classification."""
    units: Sequence[str] = field(default=())


class Network(nn.Module):
    """A cell between normalised inputs and a linear readout."""

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, cell: Cell, facts: Facts) -> None:
        super().__init__()
        if cell.input_size != len(facts.features):
            raise ValueError(f"the cell takes {cell.input_size} inputs, the data has {len(facts.features)} features")
        self.cell = cell
        self.facts = facts
        self.readout = nn.Linear(cell.output_size, len(facts.labels))
        self.register_buffer("mean", torch.tensor(facts.inputs.mean))
        self.register_buffer("std", torch.tensor(facts.inputs.std))
        self.register_buffer("target_mean", torch.tensor(facts.targets.mean))
        self.register_buffer("target_std", torch.tensor(facts.targets.std))

    @property
    def states(self) -> tuple[StateSpec, ...]:
        """The recurrent state of one session."""
        return self.cell.states

    def initial_state(self, batch: int) -> State:
        """The state of `batch` new sessions."""
        return self.cell.initial_state(batch)

    def step(self, x_BF: Tensor, state: State, dt_B1: Tensor) -> tuple[Tensor, State]:
        """One sample: `y_BK` and the next state."""
        y_BO, state = self.cell.step(self._normalise(x_BF), state, dt_B1 / self.facts.nominal_s)
        return self._output(self.readout(y_BO)), state

    def unroll(
        self, x_BTF: Tensor, state: State, dt_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """A sequence: `y_BTK` and the state after the last valid row."""
        y_BTO, state = self.cell.unroll(self._normalise(x_BTF), state, dt_BT1 / self.facts.nominal_s, valid_BT)
        return self._output(self.readout(y_BTO)), state

    def _normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def _output(self, z: Tensor) -> Tensor:
        if self.facts.task == "classification":
            return torch.log_softmax(z, dim=-1)
        return z * self.target_std + self.target_mean
