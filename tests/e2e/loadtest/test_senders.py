"""Both senders reach whatever a server listens on, and report the same when it refuses, drains or dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statestream.service.auth.clients import Clients, Role
from statestream.service.errors import Unavailable
from statestream.service.loadtest.coordinator import Progress
from statestream.service.loadtest.report import report
from statestream.service.loadtest.summary import facts
from tests.e2e.conftest import repository, start, transport, unused_tcp_port  # noqa: F401
from tests.e2e.loadtest.conftest import Load
from tests.support.certificates import authority, served, shown
from tests.support.server_process import ServerProcess

Start = Callable[..., Any]


@pytest.mark.usefixtures("transport")
async def test_mutual_tls_a_token_and_several_sessions(load: Load, start: Start, tmp_path: Path) -> None:  # noqa: F811
    authority(tmp_path, "arm")
    clients, token = Clients().with_token("arm", roles=frozenset({Role.STREAM}))
    clients.write(tmp_path / "clients.json")
    server = await start(clients=tmp_path / "clients.json", **served(tmp_path, mutual=True))
    (tmp_path / "token").write_text(token)
    access = replace(shown(tmp_path, "arm"), token_file=tmp_path / "token")
    outcome = await load(f"localhost:{server.port}", access=access, streams=2, channels=2, chunk=3, rate_hz=20.0)
    assert outcome.tally.answered == outcome.tally.due > 0
    assert not outcome.tally.statuses
    (tmp_path / "token").write_text(f"{token}x")
    with pytest.raises(Unavailable, match="UNAUTHENTICATED"):
        await load(f"localhost:{server.port}", access=access)
    with pytest.raises(Unavailable, match="UNAVAILABLE: "):
        await load(f"localhost:{server.port}", access=shown(tmp_path))


async def test_a_unix_socket(load: Load, start: Start, tmp_path: Path) -> None:  # noqa: F811
    await start(address=f"unix:{tmp_path}/s")
    outcome = await load(f"unix:{tmp_path}/s", rate_hz=50.0)
    assert outcome.tally.answered == outcome.tally.due > 0
    with pytest.raises(Unavailable, match=r"UNAVAILABLE: .*No such file or directory"):
        await load(f"unix:{tmp_path}/other")


@pytest.mark.usefixtures("transport")
async def test_what_a_server_refuses_keeps_its_words(load: Load, start: Start) -> None:  # noqa: F811
    server = await start(max_sessions=1)
    with pytest.raises(Unavailable, match=r"RESOURCE_EXHAUSTED: .*1"):
        await load(server.port, streams=2)
    with pytest.raises(Unavailable, match=r"NOT_FOUND: .*nothing"):
        await load(server.port, model="nothing")


async def test_a_server_that_is_away_is_named(load: Load, unused_tcp_port: int) -> None:  # noqa: F811
    with pytest.raises(Unavailable, match=r"UNAVAILABLE: failed to connect to all addresses; .*Connection refused"):
        await load(unused_tcp_port)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_ends_breaks_its_streams(load: Load, repository: Path, number: int) -> None:  # noqa: F811
    """Drained or killed, what it did not answer is counted, and its streams try again."""
    server, answers = ServerProcess(repository), asyncio.Event()
    await server.start()

    def on_progress(progress: Progress) -> None:
        if progress.numbers["answered"]:
            answers.set()

    plan = {"streams": 3, "rate_hz": 20.0, "duration_s": 2.0, "warmup_s": 0.0}
    loading = asyncio.create_task(load(server.port, on_progress=on_progress, **plan))
    await asyncio.wait_for(answers.wait(), 60)
    await server.end(number)
    tally = (await loading).tally
    assert tally.statuses["UNAVAILABLE"] >= 3
    assert tally.answered + tally.unanswered == tally.due
    assert min(tally.answered, tally.unanswered) > 0


async def test_the_report_names_the_sender(load: Load, sender: str, start: Start) -> None:  # noqa: F811
    outcome = await load((await start()).port)
    run_ = report(outcome)
    assert run_["plan"]["sender"] == sender
    assert {"native": "sends by C++", "grpc": "sends by grpc.aio"}[sender] in dict(facts(outcome.plan, run_))[
        "this tool"
    ]
