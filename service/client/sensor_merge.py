"""Sensor merge: several sensors as one stream of events in order of time.

A feature that was not measured at an event's time is NaN.

    events = merge([Sensor(("ax", "ay", "az"), imu), Sensor(("left", "right"), wheels)], lateness_s=0.05)
    async for t_ns, x in events:
        await session.send(x, t_ns)

A sample waits until every sensor has delivered one of the same time or later, and at most `lateness_s` by the clock
since it arrived. A sample earlier than the last event is late: it is counted and dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from statestream.models.spec import NO_TIME, Float32Array
from statestream.service.client.inputs import time_of
from statestream.service.errors import InvalidArgument

MOST_WAITING = 256
"""Most waiting samples of one sensor; it is not read further until some have been taken."""

Sample = tuple[int, npt.ArrayLike]
"""Time of measurement, nanoseconds from an origin common to all sensors, and a value for each feature."""
Event = tuple[int, Float32Array]
"""A time, nanoseconds, and `[F]` values, NaN where a feature was not measured."""


class Sensor(NamedTuple):
    """A sensor: its features and its samples as they arrive."""

    features: Sequence[str]
    samples: AsyncIterable[Sample]


def merge(
    sensors: Sequence[Sensor],
    lateness_s: float,
    *,
    features: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Merge:
    """Merge sensors to events, which can be iterated once.

    Ends after the last sensor.

    The iteration raises what a sensor's samples raise.

    Args:
        lateness_s: longest wait of a sample for an earlier one of another sensor.
        features: order of features in a row, such as the labels of a model's input; empty: that of the sensors.

    Raises:
        InvalidArgument: `lateness_s` is negative, or a feature is in two sensors or not in `features`.
    """
    named = [name for sensor in sensors for name in sensor.features]
    order = list(features) or named
    for name in named:
        if named.count(name) > 1 or name not in order:
            raise InvalidArgument(f"'{name}' is in two sensors, or not in {', '.join(order)}", field="sensors")
    if not lateness_s >= 0:
        raise InvalidArgument(f"{lateness_s}, expected seconds from 0 on", field="lateness_s")
    columns = [[order.index(name) for name in sensor.features] for sensor in sensors]
    return Merge([sensor.samples for sensor in sensors], Ordering(columns, len(order), lateness_s), clock)


class Merge:
    """The merged events of several sensors; made by `merge`."""

    def __init__(self, samples: Sequence[AsyncIterable[Sample]], order: Ordering, clock: Callable[[], float]) -> None:
        self._samples = samples
        self._order = order
        self._clock = clock
        self._changed = asyncio.Event()
        self._room = [asyncio.Event() for _ in samples]

    @property
    def late(self) -> Sequence[int]:
        """Number of samples of each sensor that came too late."""
        return self._order.late

    async def __aiter__(self) -> AsyncIterator[Event]:
        pumps = [asyncio.ensure_future(self._pump(sensor)) for sensor in range(len(self._samples))]
        try:
            while not self._order.done:
                self._changed.clear()
                while (event := self._order.take(self._clock())) is not None:
                    for room in self._room:
                        room.set()
                    yield event
                for pump in pumps:
                    if pump.done():
                        pump.result()
                await self._wait()
            await asyncio.gather(*pumps)  # Raises the error of a sensor that ended last.
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _wait(self) -> None:
        """Wait until a sample arrives, a sensor ends, or the next event is due."""
        due_s = self._order.due_s()
        with suppress(asyncio.TimeoutError):
            if not self._order.done:
                await asyncio.wait_for(self._changed.wait(), None if due_s is None else due_s - self._clock())

    async def _pump(self, sensor: int) -> None:
        try:
            async for t_ns, values in self._samples[sensor]:
                self._order.put(sensor, t_ns, values, self._clock())
                self._changed.set()
                while self._order.waiting[sensor] >= MOST_WAITING:
                    self._room[sensor].clear()
                    await self._room[sensor].wait()
        finally:
            self._order.end(sensor)
            self._changed.set()


@dataclass(order=True)
class _Waiting:
    t_ns: int
    number: int
    """Number of the sample by arrival; orders samples of the same time."""
    sensor: int = field(compare=False)
    values: Float32Array = field(compare=False)
    arrived_s: float = field(compare=False)
    gone: bool = field(compare=False, default=False)


class Ordering:
    """Orders samples by time and decides when the next event is due.

    Does no I/O.

    Args:
        columns: for each sensor, the indices of its values in a row.
        width: F, values in a row.
    """

    def __init__(self, columns: Sequence[Sequence[int]], width: int, lateness_s: float) -> None:
        self.late = [0] * len(columns)
        self.waiting = [0] * len(columns)
        """Number of waiting samples of each sensor."""
        self._columns = columns
        self._width = width
        self._lateness_s = lateness_s
        self._by_time: list[_Waiting] = []
        self._by_arrival: deque[_Waiting] = deque()
        self._newest_ns: list[float] = [float(NO_TIME)] * len(columns)
        self._last_ns = NO_TIME
        self._number = 0

    def put(self, sensor: int, t_ns: int, values: npt.ArrayLike, now_s: float) -> None:
        """Add a sample; raises InvalidArgument if its time or shape is wrong."""
        time_of(t_ns)
        own = np.array(values, np.float32)
        if own.shape != (len(self._columns[sensor]),):
            expected = len(self._columns[sensor])
            raise InvalidArgument(f"shape {list(own.shape)}, expected [{expected}]", field=f"sensors[{sensor}].samples")
        self._newest_ns[sensor] = max(self._newest_ns[sensor], t_ns)
        if t_ns < self._last_ns:
            self.late[sensor] += 1
            return
        sample = _Waiting(t_ns, self._number, sensor, own, now_s)
        self._number += 1
        self.waiting[sensor] += 1
        heappush(self._by_time, sample)
        self._by_arrival.append(sample)

    def end(self, sensor: int) -> None:
        """Mark a sensor as ended."""
        self._newest_ns[sensor] = float("inf")

    def take(self, now_s: float) -> Event | None:
        """Remove and return the next event if it is due.

        Samples of one time are one event.
        """
        due_s = self.due_s()
        if due_s is None or now_s < due_s:
            return None
        t_ns, x = self._by_time[0].t_ns, np.full(self._width, np.nan, np.float32)
        while self._by_time and self._by_time[0].t_ns == t_ns:
            sample = heappop(self._by_time)
            x[self._columns[sample.sensor]] = sample.values
            sample.gone = True
            self.waiting[sample.sensor] -= 1
        self._last_ns = t_ns
        return t_ns, x

    def due_s(self) -> float | None:
        """When the next event is due, on the clock, if no sample arrives; None: none waits."""
        while self._by_arrival and self._by_arrival[0].gone:
            self._by_arrival.popleft()
        if not self._by_arrival:
            return None
        if self._by_time[0].t_ns <= min(self._newest_ns):
            return float("-inf")
        return self._by_arrival[0].arrived_s + self._lateness_s

    @property
    def done(self) -> bool:
        """Whether every sensor has ended and every event has been taken."""
        return not self._by_time and min(self._newest_ns) == float("inf")
