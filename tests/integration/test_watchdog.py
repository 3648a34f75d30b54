"""What hangs is noticed, what is merely slow is not; and the supervisor hears what it asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from statestream.service import watchdog
from statestream.service.notify import notify, watchdog_s
from statestream.service.watchdog import EXIT_CODE, Watchdog


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The socket at which systemd would listen."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "s"))
    listener.settimeout(30)
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
        await asyncio.wait_for(Watchdog(0.2, runs=look, last_words=last_words).run(), 30)
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
        "from statestream.service.watchdog import Watchdog\n"
        "async def nothing(): pass\n"
        "async def main():\n"
        "    task = asyncio.create_task(Watchdog(0.5, runs=dict, last_words=nothing).run())\n"
        "    await asyncio.sleep(0)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == EXIT_CODE, done.stderr
    assert "in main" in done.stderr, "the stack of what hangs"
