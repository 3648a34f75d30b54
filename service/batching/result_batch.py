"""Result batch: a turn's results as plain values, the rows of each route together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Int64Array, Tensors

Span = tuple[int, int, int]
"""Number of a route, and start and stop of its rows."""


class Detail(NamedTuple):
    """Explanation of a row's verdict; `resend_from` is the seq to send again from, 0: none."""

    text: str
    resend_from: int = 0


Details = dict[int, Detail]
"""Details by row."""


class Answer(NamedTuple):
    """Result of one row, for protocols that answer rows one by one."""

    channel: int
    verdict: int
    text: str
    """Why the row was rejected; empty if it was not."""
    outputs: Mapping[str, bytes]
    """By name, aux included; empty if the row has no output."""
    queue_us: int
    compute_us: int


class ResultBatch(NamedTuple):
    """Results of a turn, converted once; each stream's message is a slice of it."""

    spans: Iterable[Span]
    channel: Sequence[int]
    seq: Sequence[int]
    verdict: Sequence[int]
    dt_s: Sequence[float]
    epoch: Sequence[int]
    flags: Sequence[int] | None
    """Bits of ResultFlag; None: no row has any."""
    original: Sequence[int] | None
    """For DUPLICATE rows the first verdict; None if there are no such rows."""
    place: Sequence[int]
    """`[rows + 1]` number of outputs before each row."""
    outputs: Tensors
    """`[n, *shape]` by name, of the rows that have an output, in their order."""
    details: Mapping[int, Detail]
    plain: bool
    """Whether every row is APPLIED and has no flag."""
    queue_us: int
    compute_us: int
    batch: int
    """Sessions that the turn advanced."""

    def answer(self, row: int) -> Answer:
        """Result of one row with all its outputs."""
        first, last = self.place[row], self.place[row + 1]
        outputs = {name: y[first:last].tobytes() for name, y in self.outputs.items()} if last > first else {}
        detail = self.details.get(row)
        text = "" if detail is None else detail.text
        return Answer(self.channel[row], self.verdict[row], text, outputs, self.queue_us, self.compute_us)


def by_route(route: Int64Array) -> tuple[Int64Array | slice, Iterable[Span]]:
    """The order of rows that puts each route's together, and their spans in it."""
    first = int(route[0])
    if (route == first).all():
        return slice(None), [(first, 0, len(route))]
    order = np.argsort(route, kind="stable")
    route = route[order]
    starts = np.concatenate([[0], np.flatnonzero(route[1:] != route[:-1]) + 1])
    stops = [*starts[1:].tolist(), len(route)]
    return order, zip(route[starts].tolist(), starts.tolist(), stops, strict=True)
