"""A chunk without a valid row never reaches an engine, on whatever way its rows come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.models.spec import BoolArray, Float32Array, Manifest, Tensors
from statestream.proto.oip import inference_pb2 as oip
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.step_columns import StepColumns
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.embedded import Embedded
from statestream.service.engine import golden
from statestream.service.loadtest.requests import Messages
from statestream.service.loadtest.verify import Life, verify
from statestream.service.recording.recorder import Recorder
from statestream.service.recording.replay import Replayer, recordings
from statestream.service.serving.shadow import Shadow
from tests.conftest import FakeClock, leaky_manifest
from tests.support.bundles import leaky_golden
from tests.support.hosts import Amplified, FakeSubscriber, asks, leaky_bundle
from tests.support.wire_client import steps, wire_stream

NAN = np.full((3, 2), np.nan, np.float32)


class Seen(Amplified):
    """The leaky model, which remembers which rows of each call were valid."""

    def __init__(self, manifest: Manifest | None = None, batch_s: float = 1e-5) -> None:
        super().__init__(manifest or leaky_manifest(), 1.0, batch_s)
        self.calls: list[BoolArray] = []
        self.max_batch = 1024

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        self.calls.append(np.ones(len(dt_B1), np.bool_))
        return super().step(inputs, dt_B1, states)

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        self.calls.append(valid_BT)
        return super().chunk(inputs, dt_BT1, valid_BT, states)


@pytest.mark.parametrize("flags", [(), [pb.ROW_FLAG_SKIP] * 3], ids=["not finite", "skipped"])
async def test_from_a_client(start: Callable[..., Any], flags: Any) -> None:
    server, seen = await start(engine="python"), Seen()
    runner = server.host.versions.find("leaky")
    runner.engine = seen
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s")
        rows = [] if flags else NAN.tolist()
        answer = (await stream.ask(steps([1] * 3, [1, 2, 3], rows, flags=flags))).results
        assert set(answer.verdict) == {pb.VERDICT_SKIPPED if flags else pb.VERDICT_INVALID}
        assert seen.calls == []
        assert list((await stream.ask(steps([1], [4], [[1.0, 1.0]]))).results.verdict) == [pb.VERDICT_APPLIED]
    assert len(seen.calls) == 1


async def test_from_triton(start: Callable[..., Any]) -> None:
    server, seen = await start(), Seen()
    server.host.versions.find("leaky").engine = seen
    infer = oip.ModelInferRequest(model_name="leaky")
    infer.parameters["sequence_id"].int64_param = 7
    infer.parameters["sequence_start"].bool_param = True
    infer.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    infer.raw_input_contents.append(NAN[0].tobytes())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", oip.ModelInferRequest.SerializeToString
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(infer)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert seen.calls == []


def test_embedded() -> None:
    seen = Seen()
    session = Embedded(seen).session()  # type: ignore[arg-type]
    assert len(session.chunk(NAN).outputs["y"]) == 0
    assert seen.calls == []
    session.chunk(np.ones((3, 2), np.float32))
    assert [call.shape for call in seen.calls] == [(1, 3)]


async def test_a_shadow(clock: FakeClock) -> None:
    host, seen = Host.build(ServerConfig(), clock), Seen(leaky_manifest(version=2))
    runner = host.models.add(*leaky_bundle(leaky_manifest()))
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    runner.attach(Shadow(SimpleNamespace(manifest=seen.manifest), seen, runner))  # type: ignore[arg-type]
    runner.offer([held.slot] * 3, StepColumns([1, 2, 3], columns=[("x", NAN.tobytes())]))
    await runner.settled(held.slot)
    await runner.rest()
    assert seen.calls == []
    runner.offer([held.slot] * 3, StepColumns([4, 5, 6], columns=[("x", np.ones((3, 2), "<f4").tobytes())]))
    await runner.settled(held.slot)
    await runner.rest()
    assert len(seen.calls) == 1


async def test_a_replay(clock: FakeClock, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, flush_s=3600.0)
    host, seen = Host.build(ServerConfig(), clock, on_load=recorder.attach), Seen()
    host.models.add(*leaky_bundle(leaky_manifest()))
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("robot"))
    held.runner.offer([held.slot] * 3, StepColumns([1, 2, 3], columns=[("x", NAN.tobytes())]))
    await held.runner.settled(held.slot)
    recorder.close()
    (recording,) = recordings(tmp_path, "leaky")
    Replayer(seen, tolerance=1e-5).run(recording)  # type: ignore[arg-type]
    assert seen.calls == []


def test_a_verification_of_a_load_test() -> None:
    seen, messages = Seen(), Messages(leaky_manifest(), channels=2, chunk=3, seed=1)
    life = Life("life", 0, 0)
    life.due_ns.extend([10**9, 2 * 10**9])
    results = pb.Results(channel=[0, 0, 0, 1, 1, 1], seq=[1, 2, 3] * 2, verdict=[pb.VERDICT_INVALID] * 6)
    life.responses.append(pb.StreamResponse(results=results).SerializeToString())
    assert verify(seen, [life], messages).outputs == 0  # type: ignore[arg-type]
    assert seen.calls == []


def test_the_golden_recording() -> None:
    recording, seen = leaky_golden(), Seen()
    paths = {"path": Path("leaky/1"), "step_path": Path("leaky/1/step.onnx"), "chunk_path": Path("leaky/1/chunk.onnx")}
    bundle = SimpleNamespace(**paths, manifest=seen.manifest, golden=lambda: recording)
    golden.check(seen, bundle, 1e-5, lambda coupling: "")  # type: ignore[arg-type]
    assert any(not call.all() for call in seen.calls), "rows that are not valid stand between the others"
    assert all(call.reshape(len(call), -1).any(axis=1).all() for call in seen.calls)


def test_a_verification_computes_each_session_alone() -> None:
    """Beside others, a model that mixes sessions would agree with a server that mixes them."""
    seen, messages = Seen(), Messages(leaky_manifest(), channels=3, chunk=2, seed=1)
    life = Life("life", 0, 0)
    life.due_ns.extend([10**9])
    results = pb.Results(channel=[0, 0, 1, 1, 2, 2], seq=[1, 2] * 3, verdict=[pb.VERDICT_APPLIED] * 6)
    life.responses.append(pb.StreamResponse(results=results).SerializeToString())
    verify(seen, [life], messages)  # type: ignore[arg-type]
    assert {call.shape[0] for call in seen.calls} == {1}
