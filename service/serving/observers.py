"""Observers of a model's turns; they attach themselves, so a runner imports none of them."""

from __future__ import annotations

from typing import Protocol

from statestream.models.spec import Tensors
from statestream.service.batching.batcher import Turn
from statestream.service.batching.results import TurnResults
from statestream.service.batching.single_row import SingleResult
from statestream.service.sessions.table import SessionTable


class TurnObserver(Protocol):
    """Called with every turn, before and after its commit."""

    def before(self, turn: Turn, table: SessionTable) -> None:
        """Observe a turn whose results are not in the table yet."""
        ...

    def after(self, turn: Turn, results: TurnResults) -> None:
        """Observe a turn's results."""
        ...

    def forget(self, slot: int) -> None:
        """The session in `slot` was reset."""
        ...


class RowObserver(Protocol):
    """Waits for one row of one session."""

    def sees(self, done: TurnResults | SingleResult, inputs: Tensors) -> bool:
        """Observe a turn and its inputs `[rows, *shape]`; true once the row has been seen."""
        ...
