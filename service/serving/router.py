"""Result router: sends results and news of sessions to the streams that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from statestream.models.spec import Int64Array
from statestream.service.batching.result_batch import by_route
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.errors import Internal
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason, ResultSink, SessionSubscriber
from statestream.service.sessions.columns import DETACHED


@dataclass(frozen=True, slots=True)
class Route:
    """Destination of results: a stream, and the outputs it wants."""

    subscriber: SessionSubscriber
    outputs: tuple[str, ...]


class ResultRouter:
    """Routes by number; a table's column `route` says which one a session has."""

    sink: ResultSink | None = None
    """Is offered every turn first."""

    def __init__(self) -> None:
        self._routes: dict[int, Route] = {}
        self._next_route = count()

    def __len__(self) -> int:
        return len(self._routes)

    def route(self, subscriber: SessionSubscriber, outputs: tuple[str, ...]) -> int:
        """Number of the route to a stream for these outputs."""
        for number, route in self._routes.items():
            if route.subscriber is subscriber and route.outputs == outputs:
                return number
        number = next(self._next_route)
        self._routes[number] = Route(subscriber, outputs)
        return number

    def leave(self, subscriber: SessionSubscriber) -> None:
        """Remove the routes of a stream that has ended."""
        self._routes = {number: kept for number, kept in self._routes.items() if kept.subscriber is not subscriber}

    # Turns

    def deliver(self, runner: ModelRunner, results: Results) -> None:
        """Send the results of a turn to each stream that has rows in it."""
        if self.sink is not None and self.sink.deliver(runner, results):
            return
        turn = results.by_route()
        for number, start, stop in turn.spans:
            if (route := self._routes.get(number)) is not None:
                route.subscriber.deliver(runner, turn, start, stop, route.outputs)

    def failed(self, runner: ModelRunner, rows: RowBatch, error: Internal) -> None:
        """Report rows that could not run."""
        slots, counts = np.unique(rows.slot, return_counts=True)
        for slot, waiting in zip(slots.tolist(), counts.tolist(), strict=True):
            if (subscriber := self._subscriber(runner, slot)) is not None:
                subscriber.failed(int(runner.table.channel[slot]), waiting, runner.row_bytes, error)

    # Sessions

    def lost(self, runner: ModelRunner, slot: int, reason: DetachReason) -> None:
        """Report that a session is about to be detached from its stream."""
        if (subscriber := self._subscriber(runner, slot)) is not None:
            subscriber.lost(int(runner.table.channel[slot]), reason, runner.waiting(slot), runner.row_bytes)

    def moved(self, runner: ModelRunner, slots: Int64Array) -> None:
        """Report that sessions are in these slots of another version now."""
        for slot in slots.tolist():
            if (subscriber := self._subscriber(runner, slot)) is not None:
                subscriber.moved(int(runner.table.channel[slot]), runner, slot)

    def reset(self, runner: ModelRunner, slot: int) -> None:
        """Report that a session was reset."""
        if (subscriber := self._subscriber(runner, slot)) is not None:
            subscriber.reset(int(runner.table.channel[slot]))

    def fell_back(self, runner: ModelRunner, slot: int, text: str) -> None:
        """Report that the store lost a snapshot of a session that it had confirmed."""
        if (subscriber := self._subscriber(runner, slot)) is not None:
            subscriber.fell_back(int(runner.table.channel[slot]), text)

    def progress(self, runner: ModelRunner, slots: Int64Array, lag_s: float) -> None:
        """Report settled and durable seqs of the sessions in `slots`, once a stream."""
        table = runner.table
        slots = slots[table.route[slots] != DETACHED]
        if not len(slots):
            return
        order, spans = by_route(table.route[slots])
        slots = slots[order]
        for number, start, stop in spans:
            mine = slots[start:stop]
            if (route := self._routes.get(number)) is not None:
                columns = (
                    table.channel[mine].tolist(),
                    table.settled_seq[mine].tolist(),
                    table.durable_seq[mine].tolist(),
                )
                route.subscriber.progress(*columns, lag_s)

    def _subscriber(self, runner: ModelRunner, slot: int) -> SessionSubscriber | None:
        """The stream that holds a session; None if none does."""
        route = self._routes.get(int(runner.table.route[slot]))
        return None if route is None else route.subscriber
