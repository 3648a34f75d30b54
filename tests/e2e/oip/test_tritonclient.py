"""Triton's own clients, unmodified, stream sequences through the server and read errors as they would from Triton."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from statestream.service.client import AsyncClient
from statestream.service.server.server import Server
from tests.conftest import leak
from tests.support.bundles import write_leaky
from tests.support.cameras import NOMINAL_S, camera_rollout, encoded, film, seen, write_camera
from tests.support.oip_clients import CLIENTS, Infer, tensor

pytestmark = pytest.mark.usefixtures("transport")

ONES = np.ones((1, 2), np.float32)
SCRIPT = Path(__file__).parents[2] / "support/triton_session.py"


@pytest.fixture
async def server(start: Callable[..., Any]) -> Server:
    started: Server = await start(models=("leaky:1", "leaky:2", "other"))
    return started


@pytest.fixture(params=CLIENTS)
async def infer(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Infer]:
    async with CLIENTS[request.param](f"127.0.0.1:{server.port}") as infer:
        yield infer


@pytest.fixture
async def client(server: Server) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


async def step(infer: Infer, sequence: int | str, **more: Any) -> np.ndarray:
    """A row of ones."""
    result = await infer("leaky", [tensor(ONES)], sequence_id=sequence, **more)
    return result.as_numpy("y")


def after(rows: int) -> np.ndarray:
    """The output after so many rows of ones, a nominal step apart."""
    h = np.full((1, 2), 0.5, np.float32)
    for _ in range(rows):
        h = leak(h, ONES, 0.1)
    return 2 * h


# Sequences


@pytest.mark.parametrize("sequence", [7, 2**63 - 1, "left arm"], ids=["integer", "largest integer", "string"])
async def test_a_sequence_keeps_its_state_from_start_to_end(infer: Infer, sequence: int | str, server: Server) -> None:
    first = await step(infer, sequence, sequence_start=True)
    second = await step(infer, sequence)
    last = await step(infer, sequence, sequence_end=True)
    np.testing.assert_allclose(np.stack([first, second, last]), [after(1), after(2), after(3)], rtol=1e-6)
    assert len(server.host.session_manager.registry) == 0, "its end forgot it"


async def test_outputs_equal_the_native_ones_with_irregular_time(infer: Infer, server: Server) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 2)).astype(np.float32)
    t_ns = np.cumsum(random.integers(10**6, 10**9, len(x)))
    async with AsyncClient(f"127.0.0.1:{server.port}") as native, native.stream() as stream:
        expected = (await (await stream.open("leaky")).chunk(x, t_ns)).y
    got = []
    for k, row in enumerate(x):
        more = {"sequence_start": k == 0, "sequence_end": k == len(x) - 1, "parameters": {"timestamp_ns": int(t_ns[k])}}
        result = await infer("leaky", [tensor(row[None])], sequence_id=1, request_id=str(k), **more)
        assert result.get_response().id == str(k)
        got.append(result.as_numpy("y")[0])
    np.testing.assert_allclose(np.stack(got), expected, atol=1e-6, rtol=0)


async def test_a_reused_id_starts_anew(infer: Infer, server: Server) -> None:
    for _ in range(3):
        assert await step(infer, 5, sequence_start=True) == pytest.approx(after(1), rel=1e-6)
        assert await step(infer, 5) == pytest.approx(after(2), rel=1e-6)
    await step(infer, 5, sequence_end=True)
    assert await step(infer, 5, sequence_start=True, sequence_end=True) == pytest.approx(after(1), rel=1e-6)
    assert len(server.host.session_manager.registry) == 0


async def test_sequences_of_one_id_are_of_their_model(infer: Infer, server: Server) -> None:
    await step(infer, 5, sequence_start=True)
    await infer("other", [tensor(ONES)], sequence_id=5, sequence_start=True)
    assert await step(infer, 5) == pytest.approx(after(2), rel=1e-6)
    assert len(server.host.session_manager.registry) == 2
    result = await infer("leaky", [tensor(ONES)], model_version="1", sequence_id=6, sequence_start=True)
    assert result.get_response().model_version == "1"
    result = await infer("leaky", [tensor(ONES)], sequence_id=6, sequence_end=True)
    assert result.get_response().model_version == "1", "it stays with its version"


async def test_the_script_that_runs_with_every_version_runs_with_this_one(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """`make triton-clients` runs it with others, each in an environment of its own."""
    write_leaky(tmp_path / "repository")
    server = await start(repository=tmp_path / "repository")
    x = np.ones((5, 2), np.float32)
    expected = tmp_path / "expected.json"
    y = np.concatenate([after(k) for k in range(1, 6)])
    expected.write_text(json.dumps({"x": x.tolist(), "y": y.tolist()}))
    command = [sys.executable, str(SCRIPT), f"127.0.0.1:{server.port}", str(expected)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    outcomes = json.loads(said)
    assert len(outcomes) == 7
    assert set(outcomes.values()) == {""}, outcomes
    assert len(server.host.session_manager.registry) == 0, "every sequence has ended"


async def test_many_sequences_share_turns_and_nothing_else(
    slow: Callable[[Server], None], server: Server, client: triton.InferenceServerClient
) -> None:
    slow(server)  # so that requests come while a turn runs, on a busy machine, too

    async def play(sequence: int) -> None:
        x = np.full((1, 2), sequence, np.float32)
        h = np.full((1, 2), 0.5, np.float32)
        for k in range(20):
            h = leak(h, x, 0.1)
            more = {"sequence_id": sequence, "sequence_start": k == 0, "sequence_end": k == 19}
            result = await client.infer("leaky", [tensor(x)], **more)
            np.testing.assert_allclose(result.as_numpy("y"), 2 * h, rtol=1e-5)

    await asyncio.gather(*(play(sequence) for sequence in range(1, 65)))
    stats = (await client.get_inference_statistics("leaky", "2")).model_stats[0]
    assert (stats.inference_count, stats.inference_stats.fail.count) == (64 * 20, 0)
    parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {getattr(stats.inference_stats, part).count for part in parts} == {64 * 20}
    assert stats.execution_count < 64 * 20, "some shared a turn"


async def test_requests_of_one_sequence_sent_at_once_run_in_order(server: Server) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for k in range(100):
            more = {"sequence_id": 9, "sequence_start": k == 0, "sequence_end": k == 99, "request_id": str(k)}
            yield {"model_name": "leaky", "inputs": [tensor(ONES)], **more}

    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        answers = [answer async for answer in client.stream_infer(requests())]
    assert [error for _, error in answers] == [None] * 100
    assert [result.get_response().id for result, _ in answers] == [str(k) for k in range(100)]
    assert answers[-1][0].as_numpy("y") == pytest.approx(after(100), rel=1e-5)


async def test_pictures_come_as_jpegs(tmp_path: Path, start: Callable[..., Any]) -> None:
    spec = write_camera(tmp_path).manifest.inputs[0]
    jpegs = encoded(film(4))
    expected = camera_rollout(seen(jpegs, spec), np.ones((4, 2), np.float32), np.full(4, NOMINAL_S))
    server = await start(repository=tmp_path)
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert [t.datatype for t in (await client.get_model_metadata("camera")).inputs] == ["BYTES", "FP32"]
        for k, picture in enumerate(jpegs):
            inputs = [tensor(np.array([[picture]], np.object_), "camera"), tensor(ONES, "imu")]
            result = await client.infer("camera", inputs, sequence_id=1, sequence_start=k == 0)
            np.testing.assert_allclose(result.as_numpy("y")[0], expected[k], atol=1e-5)
        broken = [tensor(np.array([[b"no picture"]], np.object_), "camera"), tensor(ONES, "imu")]
        with pytest.raises(InferenceServerException, match=r"sequence 1 to model 'camera': .*camera") as error:
            await client.infer("camera", broken, sequence_id=1)
        assert error.value.status() == "StatusCode.INVALID_ARGUMENT"


# What is wrong

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no sequence": ({"sequence_id": 0}, "must specify a non-zero or non-empty correlation ID"),
    "no start": ({"sequence_id": 3}, "sequence 3 to model 'leaky' must specify the START flag on the first request"),
    "unknown model": ({"model_name": "nope"}, "Request for unknown model: 'nope' is not found"),
    "unknown version": (
        {"model_version": "9", "sequence_start": True},
        "Request for unknown model: 'leaky' version 9 is not found",
    ),
    "version in words": ({"model_version": "new"}, "failed to get model version from specified version string 'new'"),
    "wrong shape": (
        {"inputs": [tensor(np.ones((1, 3), np.float32))]},
        "unexpected shape for input 'x' for model 'leaky'. Expected [-1,2], got [1,3]",
    ),
    "no batch": (
        {"inputs": [tensor(np.ones(2, np.float32))]},
        "unexpected shape for input 'x' for model 'leaky'. Expected [-1,2], got [2]",
    ),
    "batch of 2": ({"inputs": [tensor(np.ones((2, 2), np.float32))]}, "must specify batch-size 1"),
    "wrong type": (
        {"inputs": [tensor(np.ones((1, 2), np.float64))]},
        "inference input 'x' data-type is 'FP64', but model 'leaky' expects 'FP32'",
    ),
    "unknown input": ({"inputs": [tensor(ONES, "z")]}, "unexpected inference input 'z' for model 'leaky'"),
    "no input": ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'leaky'. Got inputs []"),
    "unknown output": (
        {"outputs": [triton.InferRequestedOutput("z")]},
        "unexpected inference output 'z' for model 'leaky'",
    ),
    "not a number": (
        {"inputs": [tensor(np.array([[1, np.nan]], np.float32))]},
        "sequence 4 to model 'leaky': columns['x']: element 1 ('b') is nan",
    ),
    "a time in words": ({"parameters": {"timestamp_ns": "now"}}, "parameter 'timestamp_ns' is a string_param"),
}


async def test_what_is_wrong_is_said_as_triton_says_it_and_harms_nobody(infer: Infer) -> None:
    for rows, (wrong, (more, words)) in enumerate(WRONG.items(), 2):
        await step(infer, 4, sequence_start=rows == 2)
        asked = {"model_name": "leaky", "inputs": [tensor(ONES)], "sequence_id": 4} | more
        with pytest.raises(InferenceServerException) as error:
            await infer(asked.pop("model_name"), asked.pop("inputs"), **asked)
        assert words in error.value.message(), wrong
        if error.value.status() is not None:  # streams have none
            code = "NOT_FOUND" if "Request for unknown model" in words else "INVALID_ARGUMENT"
            assert error.value.status() == f"StatusCode.{code}", wrong
    assert await step(infer, 4) == pytest.approx(after(rows), rel=1e-6), "the sequence went on as if nothing had been"


@pytest.mark.parametrize("name", ["sync", "aio"])
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_a_compressed_request_is_refused_by_name(server: Server, name: str, algorithm: str) -> None:
    async with CLIENTS[name](f"127.0.0.1:{server.port}") as infer:
        await step(infer, 4, sequence_start=True)
        with pytest.raises(InferenceServerException, match=f"Compression algorithm '{algorithm}' is disabled") as error:
            await step(infer, 4, compression_algorithm=algorithm)
        assert error.value.status() == "StatusCode.UNIMPLEMENTED"
        assert await step(infer, 4) == pytest.approx(after(2), rel=1e-6), "the sequence went on as if nothing had been"


async def test_time_that_runs_backwards_is_refused(infer: Infer) -> None:
    await step(infer, 4, sequence_start=True, parameters={"timestamp_ns": 2_000_000_000})
    with pytest.raises(InferenceServerException, match="timestamp_ns: 1 is earlier than 2000000000"):
        await step(infer, 4, parameters={"timestamp_ns": 1})
    assert await step(infer, 4, parameters={"timestamp_ns": 2_100_000_000}) == pytest.approx(after(2), rel=1e-6)


async def test_a_sequence_of_another_version_must_start(infer: Infer) -> None:
    await step(infer, 4, sequence_start=True, model_version="1")
    with pytest.raises(InferenceServerException, match=r"must specify the START flag .*it is one of version 1"):
        await step(infer, 4, model_version="2")
    assert await step(infer, 4, model_version="1") == pytest.approx(after(2), rel=1e-6)


# Metadata


async def test_metadata_and_configuration_describe_a_sequence_model(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("leaky")
    assert await client.is_model_ready("leaky", "1")
    assert not await client.is_model_ready("leaky", "9")
    assert not await client.is_model_ready("nope")
    assert (await client.get_server_metadata()).name == "statestream"
    model = await client.get_model_metadata("leaky")
    assert (model.name, list(model.versions)) == ("leaky", ["1", "2"])
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.outputs] == [("y", "FP32", [-1, 2])]
    config = (await client.get_model_config("leaky")).config
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert [state.input_name for state in config.sequence_batching.state] == ["state_h"]
    assert config.sequence_batching.max_sequence_idle_microseconds == 3600 * 10**6
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found") as error:
        await client.get_model_metadata("nope")
    assert error.value.status() == "StatusCode.NOT_FOUND"


async def test_models_are_loaded_and_unloaded(tmp_path: Path, start: Callable[..., Any]) -> None:
    write_leaky(tmp_path, "leaky")
    write_leaky(tmp_path, "spare")
    server = await start(repository=tmp_path, models=("leaky",))
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:

        async def index() -> dict[str, str]:
            return {model.name: model.state for model in (await client.get_model_repository_index()).models}

        assert await index() == {"leaky": "READY", "spare": "UNAVAILABLE"}
        await client.load_model("spare")
        await client.load_model("spare")
        assert await index() == {"leaky": "READY", "spare": "READY"}
        await client.infer("spare", [tensor(ONES)], sequence_id=1, sequence_start=True)
        with pytest.raises(InferenceServerException, match="spare:1 has 1 sessions") as error:
            await client.unload_model("spare")
        assert error.value.status() == "StatusCode.FAILED_PRECONDITION"
        await client.infer("spare", [tensor(ONES)], sequence_id=1, sequence_end=True)
        await client.unload_model("spare")
        assert not await client.is_model_ready("spare")
        assert await index() == {"leaky": "READY", "spare": "UNAVAILABLE"}
        with pytest.raises(InferenceServerException, match="failed to load 'nope', no model 'nope'"):
            await client.load_model("nope")
        with pytest.raises(InferenceServerException, match="parameter 'config' is not supported"):
            await client.load_model("spare", config="{}")
