"""Servers with planted faults, and loads against them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from statestream.service.loadtest.coordinator import OnProgress, Outcome, run_load
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import ProcessMonitor
from tests.conftest import leaky_manifest
from tests.support.transports import TRANSPORTS

Load = Callable[..., Awaitable[Outcome]]
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def stub() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Starts stubs: `port = await stub(stall_s=0.05)`."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(**planted: Any) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.stub_server", json.dumps(planted),
            stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip
        processes.append(process)
        assert process.stdout is not None
        return int(await asyncio.wait_for(process.stdout.readline(), 60))

    yield start
    for process in processes:
        process.terminate()
        await process.wait()


async def run(target: int | str, *, on_progress: OnProgress = lambda _: None, **values: Any) -> Outcome:
    """Run a plan against a port of this machine, or another target."""
    defaults = {"model": "leaky", "warmup_s": 0.3, "duration_s": 1.0, "drain_s": 2.0}
    plan = Plan.of(target=f"127.0.0.1:{target}" if isinstance(target, int) else target, **(defaults | values))
    return await run_load(
        plan, leaky_manifest(), watch=ProcessMonitor([]), stop=asyncio.Event(), on_progress=on_progress
    )


@pytest.fixture(params=TRANSPORTS)
def sender(request: pytest.FixtureRequest) -> str:
    """Each of what sends."""
    name: str = request.param
    return name


@pytest.fixture
def load(sender: str) -> Load:
    """Runs plans by each sender."""
    return partial(run, sender=sender)
