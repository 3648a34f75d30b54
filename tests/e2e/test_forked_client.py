"""A client in a forked child raises a sentence, ends without a hang, and leaves the parent's connection alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60

HEAD = """
import asyncio, multiprocessing, os, sys
from statestream.service.client import AsyncClient, connect

TARGET = sys.argv[1]

def report(use):
    try:
        print("child:", use(), flush=True)
    except Exception as error:
        print(f"child: {type(error).__name__}: {error}", flush=True)

def child_of(use):
    # `os._exit` alone would hide a child that cannot end.
    pid = os.fork()
    if pid == 0:
        report(use)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child did not end well"
"""

SYNC = (
    HEAD
    + """
with connect(TARGET) as client, client.stream() as stream, stream.open("leaky") as session:
    assert session.step([1, 1]).seq == 1
    CHILD
    print("parent:", session.step([1, 1]).seq, client.list_models()[0].name, flush=True)
"""
)

ASYNC = (
    HEAD
    + """
async def main():
    async with AsyncClient(TARGET) as client, client.stream() as stream, await stream.open("leaky") as session:
        assert (await session.step([1, 1])).seq == 1
        pid = os.fork()
        if pid == 0:
            try:
                await USE
            except Exception as error:
                print(f"child: {type(error).__name__}: {error}", flush=True)
            await session.close()
            await stream.close()
            await client.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, "the child did not end well"
        print("parent:", (await session.step([1, 1])).seq, (await client.list_models())[0].name, flush=True)

asyncio.run(main())
"""
)

USES = {
    "step": "session.step([1, 1])",
    "send": "session.send([1, 1])",
    "latest": "session.latest()",
    "results": "next(session.results())",
    "open": 'stream.open("leaky")',
    "burst": "stream.burst([session], [[1, 1]])",
    "stream": "client.stream()",
    "list_models": "client.list_models()",
    "admin": "client.admin.list_sessions()",
    "another client": "connect(TARGET)",
}
ASYNC_USES = ("step", "send", "open", "burst", "list_models", "admin")


def run(script: str, target: str) -> list[str]:
    # The variable that the package sets must do without our environment.
    env = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    done = subprocess.run(
        [sys.executable, "-c", script, target], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def check(said: list[str]) -> None:
    child, parent = said
    assert child.startswith("child: FailedPrecondition: process ")
    assert "'spawn'" in child
    assert parent == "parent: 2 leaky"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_forked_child_is_told_and_its_parent_goes_on(served: str, use: str) -> None:
    check(run(SYNC.replace("CHILD", f"child_of(lambda: {use})"), served))


@pytest.mark.parametrize("use", [USES[name] for name in ASYNC_USES], ids=ASYNC_USES)
def test_a_forked_child_of_an_asynchronous_client_is_told(served: str, use: str) -> None:
    check(run(ASYNC.replace("USE", use), served))


def test_a_worker_of_multiprocessing_is_told(served: str) -> None:
    start = """worker = multiprocessing.get_context("fork").Process(target=report, args=(lambda: session.step([1, 1]),))
    worker.start()
    worker.join()
    assert worker.exitcode == 0"""
    check(run(SYNC.replace("CHILD", start), served))


def test_forks_that_use_no_client_harm_nobody(served: str) -> None:
    """Workers of a data loader, for one; gRPC's own fork handlers crashed one in five of them."""
    said = run(SYNC.replace("CHILD", "for _ in range(20): child_of(lambda: 'idle')"), served)
    assert said == ["child: idle"] * 20 + ["parent: 2 leaky"]


def test_a_child_forked_before_the_first_client_has_its_own(served: str) -> None:
    first = HEAD + 'child_of(lambda: connect(TARGET).stream().open("leaky").step([1, 1]).seq)\n'
    second = 'print("parent:", connect(TARGET).stream().open("leaky").step([1, 1]).seq)\n'
    assert run(first + second, served) == ["child: 1", "parent: 1"], "nobody closed anything, and both ended"
