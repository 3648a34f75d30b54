"""Several sensors as one stream: in order, waited for at most so long, what is late counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from statestream.models.data.merge_sensors import merged_recordings
from statestream.models.data.recordings import Recording
from statestream.service.client.sensor_merge import MOST_WAITING, Ordering, Sample, Sensor, merge
from statestream.service.errors import InvalidArgument

NAN = np.nan


def ordering(lateness_s: float = 1.0) -> Ordering:
    return Ordering([[0, 1], [2]], 3, lateness_s)


def drained(order: Ordering, now_s: float) -> list[int]:
    events = []
    while (event := order.take(now_s)) is not None:
        events.append(event[0])
    return events


def test_a_sample_waits_until_all_are_heard_at_its_time() -> None:
    order = ordering()
    order.put(0, 10, [1, 2], 0.0)
    order.put(0, 20, [3, 4], 0.0)
    assert drained(order, 0.5) == []
    order.put(1, 15, [5], 0.5)
    assert drained(order, 0.5) == [10, 15], "20 waits: the other sensor may yet say something earlier"
    order.end(1)
    assert drained(order, 0.5) == [20]


def test_it_waits_no_longer_than_lateness_since_it_came() -> None:
    order = ordering(lateness_s=1.0)
    order.put(0, 20, [1, 2], 0.0)
    order.put(0, 30, [1, 2], 0.9)
    order.put(1, 10, [5], 0.95)
    assert order.due_s() == float("-inf")
    assert drained(order, 0.99) == [10]
    assert order.due_s() == 1.0
    assert drained(order, 0.99) == []
    assert drained(order, 1.0) == [20]
    assert order.due_s() == 1.9
    order.put(1, 5, [5], 1.1)
    assert list(order.late) == [0, 1]
    assert drained(order, 1.1) == []


def test_what_falls_due_takes_along_what_is_earlier() -> None:
    order = ordering(lateness_s=1.0)
    order.put(0, 20, [1, 2], 0.0)
    order.put(0, 10, [3, 4], 0.9)
    assert drained(order, 1.0) == [10, 20], "also one that came in the wrong order"


def test_samples_of_one_time_are_one_event() -> None:
    order = ordering()
    order.put(1, 10, [5], 0.0)
    order.put(0, 10, [1, 2], 0.0)
    event = order.take(0.0)
    assert event is not None
    np.testing.assert_array_equal(event[1], np.array([1, 2, 5], np.float32))
    assert order.take(0.0) is None


@pytest.mark.parametrize(
    ("t_ns", "values", "problem"),
    [(10, [1.0], r"sensors\[0\].samples: shape \[1\], expected \[2\]"), (1.5, [1.0, 2.0], r"timestamp_ns: 1.5")],
)
def test_a_sample_that_is_none_is_refused(t_ns: int, values: Sequence[float], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        ordering().put(0, t_ns, values, 0.0)


async def played(samples: Sequence[Sample]) -> AsyncIterator[Sample]:
    for sample in samples:
        await asyncio.sleep(0)
        yield sample


def made_up(rows: int, gap: int, features: int, seed: int) -> Recording:
    random = np.random.default_rng(seed)
    t_ns = np.cumsum(random.integers(1, gap, rows))
    return Recording("r", t_ns, random.normal(size=(rows, features)).astype(np.float32))


async def test_live_events_are_those_that_training_saw() -> None:
    recordings = [made_up(3 * MOST_WAITING, 10, 2, 0), made_up(100, 77, 1, 1), made_up(MOST_WAITING, 30, 2, 2)]
    names = [("a", "b"), ("c",), ("d", "e")]
    sensors = [
        Sensor(name, played(list(zip(r.t_ns.tolist(), r.features, strict=True))))
        for name, r in zip(names, recordings, strict=True)
    ]
    events = merge(sensors, 30.0)
    heard = [event async for event in events]
    expected = merged_recordings(recordings)
    np.testing.assert_array_equal([t_ns for t_ns, _ in heard], expected.t_ns)
    np.testing.assert_array_equal(np.stack([x for _, x in heard]), expected.features)
    assert list(events.late) == [0, 0, 0]


async def test_a_silent_sensor_delays_the_others_but_does_not_stop_them() -> None:
    silent = asyncio.Event()

    async def never() -> AsyncIterator[Sample]:
        await silent.wait()
        yield 10, [7.0]

    events = merge([Sensor("a", played([(20, [1.0]), (30, [2.0])])), Sensor("b", never())], 0.01)
    heard = []
    async for event in events:
        heard.append(event)
        if len(heard) == 2:
            silent.set()
    assert [t_ns for t_ns, _ in heard] == [20, 30]
    np.testing.assert_array_equal(np.stack([x for _, x in heard]), [[1, NAN], [2, NAN]])
    assert list(events.late) == [0, 1]


async def test_rows_are_in_the_order_of_the_model() -> None:
    events = merge([Sensor("ba", played([(1, [1.0, 2.0])]))], 0.0, features=("a", "x", "b"))
    ((_, x),) = [event async for event in events]
    np.testing.assert_array_equal(x, [2, NAN, 1])


async def test_what_a_sensor_raises_ends_the_stream() -> None:
    async def broken() -> AsyncIterator[Sample]:
        yield 1, [1.0]
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        async for _ in merge([Sensor("a", broken()), Sensor("b", played([(1, [1.0])]))], 30.0):
            pass


@pytest.mark.parametrize(
    ("features", "lateness_s", "problem"),
    [(("a",), 0.0, r"sensors: 'b' is in two sensors, or not in a"), ((), -1.0, r"lateness_s: -1.0, expected seconds")],
)
async def test_sensors_that_do_not_fit_are_refused(features: tuple[str, ...], lateness_s: float, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        merge([Sensor("a", played([])), Sensor("b", played([]))], lateness_s, features=features)
