"""The interfaces through which the batcher and the checks at load run a model."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from statestream.models.spec import Array, BoolArray, Float32Array, Manifest, Tensors


class TurnLimits(NamedTuple):
    """Limits of a turn."""

    max_batch: int
    """Sessions in a turn."""
    turn_steps: int
    """Rows of one session in a turn."""
    credit_rows: int
    """Rows of one session that may wait."""
    max_unacked: int
    """Settled rows of one session that may be unacknowledged."""


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


class BundleModel(StepModel, Protocol):
    """A step model that knows its manifest."""

    @property
    def manifest(self) -> Manifest: ...

    def initial(self, batch: int) -> dict[str, Array]:
        """Initial states, `[batch, *shape]` by name."""
        ...
