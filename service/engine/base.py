"""What the batcher and the checks at load need of an engine."""

from __future__ import annotations

from typing import Protocol

from statestream.models.spec import Array, BoolArray, Float32Array, Manifest, Tensors


class StepModel(Protocol):
    """What runs a bundle's graphs. State is a value: it goes in, and the new one comes out."""

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """One step of each session: tensors `[batch, …]` to outputs (aux among them) and new states, `[batch, …]`."""
        ...

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Several steps of each session: inputs and outputs `[batch, time, …]`; state passes where not `valid`."""
        ...


class BundleModel(StepModel, Protocol):
    """A step model that knows its manifest."""

    @property
    def manifest(self) -> Manifest: ...

    def initial(self, batch: int) -> dict[str, Array]:
        """Initial states, `[batch, *shape]` by name."""
        ...
