"""Rows of a model's input, from the messages of live topics.

As in a robot's log, each message of the first topic is a row, at its own stamp, with the newest values of the other
topics (`statestream.models.data.readers.topics`), so that a model trained on logs gets the rows it was trained on.
Or, as `merge` of the client does, each message is an event, and what was not measured is NaN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from statestream.models.data.message_fields import MessageField
from statestream.models.data.pictures import as_jpeg, decoded
from statestream.models.data.readers.messages import Cell
from statestream.models.data.readers.ros_messages import ObjectMessages
from statestream.models.data.tables import DataError
from statestream.models.relative import Relative
from statestream.models.spec import NO_TIME, Array, InputSpec, Manifest
from statestream.service.client import Ordering
from statestream.service.errors import InvalidArgument

TimeOf = Literal["auto", "stamp", "receipt"]
_IN_A_ROW = 5
"""Early messages, each later than the one before, that show a clock that was set back: fewer came out of order."""


class Values(Protocol):
    """Reads fields of a topic's messages; a part of `readers.messages.Messages`."""

    def value(self, message: Any, field: MessageField) -> Cell: ...

    def stamp_ns(self, message: Any) -> int: ...


class Row(NamedTuple):
    """A row, ready to be sent."""

    x: Array | bytes
    t_ns: int
    new_clock: bool
    """Whether a new clock starts with this row."""


class Rows(Protocol):
    """Makes rows of messages."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics to be received; the first one drives."""
        ...

    def add(self, topic: str, message: Any, received_ns: int) -> Row | None:
        """Add a message, and return the row that it makes, if it makes one.

        Args:
            received_ns: the time of messages without a stamp.

        Raises:
            DataError: the message has no such field, or not what the model takes; it changes nothing.
        """
        ...

    def due(self) -> Iterator[Row]:
        """Rows that no further message need complete."""
        ...

    def wait_s(self) -> float | None:
        """Seconds until a row is due without a further message; None: no row waits."""
        ...


class Clock:
    """Detects a clock that was set back, in the times of one topic.

    Args:
        far_ns: one message that much earlier than the newest shows it; of less, five in a row.
    """

    def __init__(self, far_ns: int) -> None:
        self._far_ns = far_ns
        self.restart()

    def restart(self) -> None:
        """Forget all times: a new clock has started."""
        self._newest_ns = self._early_ns = NO_TIME
        self._early = 0

    def restarts(self, t_ns: int) -> bool:
        """Whether a new clock starts with a message of this time."""
        if self._newest_ns == NO_TIME or t_ns >= self._newest_ns:
            self._newest_ns, self._early = t_ns, 0
            return False
        self._early = self._early + 1 if self._early and t_ns > self._early_ns else 1
        self._early_ns = t_ns
        if t_ns >= self._newest_ns - self._far_ns and self._early < _IN_A_ROW:
            return False
        self._newest_ns, self._early = t_ns, 0
        return True


class HeldRows:
    """Each message of the first topic is a row, with the newest values of the other topics.

    No row is made before every topic had a message.

    Args:
        features: field of each element, or the one field of pictures; empty: the input's labels.
        values: what reads a topic's messages; without one they are objects with attributes.
        known: names of topics that are no ROS names, such as MQTT's.

    Raises:
        InvalidArgument: the features do not fit the model.
    """

    def __init__(
        self,
        manifest: Manifest,
        features: Sequence[str] = (),
        *,
        values: Mapping[str, Values] | None = None,
        known: Sequence[str] = (),
        time_of: TimeOf = "auto",
    ) -> None:
        self._spec = manifest.inputs[0]
        self._elements = Elements(fields_of(manifest, features, known), values or {}, Times(time_of))
        self.topics = self._elements.topics
        self._held: list[Array | bytes | float | None] = [None] * self._elements.count
        self._complete = False
        self._relative = Relative(self._spec) if self._spec.relative else None
        self._clock = Clock(round(manifest.time.max_s * 1e9))

    def add(self, topic: str, message: Any, received_ns: int) -> Row | None:
        found = [(k, _cell(self._spec, field, value)) for k, field, value in self._elements.read(topic, message)]
        drives = topic == self.topics[0]
        t_ns = self._elements.time_ns(topic, message, received_ns) if drives else NO_TIME
        for k, value in found:
            if value is not None:  # A message without the field leaves what was known.
                self._held[k] = value
        if not drives or not self._is_complete():
            return None
        return Row(self._x(), t_ns, self._clock.restarts(t_ns))

    def _is_complete(self) -> bool:
        """Whether every element has had a value."""
        self._complete = self._complete or all(value is not None for value in self._held)
        return self._complete

    def due(self) -> Iterator[Row]:
        return iter(())

    def wait_s(self) -> float | None:
        return None

    def _x(self) -> Array | bytes:
        value = self._held[0]
        if isinstance(value, (bytes, np.ndarray)):
            return value
        if self._relative is not None:
            return self._relative(self._held).reshape(self._spec.shape)  # type: ignore[arg-type]
        return np.asarray(self._held, self._spec.np_dtype).reshape(self._spec.shape)


class MergedRows:
    """Each message is an event at its own time; what it does not measure is NaN.

    Events wait for earlier messages of other topics, at most `lateness_s`; a message that comes later is dropped.
    Arguments and errors as of `HeldRows`.
    """

    def __init__(
        self,
        manifest: Manifest,
        features: Sequence[str] = (),
        *,
        values: Mapping[str, Values] | None = None,
        known: Sequence[str] = (),
        time_of: TimeOf = "auto",
        lateness_s: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = manifest.inputs[0]
        if self._spec.nan != "not_measured" or self._spec.relative:
            raise InvalidArgument(
                f"'merged', but {manifest.ref} takes no rows in which an element was not measured; use 'held'",
                field="session.rows",
            )
        self._elements = Elements(fields_of(manifest, features, known), values or {}, Times(time_of))
        self.topics = self._elements.topics
        self._lateness_s = lateness_s
        self._now_s = clock
        self._clocks = [Clock(round(manifest.time.max_s * 1e9)) for _ in self.topics]
        self._past: list[Ordering] = []
        """Events of clocks that have ended."""
        self._ordering = self._new_ordering()
        self._late = 0
        self._new_clock = False

    @property
    def late(self) -> int:
        """Messages that came too late to be an event."""
        return self._late + sum(self._ordering.late)

    def add(self, topic: str, message: Any, received_ns: int) -> Row | None:
        k = self.topics.index(topic)
        found = [_number(field, value) for _, field, value in self._elements.read(topic, message)]
        t_ns = self._elements.time_ns(topic, message, received_ns)
        if self._clocks[k].restarts(t_ns):
            self._start_clock(k)
        self._ordering.put(k, t_ns, found, self._now_s())
        return None

    def due(self) -> Iterator[Row]:
        while self._past:
            while (event := self._past[0].take(float("inf"))) is not None:
                yield self._row(*event, new_clock=False)
            self._late += sum(self._past.pop(0).late)
            self._new_clock = True
        while (event := self._ordering.take(self._now_s())) is not None:
            yield self._row(*event, new_clock=self._new_clock)
            self._new_clock = False

    def wait_s(self) -> float | None:
        due_s = self._ordering.due_s()
        return None if due_s is None else max(0.0, due_s - self._now_s())

    def _row(self, t_ns: int, x: Array, *, new_clock: bool) -> Row:
        return Row(x.reshape(self._spec.shape), t_ns, new_clock)

    def _start_clock(self, k: int) -> None:
        """The other topics follow: their next message is not compared with those before."""
        for other, clock in enumerate(self._clocks):
            if other != k:
                clock.restart()
        self._past.append(self._ordering)
        self._ordering = self._new_ordering()

    def _new_ordering(self) -> Ordering:
        return Ordering(self._elements.columns, self._elements.count, self._lateness_s)


class Times:
    """The time of a topic's messages: their stamps or their receipt, one of both for a whole session."""

    def __init__(self, time_of: TimeOf) -> None:
        self._stamped: bool | None = {"auto": None, "stamp": True, "receipt": False}[time_of]

    def of(self, topic: str, stamp_ns: int, received_ns: int) -> int:
        """Time of a message.

        Raises:
            DataError: the message has no stamp.
        """
        if self._stamped is None:
            self._stamped = stamp_ns != 0
        if self._stamped and not stamp_ns:
            raise DataError(f"a message of {topic} has no stamp; session.time = 'receipt' takes the time of receipt")
        return stamp_ns if self._stamped else received_ns


class Elements:
    """Elements of a model's input, read from the messages of their topics.

    Args:
        fields: one of each element.
        values: what reads a topic's messages; without one they are objects with attributes.
    """

    def __init__(self, fields: Sequence[MessageField], values: Mapping[str, Values], times: Times) -> None:
        self.count = len(fields)
        self.topics = tuple(dict.fromkeys(field.topic for field in fields))
        self._of: dict[str, list[tuple[int, MessageField]]] = {topic: [] for topic in self.topics}
        for k, field in enumerate(fields):
            self._of[field.topic].append((k, field))
        self._values = {topic: values.get(topic) or ObjectMessages() for topic in self.topics}
        self._times = times

    @property
    def columns(self) -> list[list[int]]:
        """Elements of each topic."""
        return [[k for k, _ in elements] for elements in self._of.values()]

    def read(self, topic: str, message: Any) -> list[tuple[int, MessageField, Cell]]:
        """Elements that a message has, their fields and values."""
        reader = self._values[topic]
        return [(k, field, reader.value(message, field)) for k, field in self._of[topic]]

    def time_ns(self, topic: str, message: Any, received_ns: int) -> int:
        """Time of a message, as of `Times.of`."""
        return self._times.of(topic, self._values[topic].stamp_ns(message), received_ns)


def fields_of(manifest: Manifest, features: Sequence[str], known: Sequence[str]) -> list[MessageField]:
    """Fields of a model's input; see `HeldRows`."""
    spec = manifest.inputs[0]
    names = features or spec.labels
    wanted = 1 if _takes_pictures(spec) else spec.size
    if len(manifest.inputs) > 1 or len(names) != wanted:
        raise InvalidArgument(
            f"{len(names)} fields, {manifest.ref} takes {wanted} in {len(manifest.inputs)} inputs", field="features"
        )
    if _takes_pictures(spec) and spec.encoding == "raw" and spec.colours not in (None, "rgb"):
        raise InvalidArgument(f"{manifest.ref} takes raw pixels in {spec.colours}, not rgb", field="model")
    try:
        return [MessageField.within(name, known) for name in names]
    except DataError as error:
        raise InvalidArgument(str(error), field="features") from None


def _takes_pictures(spec: InputSpec) -> bool:
    return spec.dtype == "uint8"


def _cell(spec: InputSpec, field: MessageField, value: Cell) -> Array | bytes | float | None:
    """A number, or a picture: encoded for a model that takes JPEGs, as pixels for one that takes those."""
    if not _takes_pictures(spec):
        return None if value is None else _number(field, value)
    picture = value() if callable(value) else value
    if not isinstance(picture, (bytes, np.ndarray)):
        raise DataError(f"'{field.name}' is no picture, and the model takes pictures")
    height, width, _ = spec.shape
    if spec.encoding == "jpeg":
        return as_jpeg(picture, (height, width), spec.picture_range)
    return decoded(picture, height, width, span=spec.picture_range)


def _number(field: MessageField, value: Cell) -> float:
    """A number; NaN: the message does not have it."""
    if value is None:
        return float("nan")
    if not isinstance(value, (bool, int, float)):
        raise DataError(f"'{field.name}' is no number")
    return float(value)
