"""Unanswered messages of a load stream: matched with the answers, for their latencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.protocol.verdict import Verdict

_NAMES = {int(verdict): verdict.name for verdict in Verdict}
_APPLIED = Verdict.APPLIED.name
_UNSETTLED = (int(Verdict.GAP), int(Verdict.BUSY))


class BrokenError(Exception):
    """The stream's sessions have failed.

    The text starts with the status to count.
    """


class Unanswered:
    """Messages sent and not answered, by their number within the stream's sessions."""

    def __init__(self, plan: Plan, window: MeasuredWindow) -> None:
        self.due_ns: dict[int, int] = {}
        """Due time of each message, in order of number."""
        self._rows_left: dict[int, int] = {}
        self._rows, self._chunk = plan.rows, plan.chunk
        self._window = window
        self._last_latency_ns = -1

    def __len__(self) -> int:
        return len(self.due_ns)

    def sent(self, number: int, due_ns: int) -> None:
        """Add a message that was due at `due_ns`."""
        self.due_ns[number] = due_ns
        if self._rows > 1:
            self._rows_left[number] = self._rows

    def give_up(self, others: Iterable[int] = ()) -> None:
        """Count all messages, and those due at `others`, as unanswered, and forget them."""
        for due_ns in (*self.due_ns.values(), *others):
            self._window.unanswered(due_ns)
        self.due_ns.clear()
        self._rows_left.clear()
        self._last_latency_ns = -1

    def applied(self, seqs: Sequence[int], queue_us: int, compute_us: int, batch: int, now_ns: int) -> None:
        """Count the answers of a message whose rows were all APPLIED; see `answers`."""
        self._window.response(now_ns, queue_us, compute_us, batch)
        self._window.verdict(_APPLIED, len(seqs))
        self._settled(seqs, now_ns)

    def answers(self, results: pb.Results, now_ns: int) -> None:
        """Count the answers of a message, which came at `now_ns`.

        Raises:
            BrokenError: a row has no verdict that settles it.
        """
        self._window.response(now_ns, results.queue_us, results.compute_us, results.batch)
        verdicts = Counter(results.verdict)
        for verdict, count in verdicts.items():
            self._window.verdict(_NAMES.get(verdict, str(verdict)), count)
        if not any(verdict in verdicts for verdict in _UNSETTLED):
            self._settled(results.seq, now_ns)
            return
        unsettled = next(verdict for verdict in _UNSETTLED if verdict in results.verdict)
        raise BrokenError(f"{_NAMES[unsettled]}: {results.details[0].text if results.details else ''}")

    def _settled(self, seqs: Sequence[int], now_ns: int) -> None:
        if self._rows == 1:
            for seq in seqs:
                self._answered(seq - 1, now_ns)
            return
        chunk, left = self._chunk, self._rows_left
        numbers = Counter(seqs) if chunk == 1 else Counter((seq - 1) // chunk + 1 for seq in seqs)
        for one_based, count in numbers.items():
            number = one_based - 1
            rest = left.pop(number, 1) - count
            if rest > 0:
                left[number] = rest
            else:
                self._answered(number, now_ns)

    def _answered(self, number: int, now_ns: int) -> None:
        due_ns = self.due_ns.pop(number, None)
        if due_ns is None:
            return
        latency_ns = now_ns - due_ns
        self._window.answered(due_ns, latency_ns, self._last_latency_ns)
        self._last_latency_ns = latency_ns
