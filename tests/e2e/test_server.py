"""A server's life: models that load or are refused, sessions that outlive streams, health, metrics, drain."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from statestream.models import bundle as bundles
from statestream.models.bundle import CHUNK, STEP, Bundle, Golden, file_hash, read_manifest, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import InputSpec, OutputSpec, StateSpec
from statestream.proto.v1 import admin_pb2, admin_pb2_grpc, inference_pb2_grpc
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.engine.onnx import Engine
from statestream.service.server.server import Server
from tests.conftest import leaky_manifest
from tests.support.bundles import leaky_golden, leaky_step, write_leaky, write_zeros
from tests.support.own_bundles import LEAK, node, plain_step, step_graph, write_own
from tests.support.wire_client import METHOD, WireStream, outputs, steps, wire_stream

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("transport")]


def stubs(server: Server) -> tuple[Any, Any, Any, Any]:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    return (
        channel,
        inference_pb2_grpc.InferenceStub(channel),
        admin_pb2_grpc.AdminStub(channel),
        health_pb2_grpc.HealthStub(channel),
    )


# Models


async def test_models_are_listed_with_their_contract(server: Server) -> None:
    channel, inference, _, _ = stubs(server)
    async with channel:
        listed = (await inference.ListModels(pb.ListModelsRequest())).models
        assert [(m.name, m.version) for m in listed] == [("leaky", 2), ("other", 1)]
        model = (await inference.GetModel(pb.GetModelRequest(name="leaky"))).model
        assert (list(model.inputs[0].shape), list(model.inputs[0].labels)) == ([2], ["a", "b"])
        assert json.loads(model.manifest_json)["time"]["nominal_s"] == model.time.nominal_s == 0.1
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await inference.GetModel(pb.GetModelRequest(name="leaky", version=9))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert "no version 9 here; it has [2]" in (error.value.details() or "")


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / STEP).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / STEP).write_bytes(content)


def lose_a_state(folder: Path) -> None:
    m = leaky_manifest("broken")
    m = m.model_copy(update={"states": (*m.states, StateSpec(name="memory", shape=(3,)))})
    good = leaky_golden()
    golden = Golden(good.inputs, good.dt_s, good.outputs, {**good.states, "memory": np.zeros(3, np.float32)})
    graphs = {STEP: leaky_step(), CHUNK: wrap_in_scan(leaky_step(), leaky_manifest())}
    write_bundle(folder, m, golden, {name: graph.SerializeToString() for name, graph in graphs.items()})


def spoil_golden(folder: Path) -> None:
    good = leaky_golden()
    y = good.outputs["y"].copy()
    y[-1, 0] += 1e-3
    golden = Golden(good.inputs, good.dt_s, {"y": y}, good.states)
    graphs = {name: (folder / name).read_bytes() for name in (STEP, CHUNK)}
    write_bundle(folder, leaky_manifest("broken"), golden, graphs)


def rehash(folder: Path) -> None:
    """Have the manifest hold the hashes of the files as they are: nothing is damaged, it was made so."""
    manifest = read_manifest(folder)
    manifest = manifest.model_copy(update={"files": {name: file_hash(folder / name) for name in manifest.files}})
    (folder / "manifest.json").write_text(manifest.model_dump_json())


def graphs_of(step: onnx.ModelProto) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / STEP).write_bytes(step.SerializeToString())
        rehash(folder)

    return damage


def double_golden(folder: Path) -> None:
    with np.load(folder / "golden.npz") as archive:
        np.savez(folder / "golden.npz", **{name: array.astype(np.float64) for name, array in archive.items()})
    rehash(folder)


def cut_golden(folder: Path) -> None:
    content = (folder / "golden.npz").read_bytes()
    (folder / "golden.npz").write_bytes(content[: len(content) * 2 // 3])
    rehash(folder)


def cut_golden_within(folder: Path) -> None:
    """The archive's table is whole, one of its arrays is not."""
    with zipfile.ZipFile(folder / "golden.npz", "w") as archive:
        archive.writestr("dt.npy", b"\x93NUMPY\x01\x00")
    rehash(folder)


def single_array(folder: Path) -> None:
    with (folder / "golden.npz").open("wb") as file:
        np.save(file, np.ones(3))
    rehash(folder)


def latin_manifest(folder: Path) -> None:
    manifest = read_manifest(folder).model_copy(update={"description": "für Größe"})
    (folder / "manifest.json").write_bytes(manifest.model_dump_json().encode("latin-1"))


def noise(folder: Path) -> None:
    (folder / STEP).write_bytes(bytes(range(256)))
    rehash(folder)


def huge_state(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["states"][0]["shape"] = [2**31]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def loop_of_links(folder: Path) -> None:
    (folder / STEP).unlink()
    (folder / STEP).symlink_to(STEP)


def pipe(folder: Path) -> None:
    (folder / STEP).unlink()
    os.mkfifo(folder / STEP)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_byte, "step.onnx is damaged: sha256"),
    (lose_a_state, "no input 'state_memory'"),
    (spoil_golden, "does not reproduce golden.npz: output 'y' is off by"),
    (lambda folder: (folder / "golden.npz").unlink(), "cannot read golden.npz"),
    (lambda folder: (folder / "manifest.json").write_text('{"name": "broken"}'), "version"),
    (graphs_of(plain_step(batch=1)), "step.onnx: input 'x' has a fixed batch of 1"),
    (graphs_of(plain_step(ir_version=99)), "step.onnx: onnxruntime "),
    (graphs_of(plain_step(opset=99)), "refuses it: "),
    (noise, "step.onnx is no ONNX file: "),
    (double_golden, "golden.npz array 'input_x' is float64, the manifest says float32"),
    (cut_golden, "cannot read golden.npz: "),
    (cut_golden_within, "cannot read golden.npz: "),
    (single_array, "golden.npz is a single array; expected an archive"),
    (latin_manifest, "manifest.json is not UTF-8 (byte 0xfc at "),
    (huge_state, "'state_h' has shape"),
    (loop_of_links, "broken/1"),
    (pipe, "cannot read step.onnx: Is no regular file"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
async def test_a_damaged_bundle_is_refused_with_its_reason_and_others_serve(
    tmp_path: Path, start: Callable[..., Any], damage: Callable[[Path], object], words: str
) -> None:
    write_leaky(tmp_path)
    damage(write_leaky(tmp_path, "broken").path)
    server = await start(repository=tmp_path)
    channel, inference, admin, health = stubs(server)
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await inference.GetModel(pb.GetModelRequest(name="broken"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        refused = error.value.details() or ""
        assert "was refused" in refused
        assert words in refused
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await admin.LoadModel(admin_pb2.LoadModelRequest(name="broken"))
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert words in (error.value.details() or "")
        answer = await health.Check(health_pb2.HealthCheckRequest(service="broken"))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert "onnxruntime_src" not in refused, "its reason, not its C++"
        assert "\n" not in refused
        assert len(refused) < 700
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s")
        assert list((await stream.ask(steps([1], [1]))).results.verdict) == [pb.VERDICT_APPLIED]


@pytest.mark.parametrize("moment", ["open", "check", "measure"])
async def test_any_exception_while_a_bundle_loads_refuses_it_alone(
    tmp_path: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(engine: Engine, bundle: Bundle | None = None, **options: Any) -> Any:
        if (bundle or engine).manifest.name == "broken":
            raise ZeroDivisionError("nobody thought of this")
        return whole(engine, *([] if bundle is None else [bundle]))

    whole = getattr(Engine, moment)
    if moment == "open":
        opens = Engine.open

        def failing(bundle: Bundle, **options: Any) -> Engine:
            if bundle.manifest.name == "broken":
                raise ZeroDivisionError("nobody thought of this")
            return opens(bundle, **options)

        monkeypatch.setattr(Engine, "open", failing)
    else:
        monkeypatch.setattr(Engine, moment, fail)
    write_leaky(tmp_path)
    write_leaky(tmp_path, "broken")
    server = await start(repository=tmp_path)
    assert [runner.manifest.name for runner in server.host.versions] == ["leaky"]
    assert f"{tmp_path}/broken/1 cannot be loaded: nobody thought of this" in server.host.versions.refused["broken"]
    channel, _, admin, _ = stubs(server)
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await admin.LoadModel(admin_pb2.LoadModelRequest(name="broken"))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "cannot be loaded: nobody thought of this" in (error.value.details() or "")


async def test_a_row_that_no_message_can_carry_is_refused_with_the_setting(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    time = leaky_manifest().time
    for name, size in (("small", 900), ("large", 1000)):
        x, y = InputSpec(name="x", shape=(size,)), OutputSpec(name="y", shape=(1,), std=(1.0,))
        write_zeros(tmp_path, name, x, y, time)
    server = await start(repository=tmp_path, max_message_bytes=4000)
    assert [runner.manifest.name for runner in server.host.versions] == ["small"]
    assert "max_message_bytes is 4000; raise max_message_bytes" in server.host.versions.refused["large"]
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s", model="small")
        largest = steps([1], [1], [[1.0] * 900], t_ns=[2**62])
        assert list((await stream.ask(largest)).results.verdict) == [pb.VERDICT_APPLIED]


async def test_a_model_that_mixes_sessions_is_served_one_session_at_a_time(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    mixing = step_graph([*LEAK, node("Softmax", "state_h_out", "y", axis=0)])
    write_own(tmp_path, mixing, name="mixing")
    write_own(tmp_path, mixing, name="alone", max_batch=1)
    server = await start(repository=tmp_path)
    assert [runner.manifest.name for runner in server.host.versions] == ["alone"]
    assert "mixes the sessions of a batch by Softmax" in server.host.versions.refused["mixing"]
    async with wire_stream(server.port) as stream:
        for channel in range(3):
            await stream.open(channel, f"s{channel}", model="alone")
        answer = await stream.ask(steps([0, 1, 2], [1, 1, 1], [[1.0, 2.0], [50.0, 0.0], [3.0, 3.0]]))
        assert answer.results.batch == 3
        np.testing.assert_array_equal(outputs(answer), np.ones((3, 2)), "a softmax over one row is one")


async def test_folders_that_are_no_versions_are_passed_over(tmp_path: Path, start: Callable[..., Any]) -> None:
    write_leaky(tmp_path)
    for name in ("01", "²", "٣", "-1"):
        (tmp_path / "leaky" / name).mkdir()
    server = await start(repository=tmp_path)
    assert [runner.manifest.ref for runner in server.host.versions] == ["leaky:1"]


async def test_folders_that_cannot_be_read_harm_no_other(
    tmp_path: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions(repository: Path, name: str) -> list[int]:
        if name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(repository, name)

    read = bundles.versions
    monkeypatch.setattr(bundles, "versions", versions)  # a superuser may read every folder
    write_leaky(tmp_path)
    (tmp_path / "closed").mkdir()
    (tmp_path / os.fsdecode(b"no\xfftext") / "1").mkdir(parents=True)
    server = await start(repository=tmp_path)
    assert [runner.manifest.ref for runner in server.host.versions] == ["leaky:1"]
    assert server.host.versions.refused == {"closed": f"{tmp_path}/closed cannot be read: Permission denied"}


async def test_models_come_and_go_while_others_serve(tmp_path: Path, start: Callable[..., Any]) -> None:
    write_leaky(tmp_path, version=1)
    server = await start(repository=tmp_path)
    write_leaky(tmp_path, version=2)
    channel, inference, admin, _ = stubs(server)
    async with channel, wire_stream(server.port) as stream:
        await stream.open(1, "old")
        assert (await admin.LoadModel(admin_pb2.LoadModelRequest(name="leaky"))).version == 2
        opened = (await stream.open(2, "new")).opened[0]
        assert opened.version == 2
        for name, version, code in [
            ("leaky", 1, grpc.StatusCode.FAILED_PRECONDITION),
            ("leaky", 7, grpc.StatusCode.NOT_FOUND),
            ("../leaky", 1, grpc.StatusCode.NOT_FOUND),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await admin.UnloadModel(admin_pb2.UnloadModelRequest(name=name, version=version))
            assert error.value.code() is code
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await admin.LoadModel(admin_pb2.LoadModelRequest(name="../leaky"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        await admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="old"))
        assert (await stream.receive()).notices[0].kind == pb.NOTICE_KIND_EVICTED
        await admin.UnloadModel(admin_pb2.UnloadModelRequest(name="leaky", version=1))
        assert [m.version for m in (await inference.ListModels(pb.ListModelsRequest())).models] == [2]
        assert list((await stream.ask(steps([2], [1]))).results.verdict) == [pb.VERDICT_APPLIED]


# Sessions


async def test_a_session_outlives_its_stream_and_goes_on_where_it_was(server: Server) -> None:
    async with wire_stream(server.port) as stream:
        await stream.open(1, "robot")
        await stream.ask(steps([1], [1], [[1, 2]], t_ns=[10**9]))
    async with wire_stream(server.port) as stream:
        await asyncio.sleep(0.05)
        response = await stream.open(4, "robot", model="")
        opened = response.opened[0]
        assert (opened.resumed, opened.settled_seq, opened.epoch, opened.model) == (True, 1, 2, "leaky")
        assert (list(response.results.channel), list(response.results.seq)) == ([4], [1])
        after = await stream.ask(steps([4], [2], [[0, 0]], t_ns=[10**9 + 5 * 10**8]))
        np.testing.assert_allclose(after.results.dt_s, [0.5])
        np.testing.assert_allclose(outputs(after)[0], outputs(response)[0] * np.exp(-0.5), rtol=1e-5)


async def test_taking_over_fences_the_old_stream(server: Server) -> None:
    async with wire_stream(server.port) as old, wire_stream(server.port) as new:
        await old.open(1, "robot")
        refused = (await new.open(1, "robot")).failed[0]
        assert (refused.code, refused.field) == (grpc.StatusCode.ALREADY_EXISTS.value[0], "open.session_id")
        opened = (await new.open(1, "robot", take_over=True)).opened[0]
        assert opened.epoch == 2
        notice = (await old.receive()).notices[0]
        assert (notice.kind, notice.channel) == (pb.NOTICE_KIND_FENCED, 1)
        assert (await old.ask(steps([1], [1]))).failed[0].field == "steps.channel"
        assert list((await new.ask(steps([1], [1]))).results.verdict) == [pb.VERDICT_APPLIED]


async def test_many_clients_racing_for_one_session_leave_one_owner_an_epoch(server: Server) -> None:
    async def claim(stream: WireStream) -> int:
        return int((await stream.open(1, "prize", take_over=True)).opened[0].epoch)

    async with wire_stream(server.port) as a, wire_stream(server.port) as b, wire_stream(server.port) as c:
        epochs = await asyncio.gather(claim(a), claim(b), claim(c))
        assert sorted(epochs) == [1, 2, 3]


async def test_streams_that_are_cancelled_at_once_leave_nothing_behind(server: Server) -> None:
    channel, inference, _, _ = stubs(server)
    async with channel:
        await inference.ListModels(pb.ListModelsRequest())
        for _ in range(200):
            call = channel.stream_stream(METHOD, None, None)()
            await asyncio.sleep(0)  # the call is on its way
            call.cancel()
        await inference.ListModels(pb.ListModelsRequest())  # and they have arrived
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not server.streams:
                return
    pytest.fail(f"{server.streams} of 200 streams are left")


async def test_a_closed_session_is_gone_and_a_detached_one_waits(server: Server) -> None:
    async with wire_stream(server.port) as stream:
        for channel, (name, end) in enumerate([("ended", True), ("kept", False)]):
            await stream.open(channel, name)
            await stream.send(steps([channel], [1]))
            await stream.send(pb.StreamRequest(close=[pb.Close(channel=channel, end_session=end)]))
            assert list((await stream.receive()).results.seq) == [1], "rows sent before the close are answered"
            assert (await stream.receive()).closed[0].settled_seq == 1
        refused = (await stream.open(5, "ended", resume=pb.RESUME_MODE_EXISTING)).failed[0]
        assert refused.code == grpc.StatusCode.NOT_FOUND.value[0]
        assert (await stream.open(6, "kept", resume=pb.RESUME_MODE_EXISTING)).opened[0].settled_seq == 1
        assert not (await stream.open(7, "ended")).opened[0].resumed


async def test_an_idle_session_expires_and_a_held_one_does_not(start: Callable[..., Any]) -> None:
    server = await start(idle_ttl_s=0.1)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "held")
        await stream.open(2, "left")
        await stream.ask(pb.StreamRequest(close=[pb.Close(channel=2)]))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if len(server.host.session_manager.registry) == 1:
                break
        assert [info.session_id for _, info in server.host.session_manager.infos()] == ["held"]


async def test_no_more_sessions_than_configured(start: Callable[..., Any]) -> None:
    server = await start(max_sessions=1)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "first")
        refused = (await stream.open(2, "second")).failed[0]
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert refused.retry_after_ms > 0


async def test_operators_list_inspect_reset_and_close_sessions(server: Server) -> None:
    channel, _, admin, _ = stubs(server)
    async with channel, wire_stream(server.port) as stream:
        for number in range(5):
            await stream.open(number, f"robot-{number}", model="other" if number == 4 else "leaky")
        await stream.ask(steps([0], [1], t_ns=[7]))
        page = await admin.ListSessions(admin_pb2.ListSessionsRequest(limit=2, after="robot-0"))
        assert ([s.session_id for s in page.sessions], page.total) == (["robot-1", "robot-2"], 5)
        page = await admin.ListSessions(admin_pb2.ListSessionsRequest(model="other"))
        assert [s.session_id for s in page.sessions] == ["robot-4"]
        found = await admin.GetSession(admin_pb2.GetSessionRequest(session_id="robot-0"))
        assert (found.session.settled_seq, found.session.last_timestamp_ns, found.session.attached) == (1, 7, True)
        assert dict(found.session.verdicts) == {"APPLIED": 1}
        await admin.ResetSession(admin_pb2.ResetSessionRequest(session_id="robot-0"))
        assert (await stream.receive()).notices[0].kind == pb.NOTICE_KIND_RESET
        found = await admin.GetSession(admin_pb2.GetSessionRequest(session_id="robot-0"))
        np.testing.assert_array_equal(np.frombuffer(found.state["h"], "<f4"), [0.5, 0.5])
        assert not found.session.HasField("last_timestamp_ns")
        assert found.session.settled_seq == 1
        await admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="robot-1"))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await admin.GetSession(admin_pb2.GetSessionRequest(session_id="robot-1"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_engine_that_fails_tells_its_sessions_and_changes_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = server.host.versions.find("leaky")
    async with wire_stream(server.port) as stream, wire_stream(server.port) as other:
        await stream.open(1, "s")
        await other.open(1, "o", model="other")
        await stream.ask(steps([1], [1]))
        before = runner.table.state("s")

        def fail(*_: Any) -> None:
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(runner.engine, "step", fail)
            patch.setattr(runner.batcher, "plain_turns", None)  # What fails in C++, Python tries again.
            refused = (await stream.ask(steps([1], [2]))).failed[0]
        assert refused.code == grpc.StatusCode.INTERNAL.value[0]
        assert "out of memory" not in refused.text, "no inside of the server leaves it"
        np.testing.assert_array_equal(runner.table.state("s")["h"], before["h"])
        assert list((await stream.ask(steps([1], [2]))).results.verdict) == [pb.VERDICT_APPLIED]
        assert list((await other.ask(steps([1], [1]))).results.verdict) == [pb.VERDICT_APPLIED]


async def test_a_large_model_runs_in_a_thread_with_the_same_answers(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statestream.service.serving.runner.INLINE_S", 0.0)
    server = await start()
    assert not server.host.versions.find("leaky").inline
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s")
        for seq in range(1, 200):
            await stream.send(steps([1], [seq]))
        seqs: list[int] = []
        while len(seqs) < 199:
            results = (await stream.receive()).results
            assert set(results.verdict) == {pb.VERDICT_APPLIED}
            seqs += results.seq
        assert seqs == list(range(1, 200))
        await stream.send(pb.StreamRequest(close=[pb.Close(channel=1, end_session=True)]))
        assert (await stream.receive()).closed[0].settled_seq == 199


async def test_rows_of_two_models_may_share_a_message(server: Server) -> None:
    async with wire_stream(server.port) as stream:
        await stream.open(1, "a", model="leaky")
        await stream.open(2, "b", model="other")
        await stream.send(steps([1, 2, 1], [1, 1, 2], [[1, 1], [5, 5], [2, 2]]))
        answers = {}
        for _ in range(2):
            response = await stream.receive()
            for channel, seq, y in zip(response.results.channel, response.results.seq, outputs(response), strict=True):
                answers[channel, seq] = y
        assert answers.keys() == {(1, 1), (1, 2), (2, 1)}
        np.testing.assert_allclose(answers[2, 1], 2 * (0.5 * np.exp(-0.1) + 5) * np.ones(2), rtol=1e-5)


# Around


async def test_health_has_an_entry_for_each_model_and_reflection_knows_the_services(server: Server) -> None:
    channel, _, _, health = stubs(server)
    async with channel:
        for service in ("", "leaky", "other", "statestream.v1.Inference", "inference.GRPCInferenceService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health.Check(health_pb2.HealthCheckRequest(service="nope"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}
        assert {"statestream.v1.Inference", "statestream.v1.Admin", "grpc.health.v1.Health"} <= names


async def test_metrics_count_every_verdict(start: Callable[..., Any], unused_tcp_port: int) -> None:
    server = await start(metrics_address=f"127.0.0.1:{unused_tcp_port}")
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s")
        await stream.ask(steps([1, 1], [1, 2]))
        await stream.ask(steps([1], [3], [[np.nan, 0]]))
        await stream.ask(steps([1], [9]))
        url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    for line in (
        'statestream_rows_total{model="leaky",verdict="applied",version="2"} 2.0',
        'statestream_rows_total{model="leaky",verdict="invalid",version="2"} 1.0',
        'statestream_rows_total{model="leaky",verdict="gap",version="2"} 1.0',
        'statestream_sessions{model="leaky",version="2"} 1.0',
        'statestream_batch_sessions_count{model="leaky",version="2"} 3.0',
        "statestream_streams 1.0",
        f'statestream_transport{{transport="{server.transport}"}} 1.0',
    ):
        assert line in text, line


async def test_a_drain_answers_what_waits_says_so_and_refuses_new_sessions(start: Callable[..., Any]) -> None:
    server = await start()
    async with wire_stream(server.port) as stream:
        await stream.open(1, "s")
        await stream.send(steps([1] * 500, range(1, 501), np.ones((500, 2))))
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(server.stop())
        seqs: list[int] = []
        notices: list[int] = []
        with pytest.raises(grpc.aio.AioRpcError) as error:  # noqa: PT012
            while True:
                response = await stream.receive()
                seqs += response.results.seq
                notices += [notice.kind for notice in response.notices]
        assert seqs == list(range(1, 501))
        assert notices == [pb.NOTICE_KIND_DRAIN]
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_sigterm_drains_and_exits_with_0(repository: Path, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    code = (
        "import logging; logging.basicConfig(level='INFO')\n"
        "from statestream.service.server.server import run\nfrom statestream.service.config import ServerConfig\n"
        f"run(ServerConfig(repository={str(repository)!r}, address={address!r}, providers=('cpu',), drain_s=2))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            call = channel.stream_stream(METHOD, pb.StreamRequest.SerializeToString, pb.StreamResponse.FromString)()
            await call.write(pb.StreamRequest(open=[pb.Open(channel=1, model="leaky")]))
            assert (await call.read()).opened[0].session_id
            process.send_signal(signal.SIGTERM)
            assert (await call.read()).notices[0].kind == pb.NOTICE_KIND_DRAIN
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        assert "Traceback" not in err.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_unix_socket_serves_clients_on_the_device(start: Callable[..., Any], tmp_path: Path) -> None:
    await start(address=f"unix:{tmp_path}/s")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        listed = await inference_pb2_grpc.InferenceStub(channel).ListModels(pb.ListModelsRequest())
        assert [m.name for m in listed.models] == ["leaky", "other"]


async def test_an_empty_repository_and_a_taken_port_say_so(
    start: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="holds no bundle"):
        await start(repository=tmp_path)
    with pytest.raises(Exception, match=f"cannot listen on 127.0.0.1:{server.port}"):
        await start(address=f"127.0.0.1:{server.port}")
    shutil.rmtree(tmp_path)
