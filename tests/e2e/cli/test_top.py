"""`statestream top` beside a server at work."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import pytest

from statestream.service.cli import main
from statestream.service.client import AsyncClient, connect
from statestream.service.errors import InvalidArgument


def overview(target: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["top", "--json", "--period", "0.2", "--target", target]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_session_at_work_has_a_rate_and_a_latency(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def work() -> None:
        with connect(served) as client, client.stream() as stream, stream.open("leaky", "busy") as session:
            while not done.is_set():
                session.chunk(np.ones((10, 2), np.float32))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            seen = overview(served, capsys)
            if seen["models"][0]["rows_per_s"] and seen["sessions"] and seen["sessions"][0]["rows_per_s"]:
                break
            assert time.monotonic() < deadline
        assert main(["top", "--period", "0.2", "--target", served]) == 0
    finally:
        done.set()
        worker.join()
    (model,), (session,) = seen["models"], seen["sessions"]
    assert (model["name"], model["role"], model["sessions"], model["mean_batch"]) == ("leaky", "active", 1, 1.0)
    assert (session["session_id"], session["attached"]) == ("busy", True)
    assert session["latency_s"] > 0
    assert set(session["verdicts"]) == {"APPLIED"}
    text = capsys.readouterr().out
    assert "leaky:1" in text
    assert "busy" in text


async def test_a_period_out_of_range_is_refused(served: str) -> None:
    async with AsyncClient(served) as client:
        with pytest.raises(InvalidArgument, match=r"period_s: 100, expected from 0.1 to 60 seconds"):
            async for _ in client.admin.watch(period_s=100):
                pass


def test_no_server_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--target", "127.0.0.1:1"]) == 1
    assert "cannot reach 127.0.0.1:1" in capsys.readouterr().err
