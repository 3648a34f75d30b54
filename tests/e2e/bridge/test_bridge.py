"""The bridge against a real server: messages go in, predictions come out, and a named session goes on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statestream.service.bridge.bridge import Bridge, bridging
from statestream.service.bridge.settings import Settings
from statestream.service.errors import InvalidArgument, NotFound
from statestream.service.server.server import Server
from tests.support.robot_logs import drive, leaky_outputs

FEATURES = ("/imu.x", "/imu.y")


def settings_of(server: Server, **others: Any) -> Settings:
    return Settings(**({"target": f"127.0.0.1:{server.port}", "model": "leaky", "features": FEATURES} | others))


def message(t_ns: int, x: np.ndarray) -> Any:
    stamp = SimpleNamespace(sec=t_ns // 10**9, nanosec=t_ns % 10**9)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), x=float(x[0]), y=float(x[1]))


async def said(bridge: Bridge, t_ns: np.ndarray, x: np.ndarray) -> list[dict[str, Any]]:
    """What is said of these rows."""

    async def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async for prediction in bridge.predictions():
            found.append(prediction.fields)
            if len(found) == len(x):
                break
        return found

    reader = asyncio.create_task(read())
    for t, row in zip(t_ns.tolist(), x, strict=True):
        await bridge.add("/imu", message(t, row), 0)
    return await asyncio.wait_for(reader, 60)


def stamps(found: list[dict[str, Any]]) -> list[int]:
    return [p["header"]["stamp"]["sec"] * 10**9 + p["header"]["stamp"]["nanosec"] for p in found]


async def test_messages_go_in_and_predictions_come_out(server: Server) -> None:
    of = drive(rows=80)
    t_ns, x, expected = of.t_ns, of.x, leaky_outputs(of.t_ns, of.x)
    async with bridging(settings_of(server)) as bridge:
        found = await said(bridge, t_ns, x)
    np.testing.assert_allclose([p["y"] for p in found], expected, rtol=1e-5, atol=1e-5)
    assert stamps(found) == t_ns.tolist()
    assert {(p["model"], p["verdict"]) for p in found} == {("leaky:2", "APPLIED")}
    assert len(server.host.session_manager.registry) == 0, "a session without a name ends with its node"


async def test_a_node_that_starts_again_goes_on_with_its_session(server: Server) -> None:
    of = drive(rows=60)
    t_ns, x, expected = of.t_ns, of.x, leaky_outputs(of.t_ns, of.x)
    settings = settings_of(server, session="husky-1")
    async with bridging(settings) as bridge:
        await said(bridge, t_ns[:30], x[:30])
    assert len(server.host.session_manager.registry) == 1
    async with bridging(settings) as bridge:
        found = await said(bridge, t_ns[30:], x[30:])
    np.testing.assert_allclose([p["y"] for p in found], expected[30:], rtol=1e-5, atol=1e-5)
    assert stamps(found) == t_ns[30:].tolist()


async def test_a_simulation_that_begins_anew_takes_the_nominal_step(server: Server) -> None:
    of = drive(rows=4)
    t_ns, x = of.t_ns, of.x
    async with bridging(settings_of(server)) as bridge:
        await said(bridge, t_ns, x)
        again = await said(bridge, t_ns - 10**12, x)
    assert [p["verdict"] for p in again] == ["APPLIED"] * 4
    assert again[0]["dt_s"] == pytest.approx(0.1)


async def test_a_clock_that_was_set_back_while_no_bridge_ran_continues(server: Server) -> None:
    of = drive(rows=12)
    settings = settings_of(server, session="husky-2")
    async with bridging(settings) as bridge:
        await said(bridge, of.t_ns[:3], of.x[:3])
    async with bridging(settings) as bridge:
        found = []
        for k in range(3, 12):  # One after the other, as a robot sends them.
            found += await said(bridge, of.t_ns[k : k + 1] - 10**12, of.x[k : k + 1])
    assert [p["verdict"] for p in found] == ["INVALID"] * 5 + ["APPLIED"] * 4
    assert found[5]["dt_s"] == pytest.approx(0.1)


async def test_what_is_early_by_little_is_invalid(server: Server) -> None:
    of = drive(rows=4)
    t_ns, x = of.t_ns, of.x
    async with bridging(settings_of(server)) as bridge:
        found = await said(bridge, t_ns[[0, 2, 1, 3]], x)
    assert [(p["verdict"], len(p["y"])) for p in found] == [
        ("APPLIED", 2), ("APPLIED", 2), ("INVALID", 0), ("APPLIED", 2)
    ]  # fmt: skip


async def test_what_does_not_fit_is_refused_and_leaves_no_session(server: Server) -> None:
    with pytest.raises(NotFound, match="no model 'nobody'"):
        async with bridging(settings_of(server, model="nobody")):
            pass
    with pytest.raises(InvalidArgument, match="features: 1 fields, leaky:2 takes 2"):
        async with bridging(settings_of(server, features=FEATURES[:1])):
            pass
    assert len(server.host.session_manager.registry) == 0
