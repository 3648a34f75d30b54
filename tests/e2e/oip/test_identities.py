"""Sequences belong to who started them, and what operates a server is for who may, by Triton's clients too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from tests.support.oip_clients import tensor

ONES = np.ones((1, 2), np.float32)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, dict[str, str]]:
    """What each client sends beside its requests; `clients.json` knows them."""
    clients, headers = Clients(), {}
    for name, role in (("ann", Role.STREAM), ("bob", Role.STREAM), ("eye", Role.READ), ("chief", Role.ADMIN)):
        clients, token = clients.with_token(name, roles=frozenset({role}))
        headers[name] = {"authorization": f"Bearer {token}"}
    clients.write(tmp_path / "clients.json")
    return headers


async def refused(call: Any) -> str:
    """The status and words of what fails."""
    with pytest.raises(InferenceServerException) as error:
        await call
    return f"{error.value.status()}: {error.value.message()}"


async def test_a_sequence_and_a_server_are_not_everybodys(
    start: Callable[..., Any], tokens: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    server = await start(clients=tmp_path / "clients.json")
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        step = partial(client.infer, "leaky", [tensor(ONES)], sequence_id=1)
        assert "UNAUTHENTICATED: authorization: no token: send it" in await refused(step(sequence_start=True))
        await step(sequence_start=True, headers=tokens["ann"])
        assert "PERMISSION_DENIED: session_id: session 'leaky/1' belongs to another client" in await refused(
            step(headers=tokens["bob"])
        )
        assert "PERMISSION_DENIED" in await refused(step(sequence_start=True, headers=tokens["bob"]))
        assert "needs the role stream" in await refused(step(sequence_start=True, headers=tokens["eye"]))
        assert [info.owner for _, info in server.host.session_manager.infos()] == ["ann"]
        await step(sequence_end=True, headers=tokens["ann"])
        assert await client.is_model_ready("leaky", headers=tokens["eye"])
        assert "needs the role admin" in await refused(client.load_model("leaky", headers=tokens["ann"]))
        await client.load_model("leaky", headers=tokens["chief"])


async def test_steps_a_second_count_here_too(
    start: Callable[..., Any], tokens: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    server = await start(clients=tmp_path / "clients.json", max_steps_per_s_per_client=0.05)
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        words = await refused(
            client.infer("leaky", [tensor(ONES)], sequence_id=1, sequence_start=True, headers=tokens["ann"])
        )
    assert "RESOURCE_EXHAUSTED: steps: 1 steps, too many a second" in words


async def test_models_are_not_loaded_here_where_operators_have_a_port_of_their_own(start: Callable[..., Any]) -> None:
    server = await start(admin_address="127.0.0.1:0")
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert await client.is_model_ready("leaky")
        assert "UNIMPLEMENTED" in await refused(client.unload_model("leaky"))
