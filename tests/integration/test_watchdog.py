"""What hangs is noticed, what is merely slow is not; and the supervisor hears what it asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from statestream.service.client import AsyncClient
from statestream.service.errors import StatestreamError
from statestream.service.server import watchdog
from statestream.service.server.systemd import notify, watchdog_s
from statestream.service.server.watchdog import EXIT_CODE, Watchdog
from tests.support.bundles import write_leaky

_PATIENCE_S = 120
"""For a machine that has much else to do."""


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The socket at which systemd would listen."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "s"))
    listener.settimeout(_PATIENCE_S)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    return listener


async def no_words() -> None:
    pass


async def test_the_supervisor_hears_beats_while_engines_come_back_and_the_end_when_one_does_not(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    said: list[str] = []
    runs = {"quick": 0, "slow": 7}
    beats = 0

    def look() -> dict[str, int]:
        nonlocal beats
        beats += 1
        runs["quick"] += 1
        if beats <= 5:
            runs["slow"] += 1
        return runs

    async def last_words() -> None:
        said.append("last words")

    monkeypatch.setattr(watchdog, "_die", lambda: said.append("dead"))
    with supervisor:
        await asyncio.wait_for(Watchdog(0.2, runs=look, last_words=last_words).run(), _PATIENCE_S)
        assert said == ["last words", "dead"]
        heard = []
        supervisor.settimeout(0)
        while True:
            try:
                heard.append(supervisor.recv(100))
            except BlockingIOError:
                break
    assert heard == [b"WATCHDOG=1"] * 5, "none once the engine may hang"


def test_who_supervises_is_asked_of_the_environment(supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with supervisor:
        assert notify("READY=1")
        assert supervisor.recv(100) == b"READY=1"
    assert not notify("READY=1"), "nobody listens any more"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_s() == 3
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_s() is None


def test_a_loop_that_stands_still_ends_the_process_and_says_where() -> None:
    code = (
        "import asyncio, time\n"
        "from statestream.service.server.watchdog import Watchdog\n"
        "async def nothing(): pass\n"
        "async def main():\n"
        "    task = asyncio.create_task(Watchdog(0.5, runs=dict, last_words=nothing).run())\n"
        "    await asyncio.sleep(0)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE_S)
    assert done.returncode == EXIT_CODE, done.stderr
    assert "in main" in done.stderr, "the stack of what hangs"


HANGS = """
import sys, threading
from statestream.service.config import ServerConfig
from statestream.service.engine.onnx import Engine
from statestream.service.serving import runner
from statestream.service.server.server import run

def hang(*_):
    threading.Event().wait()

measured = Engine.measure
def measure(engine):
    measured(engine)
    engine.step = engine.chunk = hang
Engine.measure = measure
runner.INLINE_S = float(sys.argv[3])  # 0: in a thread
run(ServerConfig(repository=sys.argv[1], address=sys.argv[2], providers=("cpu",), engine="python", stuck_s=1.0))
"""


@pytest.mark.parametrize("inline_s", [0.0, 1e9], ids=["in a thread", "on the loop"])
async def test_a_server_whose_engine_hangs_says_so_and_ends(
    supervisor: socket.socket, tmp_path: Path, inline_s: float
) -> None:
    write_leaky(tmp_path / "repository")
    address = f"unix:{tmp_path}/server"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGS, str(tmp_path / "repository"), address, str(inline_s),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        with supervisor:
            assert await asyncio.to_thread(supervisor.recv, 100) == b"READY=1"
            async with AsyncClient(address, reconnect=False) as client, client.stream() as stream:
                session = await stream.open("leaky")
                with pytest.raises(StatestreamError):
                    await session.step(np.ones(2, np.float32))
        _, said = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        assert process.returncode == EXIT_CODE, said.decode()
        assert "stuck: " in said.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
