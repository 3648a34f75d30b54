"""`inference.GRPCInferenceService` beside the native services: garbage, callers that go away, a drain, reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from statestream.proto.oip import inference_pb2 as pb
from statestream.service.server.server import Server
from statestream.service.serving.stats import stats_of
from tests.conftest import leak
from tests.support.wire_client import WireStream

pytestmark = pytest.mark.usefixtures("transport")

ONES = np.ones((1, 2), np.float32)
_SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def request(*, start: bool = False, sequence: int = 7) -> pb.ModelInferRequest:
    """A row of ones."""
    asked = pb.ModelInferRequest(model_name="leaky", raw_input_contents=[ONES.tobytes()])
    asked.inputs.add(name="x", datatype="FP32", shape=(1, 2))
    asked.parameters["sequence_id"].int64_param = sequence
    asked.parameters["sequence_start"].bool_param = start
    return asked


def infer(channel: grpc.aio.Channel, asked: pb.ModelInferRequest) -> Any:
    serialize, parse = pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    return channel.unary_unary(f"{_SERVICE}/ModelInfer", serialize, parse)(asked)


def stream(channel: grpc.aio.Channel) -> Any:
    """Of bytes, so that it may say what no client would."""
    return channel.stream_stream(f"{_SERVICE}/ModelStreamInfer", None, pb.ModelStreamInferResponse.FromString)()


def shown(response: pb.ModelInferResponse) -> np.ndarray:
    """The state that an output shows."""
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(1, 2) / 2


def after(rows: int) -> np.ndarray:
    h = np.full((1, 2), 0.5, np.float32)
    for _ in range(rows):
        h = leak(h, ONES, 0.1)
    return h


async def test_garbage_ends_its_stream_after_what_came_before_it(channel: grpc.aio.Channel) -> None:
    call = stream(channel)
    await call.write(request(start=True).SerializeToString())
    await call.write(b"\xff\xff")
    response = await call.read()
    np.testing.assert_allclose(shown(response.infer_response), after(1), rtol=1e-6)
    assert response.infer_response.parameters["triton_final_response"].bool_param
    assert await WireStream(call).ends() == (grpc.StatusCode.INVALID_ARGUMENT, "2 bytes that are no ModelInferRequest")
    np.testing.assert_allclose(shown(await infer(channel, request())), after(2), rtol=1e-6)


async def test_an_error_on_a_stream_names_its_request_and_the_stream_goes_on(channel: grpc.aio.Channel) -> None:
    call = stream(channel)
    wrong = request()
    wrong.id = "first"
    await call.write(wrong.SerializeToString())
    await call.write(request(start=True).SerializeToString())
    await call.done_writing()
    answers = {(await call.read()).infer_response.id for _ in range(2)}
    assert answers == {"first", ""}
    assert await WireStream(call).ends() == (grpc.StatusCode.OK, "")


async def test_what_was_begun_is_carried_out_though_the_caller_goes_away(
    server: Server, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await infer(channel, request(start=True))
    runner = server.host.versions.find("leaky")
    queued = asyncio.Event()
    with monkeypatch.context() as held_up:
        held_up.setattr(runner, "wake", queued.set)
        given_up = infer(channel, request())
        await asyncio.wait_for(queued.wait(), 30)
        given_up.cancel()
    following = infer(channel, request())
    runner.wake()
    np.testing.assert_allclose(shown(await following), after(3), rtol=1e-6)


async def test_unary_requests_of_many_sequences_share_turns(server: Server, channel: grpc.aio.Channel) -> None:
    sequences, steps = 64, 20

    async def sequence(number: int) -> None:
        for step in range(1, steps + 1):
            response = await infer(channel, request(start=step == 1, sequence=number))
            np.testing.assert_allclose(shown(response), after(step), rtol=1e-6)

    await asyncio.gather(*(sequence(number) for number in range(1, sequences + 1)))
    turns = stats_of(server.host.versions.find("leaky")).batch.n
    assert sequences * steps >= 8 * turns, f"{sequences * steps} steps in {turns} turns"


async def test_unary_requests_of_one_client_do_not_wait_for_others(server: Server, channel: grpc.aio.Channel) -> None:
    stalled = channel.stream_unary(f"{_SERVICE}/ModelInfer")()  # a call whose request never comes
    await stalled.wait_for_connection()
    for step in range(1, 21):
        np.testing.assert_allclose(shown(await infer(channel, request(start=step == 1))), after(step), rtol=1e-6)
    stalled.cancel()
    assert stats_of(server.host.versions.find("leaky")).batch.n == 20


async def test_a_drain_answers_what_was_begun_and_ends_the_streams(server: Server, channel: grpc.aio.Channel) -> None:
    call = stream(channel)
    await call.write(request(start=True).SerializeToString())
    np.testing.assert_allclose(shown((await call.read()).infer_response), after(1), rtol=1e-6)
    stopping = asyncio.create_task(server.stop())
    assert await WireStream(call).ends() == (grpc.StatusCode.UNAVAILABLE, "the server is draining")
    await stopping


async def test_a_sequence_outlives_the_restart_of_a_server_with_a_store(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    for rows in (1, 2, 3):
        server = await start(store=f"sqlite:{tmp_path}/sessions.db")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            np.testing.assert_allclose(shown(await infer(channel, request(start=rows == 1))), after(rows), rtol=1e-6)
        await server.stop()


async def test_what_is_not_offered_is_unimplemented(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(f"{_SERVICE}/SystemSharedMemoryStatus")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_describes_both_protocols(channel: grpc.aio.Channel) -> None:
    symbols = ("inference.GRPCInferenceService", "inference.ModelInferRequest", "statestream.v1.Inference", "nope")
    asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    asked.append(reflection_pb2.ServerReflectionRequest(list_services=""))
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked))
    *answers, services = [answer async for answer in call]
    files = [len(answer.file_descriptor_response.file_descriptor_proto) for answer in answers]
    assert files == [1, 1, 1, 0]
    names = {service.name for service in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "statestream.v1.Admin", "grpc.health.v1.Health"} <= names
