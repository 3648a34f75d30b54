"""The interface through which the batcher runs a model."""

from __future__ import annotations

from typing import Protocol

from statestream.models.spec import BoolArray, Float32Array, Tensors


class StepModel(Protocol):
    """Runs a bundle's graphs. State is a value: passed in, and the new state returned."""

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """Advance each session by one step.

        Inputs, states, outputs (aux among them) and new states are `[batch, …]`.
        """
        ...

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Advance each session by several steps: inputs and outputs are `[batch, time, …]`.

        Where `valid_BT` is false, the state passes through unchanged.
        """
        ...
