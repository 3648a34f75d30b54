"""`statestream loadtest` against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statestream.service.client import AsyncClient
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.server.server import Server
from statestream.service.serving.stats import stats_of
from tests.e2e.conftest import repository, server, start  # noqa: F401
from tests.support.cameras import HEIGHT, WIDTH, write_camera

KEYS = {
    "model", "target", "plan", "measured_s", "messages", "messages_per_s", "rows_per_s", "latency", "jitter_ms",
    "verdicts", "statuses", "notices", "first_error", "reconnects", "server", "tool", "verify", "seconds", "search",
}  # fmt: skip
LATENCY = {"p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99.9_ms", "max_ms", "mean_ms"}


async def loadtest(port: int, *flags: str) -> tuple[int, str, str]:
    process = await _start(port, *flags)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def _start(port: int, *flags: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "statestream.service.cli", "loadtest", "--model", "leaky", "--target",
        f"127.0.0.1:{port}", "--warmup", "0.2", *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_json_html_and_csv(
    server: Server,  # noqa: F811
    repository: Path,  # noqa: F811
    tmp_path: Path,
    sender: str,
) -> None:
    html, csv = tmp_path / "report.html", tmp_path / "seconds.csv"
    code, out, err = await loadtest(
        server.port, "--streams", "4", "--rate-hz", "25", "--duration", "2", "--deadline-ms", "100", "--json",
        "--verify", "--repository", str(repository), "--html", str(html), "--csv", str(csv), "--sender", sender,
    )  # fmt: skip
    assert code == 0, err
    run: dict[str, Any] = json.loads(out)
    assert run.keys() == KEYS
    assert run["plan"]["sender"] == sender
    assert run["latency"].keys() == LATENCY
    assert run["messages"]["answered"] == run["messages"]["due"] == 200
    assert run["verify"]["wrong"] == 0 < run["verify"]["outputs"]
    assert run["server"]["pids"] == [os.getpid()]
    assert run["server"]["cpu_us_per_row"] > 0
    assert run["server"]["rss_mb"] > 10
    assert len(csv.read_text().splitlines()) == 3
    page = html.read_text()
    assert page.count("<svg") == 2
    assert "http" not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "seconds.csv",
    ]  # and nothing half written
    assert not len(server.host.session_manager.registry)


async def test_an_interrupt_ends_the_run_with_a_report(server: Server) -> None:  # noqa: F811
    process = await _start(server.port, "--duration", "600", "--json", "--rate-hz", "50")
    while sum(info.settled_seq for _, info in server.host.session_manager.infos()) < 40:
        await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    run = json.loads(out)
    assert process.returncode == 130, err.decode()
    assert 0 < run["measured_s"] < 10
    assert run["messages"]["answered"] > 10
    assert not len(server.host.session_manager.registry)


async def test_sessions_that_begin_after_an_upgrade_begin_with_the_new_version(server: Server) -> None:  # noqa: F811
    """Nobody asked for the version that was active when the load began; it may be gone."""
    process = await _start(server.port, "--duration", "600", "--json", "--rate-hz", "50")
    first = await _session(server, but="")
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        await client.admin.load_model("leaky", 1, policy=UpgradePolicy.CARRY)
        await client.admin.unload_model("leaky", 2, policy=UnloadPolicy.MOVE)
        await client.admin.close_session(first)
    second = await _session(server, but=first)
    assert server.host.session_manager.registry.find(second).manifest.version == 1
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert "NOT_FOUND" not in json.loads(out)["statuses"], err.decode()


async def _session(server: Server, but: str) -> str:  # noqa: F811
    """The session of the load, once there is one other than that."""
    for _ in range(600):
        if there := set(server.host.session_manager.registry.of(None)) - {but}:
            return there.pop()
        await asyncio.sleep(0.05)
    raise AssertionError("it opens none")


async def test_a_search_prints_its_probes_and_writes_its_chart(server: Server, tmp_path: Path) -> None:  # noqa: F811
    html = tmp_path / "report.html"
    code, out, err = await loadtest(
        server.port, "--rate-hz", "20", "--duration", "0.5", "--deadline-ms", "0.001", "--search", "--html", str(html)
    )
    assert code == 0, err
    assert "capacity      0 streams" in out
    assert "1 streams" in err
    assert html.read_text().count("<svg") == 3


async def test_cameras(start: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    """Pictures prepared before the run, another sensor beside them, every output verified, CPU time by its use."""
    write_camera(tmp_path)
    served = await start(repository=tmp_path)
    camera = ["--model", "camera", "--frames", f"synthetic:{WIDTH}x{HEIGHT}"]
    code, out, err = await loadtest(
        served.port, *camera, "--streams", "3", "--rate-hz", "30", "--duration", "2", "--processes", "2",
        "--channels-per-stream", "2", "--verify", "--repository", str(tmp_path), "--json",
    )  # fmt: skip
    assert code == 0, err
    run = json.loads(out)
    assert run["verdicts"].keys() == {"APPLIED"}
    assert run["verify"]["wrong"] == 0 < run["verify"]["outputs"]
    split = run["server"]["cpu_us_per_row_split"]
    assert min(split.values()) > 0
    assert sum(split.values()) == pytest.approx(run["server"]["cpu_us_per_row"])
    stats = stats_of(served.host.versions.find("camera"))
    assert split["decode"] * run["verify"]["outputs"] < 1e6 * stats.decode_cpu_s * 1.2, "rows are estimated by rate"
    code, out, err = await loadtest(
        served.port, *camera, "--rate-hz", "30", "--duration", "0.6", "--deadline-ms", "0.001", "--search"
    )
    assert code == 0, err
    assert "capacity      0 streams" in out
    code, _, err = await loadtest(served.port, "--model", "camera")
    assert code == 1
    assert "--frames: camera:1 takes JPEG (camera)" in err


async def test_wrong_usage_is_one_line(server: Server, start: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    for flags, text in (
        (["--search"], "--search needs --deadline-ms"),
        (["--streams", "0"], "streams"),
        (["--sender", "mail"], "sender"),
        (["--arrival", "trace"], "--trace FILE"),
        (["--verify", "--repository", str(tmp_path)], "--repository"),
    ):
        code, _, err = await loadtest(server.port, *flags)
        assert code == 1
        assert text in err
