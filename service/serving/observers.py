"""Turn observers: followers of a model's turns, attached to its runner from outside."""

from __future__ import annotations

from statestream.service.batching.batcher import Outcomes, Turn
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.sessions.table import SessionTable


class TurnObserver:
    """Follows one model's turns on the event loop; see `ModelRunner.attach`.

    An observer overrides the methods that it needs; here they do nothing.
    """

    needs_plans = False
    """Whether it needs `before_commit`. Even a row alone in its turn is then planned as a grid."""

    def before_commit(self, turn: Turn, outcomes: Outcomes, table: SessionTable) -> None:
        """Observe a turn that has run; nothing of it is in the table yet. `after_commit` follows at once."""

    def after_commit(self, results: Results) -> None:
        """Observe a turn's results, which are in the table and delivered."""

    def failed(self, rows: RowBatch) -> None:
        """Observe a turn that failed; the sessions of its rows are unchanged."""

    def reset(self, slot: int) -> None:
        """Observe that the session in `slot`, which has no queued rows, was reset."""
