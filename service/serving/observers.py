"""Observers of a model's turns; they attach themselves, so a runner imports none of them."""

from __future__ import annotations

from typing import Protocol

from statestream.service.batching.batcher import Turn
from statestream.service.batching.results import Results, TurnResults
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

    def sees(self, done: Results) -> bool:
        """Observe a turn; true once the row has been seen."""
        ...
