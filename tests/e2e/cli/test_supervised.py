"""What supervisors and operators of a device ask for: `health`, `warmup`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statestream.service.cli import main
from statestream.service.client import AsyncClient
from statestream.service.server.server import Server
from tests.support.bundles import write_leaky


def test_health_says_what_serves_and_what_is_not_there(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ([], ["leaky"]):
        assert main(["health", *model, "--target", served]) == 0
        assert capsys.readouterr().out == "serving\n"
    assert main(["health", "nobody", "--target", served]) == 1
    assert main(["health", "--target", "127.0.0.1:9"]) == 1


async def test_a_server_that_drains_does_not_serve(start: Callable[..., Any]) -> None:
    server: Server = await start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        assert await client.serving()
        await server._health.enter_graceful_shutdown()
        assert not await client.serving()


def test_warmup_goes_through_every_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_leaky(tmp_path)
    write_leaky(tmp_path, name="other", version=3)
    assert main(["warmup", str(tmp_path), "--providers", "tensorrt,cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["leaky:1", "CPUExecutionProvider"],
        ["other:3", "CPUExecutionProvider"],
    ]


def test_warmup_says_which_model_cannot_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_leaky(tmp_path)
    broken = write_leaky(tmp_path, name="broken")
    broken.step_path.write_bytes(b"no graph")
    assert main(["warmup", str(tmp_path), "--providers", "cpu"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("leaky:1")
    assert said.err.startswith("refused broken: ")
