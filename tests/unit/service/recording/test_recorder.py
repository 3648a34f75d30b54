"""What was recorded is what happened, and running it once more says where another bundle differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.spec import NO_TIME, StateSpec
from statestream.service.batching.step_columns import StepColumns
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment
from statestream.service.errors import FailedPrecondition, NotFound
from statestream.service.protocol.verdict import RowFlag
from statestream.service.recording.recorder import Recorder
from statestream.service.recording.replay import Replayer, recordings
from statestream.service.sessions.policy import Policy
from tests.conftest import FakeClock, leaky_manifest
from tests.support.hosts import FakeSubscriber, asks, leaky_bundle

RNG = np.random.default_rng(3)
X = RNG.normal(size=(100, 2)).astype("<f4")
T_NS = (10**9 + np.cumsum(RNG.integers(10**7, 5 * 10**8, 100))).tolist()


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """One that writes only when told to."""
    return Recorder(tmp_path, flush_s=3600.0)


@pytest.fixture
async def host(clock: FakeClock, recorder: Recorder) -> Host:
    host = Host.build(ServerConfig(), clock, on_load=recorder.attach)
    host.models.add(*leaky_bundle(leaky_manifest()))
    return host


async def send(held: Attachment, first: int, last: int, flags: int = 0, x: Any = X, t_ns: Any = T_NS) -> None:
    """The rows from seq `first` to `last`."""
    n, part = last - first + 1, slice(first - 1, last)
    data = [] if flags & RowFlag.SKIP else [("x", x[part].tobytes())]
    held.runner.offer(
        [held.slot] * n, StepColumns(range(first, last + 1), t_ns[part], [flags] * n if flags else [], data)
    )
    await held.runner.settled(held.slot)


def replayed(folder: Path, gain: float = 1.0, **other: Any) -> Replayer:
    engine = leaky_bundle(leaky_manifest().model_copy(update=other), gain)[1]
    replay = Replayer(engine, tolerance=1e-5)
    for recording in recordings(folder, "leaky"):
        replay.run(recording)
    return replay


async def test_replayed_through_the_same_weights_every_output_is_as_recorded(
    host: Host, recorder: Recorder, tmp_path: Path
) -> None:
    held = [await host.session_manager.open(FakeSubscriber(), i, asks(f"s{i}")) for i in range(3)]
    held[2].runner.table.set_policy(held[2].slot, Policy(gap_resets=True))
    spoilt = X.copy()
    spoilt[5] = np.nan
    for i, one in enumerate(held):
        await send(one, 1, 1)
        await send(one, 2, 10 + i, x=spoilt)
        recorder.flush()
        await send(one, 11 + i, 12 + i, RowFlag.SKIP)
        await send(one, 13 + i, 40, RowFlag.NEW_CLOCK if i == 1 else 0)
    late = [t + (10**12 if i >= 60 else 0) for i, t in enumerate(T_NS)]
    for one in held:
        await send(one, 41, 80, t_ns=late)
        await send(one, 80, 80, t_ns=late)
    recorder.close()
    assert (recorder.recorded_rows, recorder.lost_rows) == (240, 0)
    sessions = replayed(tmp_path).sessions
    assert sorted(sessions) == ["s0", "s1", "s2"]
    for session in sessions.values():
        assert (session.rows, session.missing_rows, session.first) == (77, 0, None)
        assert session.max_error <= 1e-6


async def test_the_first_difference_is_named(host: Host, recorder: Recorder, tmp_path: Path) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    x = np.zeros_like(X)
    x[20:, 1] = 1.0
    await send(held, 1, 60, x=x)
    recorder.close()
    session = replayed(tmp_path, gain=1.5).sessions["robot"]
    assert session.first is not None
    assert (session.first.seq, session.first.output, session.first.element) == (21, "y", 1)
    assert session.first.got - session.first.recorded == pytest.approx(1.0, abs=1e-5)
    assert session.max_error > 1.0


async def test_a_session_met_in_its_middle_starts_from_the_state_it_had(
    clock: FakeClock, recorder: Recorder, tmp_path: Path
) -> None:
    host = Host.build(ServerConfig(), clock)
    runner = host.models.add(*leaky_bundle(leaky_manifest()))
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await send(held, 1, 10)
    recorder.attach(runner)
    await send(held, 11, 20)
    await host.session_manager.reset("robot")
    await send(held, 21, 30, t_ns=[NO_TIME] * 100)
    recorder.close()
    session = replayed(tmp_path).sessions["robot"]
    assert (session.rows, session.missing_rows, session.first) == (20, 0, None)
    # Other states cannot start there.
    other = replayed(tmp_path, states=(StateSpec(name="g", shape=(2,), initial=(0.5,)),)).sessions["robot"]
    assert (other.rows, other.missing_rows) == (0, 20)


async def test_rows_that_find_no_room_are_counted_and_the_recording_goes_on_after_them(
    clock: FakeClock, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path, flush_s=3600.0, max_waiting_bytes=2500)
    host = Host.build(ServerConfig(), clock, on_load=recorder.attach)
    host.models.add(*leaky_bundle(leaky_manifest()))
    held, stream = None, FakeSubscriber()
    held = await host.session_manager.open(stream, 1, asks("robot"))
    await send(held, 1, 20)
    await send(held, 21, 40)
    recorder.flush()
    await send(held, 41, 60)
    recorder.close()
    assert stream.rows == 60, "nothing else suffers"
    assert (recorder.recorded_rows, recorder.lost_rows) == (40, 20)
    session = replayed(tmp_path).sessions["robot"]
    assert (session.rows, session.missing_rows, session.first) == (40, 0, None)


async def test_a_disk_that_fails_costs_rows_and_no_more(
    host: Host, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await send(held, 1, 10)
    recorder.flush()
    await send(held, 11, 20)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        recorder.flush()
    await send(held, 21, 30)
    recorder.close()
    assert (recorder.recorded_rows, recorder.lost_rows) == (20, 10)
    session = replayed(tmp_path).sessions["robot"]
    assert (session.rows, session.missing_rows, session.first) == (20, 0, None)
    # A take that lacks a segment ends there.
    first, _ = sorted(tmp_path.glob("leaky/1/*/*.npz"))
    first.unlink()
    assert replayed(tmp_path).sessions["robot"].rows == 10


async def test_what_cannot_be_replayed_is_refused(host: Host, recorder: Recorder, tmp_path: Path) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    await send(held, 1, 1)
    recorder.close()
    with pytest.raises(FailedPrecondition, match="has no input 'x', which leaky:1 has"):
        replayed(tmp_path, inputs=())
    with pytest.raises(NotFound, match="has no recording of model 'other'; it has 'leaky'"):
        recordings(tmp_path, "other")
