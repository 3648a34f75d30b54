"""Network that is trained and served: normalise, advance the cell, read out, restore units.

    F   features          x_BF   raw features, in the units of the recording
    K   outputs           y_BK   log-probabilities, or targets in their own units
    O   cell outputs      dt_B1  elapsed time, seconds; the cell gets d = dt / nominal

Normalisation is part of the network, so that training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statestream.models.cells.base import Cell, State
from statestream.models.cells.last_value import Hold
from statestream.models.spec import InputSpec, PictureRange, StateSpec

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each channel, from the training split."""

    mean: Sequence[float]
    std: Sequence[float]

    @classmethod
    def none(cls, channels: int) -> Scaling:
        """Build a scaling that changes nothing."""
        return cls([0.0] * channels, [1.0] * channels)


@dataclass(frozen=True)
class Facts:
    """Facts of the data that a network needs.

    With the cell's options they rebuild it.
    """

    task: Task
    features: Sequence[str]
    labels: Sequence[str]
    """Classes, or names of the target columns, one per output."""
    nominal_s: float
    inputs: Scaling
    targets: Scaling
    """Unused (`Scaling.none`) for classification."""
    units: Sequence[str] = field(default=())
    relative: Sequence[str] = field(default=())
    """Features that are the difference to the row before."""
    picture_range: PictureRange | None = None
    """Values of pictures that are 0 and 255; None: they have 8 bits."""


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
        """Recurrent states of a session."""
        return self.cell.states

    @property
    def parameter_count(self) -> int:
        """Number of parameters that training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a step's input: a row of features, or a picture `[H, W, F]` of uint8."""
        return self.cell.input_shape

    @property
    def holds(self) -> bool:
        """Whether a NaN means that a feature was not measured at this time."""
        return any(isinstance(module, Hold) for module in self.modules())

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Inputs that clients send.

        A step gets them concatenated, in this order, on the last axis.
        """
        shape = self.cell.input_shape
        row = InputSpec(
            name="x",
            shape=shape,
            dtype="float32" if len(shape) == 1 else "uint8",  # Pictures have a camera's type.
            colours=None if len(shape) == 1 else "rgb",
            labels=tuple(self.facts.features),
            units=tuple(self.facts.units),
            nan="not_measured" if self.holds else "invalid",
            relative=tuple(self.facts.relative),
            picture_range=self.facts.picture_range,
        )
        return (row,)

    def initial_state(self, batch: int) -> State:
        """Initial state of `batch` sessions."""
        return self.cell.initial_state(batch)

    def exact(self) -> Network:
        """Copy with the same weights that computes in double precision, without float32 rounding."""
        return deepcopy(self).double()

    def step(self, x_BF: Tensor, state: State, dt_B1: Tensor) -> tuple[Tensor, State]:
        """Advance by one row; returns `y_BK` and the next state."""
        y_BO, state = self.cell.step(self._normalise(x_BF), state, dt_B1 / self.facts.nominal_s)
        return self._read(y_BO), state

    def row_wise(self, x_NF: Tensor, after: State, dt_N1: Tensor) -> tuple[Tensor, State]:
        """Outputs `y_NK` of rows whose states afterwards are known, and a and b of each state (`Cell.row_wise`)."""
        y_NO, moves = self.cell.row_wise(self._normalise(x_NF), after, dt_N1 / self.facts.nominal_s)
        return self._read(y_NO), moves

    @property
    def state_parts(self) -> dict[str, int] | None:
        """See `Cell.state_parts`."""
        return self.cell.state_parts

    def unroll(
        self, x_BTF: Tensor, state: State, dt_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Advance by a sequence.

        Returns `y_BTK` and the state after the last valid row.
        """
        y_BTO, state = self.cell.unroll(self._normalise(x_BTF), state, dt_BT1 / self.facts.nominal_s, valid_BT)
        return self._read(y_BTO), state

    def time_constants(self, x_BF: Tensor, state: State, dt_B1: Tensor) -> Tensor:
        """Time constants of the step from `state`, `[B, n]` seconds, of all liquid cells.

        See `Cell.time_constants`.

        Raises:
            ValueError: no cell of the network has time constants.
        """
        found = self.cell.time_constants(self._normalise(x_BF), state, dt_B1 / self.facts.nominal_s)
        if not found:
            name = type(self.cell).__name__
            raise ValueError(f"aux_tau: a {name} has no time constants; LTC, CfC, LiquidS4 and LrcSSM have")
        return torch.cat(found, dim=-1) * self.facts.nominal_s

    def _normalise(self, x: Tensor) -> Tensor:
        return (self.cell.reduce(x.to(self.mean.dtype)) - self.mean) / self.std

    def _read(self, y: Tensor) -> Tensor:
        weight, bias = self.readout.weight, self.readout.bias
        if self.facts.task == "classification":
            return torch.log_softmax(linear(y, weight, bias), dim=-1)
        # Units are restored in the weights, at no cost per step.
        return linear(y, weight * self.target_std.unsqueeze(-1), bias * self.target_std + self.target_mean)


class Features(Network):
    """A network without a readout: its outputs are those of its last cell."""

    def _read(self, y: Tensor) -> Tensor:
        return y
