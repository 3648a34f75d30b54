"""Playing at a pace: sending and reading are two tasks, which end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.service.errors import Unavailable
from statestream.service.playback.play import play
from tests.conftest import leaky_manifest


class BrokenSession:
    """A session whose rows cannot be sent and which never has results."""

    manifest = leaky_manifest()

    async def send(self, x: Any, t_ns: int) -> None:
        raise Unavailable("the server is gone")

    async def results(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield


class BrokenStream:
    async def open(self, model: str, version: int, outputs: object) -> BrokenSession:
        return BrokenSession()


async def test_a_session_that_breaks_leaves_no_task_behind() -> None:
    recording = Recording("one", np.arange(3, dtype=np.int64), np.zeros((3, 2), np.float32))
    with pytest.raises(Unavailable):
        await play(BrokenStream(), "leaky", 0, recording, rate=1.0, on_progress=lambda _: None)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
