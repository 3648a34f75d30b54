"""What a server tells Prometheus: by its conventions, and all that dashboard and alerts ask for."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.proto.oip import inference_pb2 as pb
from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from statestream.service.client import AsyncClient
from statestream.service.client.credentials import Access
from statestream.service.protocol.upgrade_policy import UpgradePolicy
from tests.support.bundles import write_leaky

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
ONES = np.ones(2, np.float32)

with_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is missing")


def promtool(*arguments: str | Path, given: str = "") -> str:
    """What it says of what is wrong; empty where nothing is."""
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True)
    return "" if done.returncode == 0 and not done.stderr else f"{done.stdout}{done.stderr}"


@pytest.fixture
async def scraped(start: Callable[..., Any], tmp_path: Path, unused_tcp_port: int) -> str:
    """Of a server that does everything it can: store, recording, shadow, streams, Triton's clients, refusals."""
    clients, token = Clients().with_token("ann", roles=frozenset(Role))
    clients.write(tmp_path / "clients.json")
    (tmp_path / "token").write_text(token)
    write_leaky(tmp_path / "repository", version=1)
    server = await start(
        repository=tmp_path / "repository",
        clients=tmp_path / "clients.json",
        store=f"sqlite:{tmp_path}/sessions.db",
        record=tmp_path / "recordings",
        metrics_address=f"127.0.0.1:{unused_tcp_port}",
    )
    write_leaky(tmp_path / "repository", version=2, gain=1.5)
    target = f"127.0.0.1:{server.port}"
    async with AsyncClient(target, access=Access(token_file=tmp_path / "token")) as client, client.stream() as stream:
        await client.admin.load_model("leaky", 2, policy=UpgradePolicy.SHADOW)
        session = await stream.open("leaky")
        for x in (ONES, ONES * np.nan):
            await session.step(x)
        await ask_as_triton_does(target, token)
        with pytest.raises(grpc.aio.AioRpcError):
            await ask_as_triton_does(target, "nonsense")
        url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        return (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()


async def ask_as_triton_does(target: str, token: str) -> None:
    """The first step of a sequence."""
    asked = pb.ModelInferRequest(model_name="leaky", raw_input_contents=[ONES.tobytes()])
    asked.inputs.add(name="x", datatype="FP32", shape=(1, 2))
    asked.parameters["sequence_id"].int64_param = 1
    asked.parameters["sequence_start"].bool_param = True
    async with grpc.aio.insecure_channel(target) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        await infer(asked.SerializeToString(), metadata=(("authorization", f"Bearer {token}"),))


@with_promtool
async def test_metrics_keep_to_prometheus_conventions(scraped: str) -> None:
    assert not promtool("check", "metrics", given=scraped)
    assert "statestream_shadow_max_divergence{" in scraped, "it saw what there is only with a shadow"


def asked_for(text: str) -> set[str]:
    """Metrics that expressions name."""
    return set(re.findall(r"\b(?:statestream|process)_[a-z_]+\b", text))


async def test_dashboard_and_alerts_ask_for_what_there_is(scraped: str) -> None:
    there = set(re.findall(r"^([a-z_]+)(?:\{| )", scraped, re.MULTILINE))
    there |= {re.sub("_bucket$", "", name) for name in there}
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    shown = {name for panel in panels for target in panel.get("targets", ()) for name in asked_for(target["expr"])}
    alerts = asked_for("".join(re.findall(r"expr:(.*?)(?=for:|labels:)", _text("alerts.yml"), re.DOTALL)))
    tested = asked_for(_text("alerts_test.yml"))
    assert len(shown) > 15
    assert shown | alerts | tested <= there
    assert alerts <= tested, "every alert has been seen to fire"


def test_the_panels_of_the_dashboard_are_whole() -> None:
    dashboard = json.loads(_text("dashboard.json"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    places = [(p["gridPos"]["x"] + dx, p["gridPos"]["y"] + dy) for p in panels for dx, dy in _cells(p["gridPos"])]
    assert len(set(places)) == len(places), "none lies over another"


@with_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert not promtool("check", "rules", MONITORING / "alerts.yml")
    assert not promtool("test", "rules", MONITORING / "alerts_test.yml")
    names = re.findall(r"alert: (\w+)", _text("alerts.yml"))
    assert set(names) == set(re.findall(r'alertname="(\w+)"', _text("alerts_test.yml")))


def _text(name: str) -> str:
    return (MONITORING / name).read_text()


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(dx, dy) for dx in range(place["w"]) for dy in range(place["h"])]
