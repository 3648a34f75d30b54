"""Attacks. Each returns how often it tried; it fails where anything was allowed that should not be."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc

from statestream.proto.v1 import admin_pb2, inference_pb2
from statestream.proto.v1 import inference_pb2 as pb
from tests.hostile.arena import MAX_STREAMS, Arena
from tests.support.wire_client import METHOD, steps

Code = grpc.StatusCode
Metadata = Sequence[tuple[str, str]]
SERVICES = [service for file in (inference_pb2, admin_pb2) for service in file.DESCRIPTOR.services_by_name.values()]
UNARY = [
    (f"/{service.full_name}/{method.name}", method)
    for service in SERVICES
    for method in service.methods
    if not method.client_streaming
]
_PATIENCE_S = 30.0


async def at_rate(per_s: float, times: int, attempt: Callable[[int], Awaitable[Any]]) -> int:
    """Attempt something so many times, no faster than that."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    for number in range(times):
        await asyncio.sleep(max(0.0, begin_s + number / per_s - loop.time()))
        await attempt(number)
    return times


async def status_of(call: Awaitable[Any]) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await asyncio.wait_for(call, _PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK


async def ending(channel: grpc.aio.Channel, metadata: Metadata, *messages: bytes, **more: Any) -> grpc.StatusCode:
    """The status with which a stream ends by itself to which these messages are sent.

    (To write on would not do: gRPC's client forgets why a stream ended that it has just written to in vain.)
    """
    call = channel.stream_stream(METHOD)(metadata=metadata, **more)

    async def run() -> None:
        for message in messages:
            await call.write(message)
        while await call.read() is not grpc.aio.EOF:
            pass

    return await status_of(run())


def opening(session_id: str, channel: int = 1, **more: Any) -> bytes:
    """A message that opens a session."""
    open_ = pb.Open(channel=channel, session_id=session_id, **({"model": "leaky"} | more))
    return pb.StreamRequest(open=[open_]).SerializeToString()


async def bad_tokens(arena: Arena, per_s: float, rounds: int) -> int:
    """Every method with a token that is missing, wrong, of another scheme, expired, or said twice."""
    arm = arena.bearer("arm")[0][1]
    shown: list[Metadata] = [
        (),
        (("authorization", "Bearer arm.guess"),),
        (("authorization", "Bearer " + "x" * 4000),),
        (("authorization", arm.replace("Bearer", "Basic")),),
        (("authorization", arm[:-1]),),
        arena.bearer("late"),
    ]
    async with arena.channel() as channel:

        async def attempt(number: int) -> None:
            metadata = shown[number % len(shown)]
            path, _ = UNARY[number // len(shown) % len(UNARY)]
            assert await status_of(channel.unary_unary(path)(b"", metadata=metadata)) is Code.UNAUTHENTICATED, path
            if number % len(UNARY) == 0:
                assert await ending(channel, metadata) is Code.UNAUTHENTICATED

        return await at_rate(per_s, rounds * len(shown) * len(UNARY), attempt)


async def anothers_session(arena: Arena, victim: str, snapshot: bytes, per_s: float) -> int:
    """Reach for the session of another client by every RPC that names one, and by those of other roles."""
    tried = 0
    async with arena.channel() as channel:
        stream = channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)(metadata=arena.bearer("thief"))
        grasps = [
            {"resume": mode, "take_over": force} for mode in pb.ResumeMode.values() for force in (False, True)
        ] + [{"model": ""}, {"model": "nope"}, {"version": 9}]

        async def grasp(number: int) -> None:
            await stream.write(opening(victim, number, **grasps[number]))
            answer = await asyncio.wait_for(stream.read(), _PATIENCE_S)
            assert [failed.code for failed in answer.failed] == [Code.PERMISSION_DENIED.value[0]], answer
            await stream.write(steps([number], [2]).SerializeToString())
            answer = await asyncio.wait_for(stream.read(), _PATIENCE_S)
            assert answer.failed[0].field == "steps.channel", answer

        tried += await at_rate(per_s, len(grasps), grasp)
        stream.cancel()

        async def call(number: int) -> None:
            path, method = UNARY[number]
            fields = {"session_id": victim, "name": "leaky", "snapshot": snapshot}
            names = {field.name for field in method.input_type.fields}
            request = getattr(admin_pb2, method.input_type.name, None) or getattr(pb, method.input_type.name)
            data = request(**{name: value for name, value in fields.items() if name in names}).SerializeToString()
            code = await status_of(channel.unary_unary(path)(data, metadata=arena.bearer("thief")))
            allowed = path.rpartition("/")[2] in ("ListModels", "GetModel", "ListSessions")
            assert code is (Code.OK if allowed else Code.PERMISSION_DENIED), (path, code)

        tried += await at_rate(per_s, len(UNARY), call)
        listed = await channel.unary_unary("/statestream.v1.Admin/ListSessions")(b"", metadata=arena.bearer("thief"))
        assert victim.encode() not in listed
    return tried


async def paths(arena: Arena, per_s: float) -> int:
    """Names of models that lead out of the repository, from someone who may load models."""
    up = "../" * 8
    names = (
        "..", "../leaky", f"{up}etc", "/etc", "/etc/passwd", "leaky/1", "leaky/../leaky", "./leaky", ".hidden", "\\\\x",
        "..\\leaky", "leaky\0", "\0", "", "leaky\n", "~root", "%2e%2e", "x" * 100_000, "linked",
    )  # fmt: skip
    fine = (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
    async with arena.channel() as channel:
        load = channel.unary_unary("/statestream.v1.Admin/LoadModel")
        get = channel.unary_unary("/statestream.v1.Inference/GetModel")

        async def attempt(number: int) -> None:
            request = admin_pb2.LoadModelRequest(name=names[number]).SerializeToString()
            for method in (load, get):
                code = await status_of(method(request, metadata=arena.bearer("chief")))
                assert code in fine, (names[number][:20], code)

        return await at_rate(per_s, len(names), attempt)


async def malformed(arena: Arena, per_s: float, times: int) -> int:
    """Messages that are too large, packed, endless lists, or no messages at all."""
    many = range(200_000)
    ends: list[tuple[bytes, tuple[grpc.StatusCode, ...], dict[str, Any]]] = [
        (bytes(5 << 20), (Code.RESOURCE_EXHAUSTED,), {}),
        (gzip.compress(b"bomb"), (Code.INVALID_ARGUMENT,), {}),
        (bytes(3 << 20), (Code.UNIMPLEMENTED, Code.INTERNAL), {"compression": grpc.Compression.Gzip}),
        (b"\xff" + os.urandom(1000), (Code.INVALID_ARGUMENT,), {}),
        (steps(many, [1]).SerializeToString()[: 4 << 20], (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED), {}),
        (pb.StreamRequest(acks=pb.Acks(channel=many)).SerializeToString(), (Code.INVALID_ARGUMENT,), {}),
        (pb.StreamRequest(open=[pb.Open()] * 200_000).SerializeToString(), (Code.INVALID_ARGUMENT,), {}),
        (pb.StreamRequest(close=[pb.Close()] * 200_000).SerializeToString(), (Code.INVALID_ARGUMENT,), {}),
        (
            pb.StreamRequest(steps=pb.Steps(channel=[1], seq=[1], columns=[pb.Column()] * 200_000)).SerializeToString(),
            (Code.INVALID_ARGUMENT,),
            {},
        ),
    ]
    async with arena.channel() as channel:

        async def attempt(number: int) -> None:
            message, codes, more = ends[number % len(ends)]
            code = await ending(channel, arena.bearer("thief"), message, **more)
            assert code in codes, (number % len(ends), code)

        return await at_rate(per_s, times, attempt)


async def half_open_streams(arena: Arena, per_s: float, streams: int) -> int:
    """Streams that say nothing: those beyond what one client may have are refused, and those without a token are."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(arena.channel()) for _ in range(8)]
        calls: list[Any] = []
        strangers: list[Any] = []

        async def begin(number: int) -> None:
            channel = channels[number % len(channels)]
            begun = calls if number % 2 else strangers
            begun.append(channel.stream_stream(METHOD)(metadata=arena.bearer("thief") if number % 2 else ()))

        await at_rate(per_s, streams, begin)
        refused = Counter(await asyncio.gather(*(call.code() for call in strangers)))
        # Where they come faster than Python answers, gRPC itself turns some away, unheard.
        assert refused[Code.UNAUTHENTICATED] > 0
        assert set(refused) <= {Code.UNAUTHENTICATED, Code.CANCELLED}, refused
        ended = [asyncio.ensure_future(call.code()) for call in calls]
        until_s = time.monotonic() + 2 * _PATIENCE_S
        while sum(one.done() for one in ended) < len(calls) - MAX_STREAMS:
            assert time.monotonic() < until_s, Counter(one.done() for one in ended)
            await asyncio.sleep(0.05)
        codes = {one.result() for one in ended if one.done()}
        assert Code.RESOURCE_EXHAUSTED in codes
        assert codes <= {Code.RESOURCE_EXHAUSTED, Code.CANCELLED}, codes
        assert sum(not one.done() for one in ended) <= MAX_STREAMS
        for call in calls:
            call.cancel()
    return streams


async def half_open_connections(arena: Arena, connections: int) -> int:
    """Connections that say nothing, or begin to and stop."""
    opened = []
    try:
        for number in range(connections):
            opened.append(socket.create_connection(("127.0.0.1", arena.port), timeout=30))
            opened[-1].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: number % 25])
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)
    finally:
        for one in opened:
            one.close()
    return connections


async def slow_readers(arena: Arena, streams: int) -> int:
    """Clients that send and send, and never read: they are cut off, and their answers do not pile up."""
    codes = Counter(await asyncio.gather(*(asyncio.to_thread(_never_reads, arena, k) for k in range(streams))))
    assert set(codes) == {Code.RESOURCE_EXHAUSTED}, codes
    return streams


def _never_reads(arena: Arena, number: int) -> grpc.StatusCode:
    """Ask for a megabyte of refusals at a time until nothing more is taken; then read why."""
    asked = threading.Semaphore(0)

    def ask() -> Iterator[bytes]:
        yield opening(f"slow-{number}")
        for _ in range(100):
            yield pb.StreamRequest(steps=pb.Steps(channel=range(2, 20_002))).SerializeToString()
            asked.release()

    with grpc.insecure_channel(arena.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream(METHOD)(ask(), metadata=arena.bearer("thief"))
        while asked.acquire(timeout=2):
            pass
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return Code.OK
