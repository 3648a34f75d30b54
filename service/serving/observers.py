"""Observers of a model's turns: they attach themselves, so that a runner knows none of them."""

from __future__ import annotations

from typing import Protocol

from statestream.models.spec import Tensors
from statestream.service.batching.batcher import Turn
from statestream.service.batching.results import TurnResults
from statestream.service.batching.single_row import SingleResult
from statestream.service.sessions.table import SessionTable


class TurnObserver(Protocol):
    """Sees every turn, before and after its commit."""

    def before(self, turn: Turn, table: SessionTable) -> None:
        """Look at a turn whose results are not in the table yet."""
        ...

    def after(self, turn: Turn, results: TurnResults) -> None:
        """Look at what became of the turn's rows."""
        ...

    def forget(self, slot: int) -> None:
        """The session in `slot` was set back to its initial state."""
        ...


class RowObserver(Protocol):
    """Waits for one row of one session."""

    def sees(self, done: TurnResults | SingleResult, inputs: Tensors) -> bool:
        """Look at a turn and its inputs `[rows, *shape]`; True once there is nothing more to wait for."""
        ...
