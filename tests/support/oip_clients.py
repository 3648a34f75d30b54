"""Unmodified clients of tritonclient, in each of its four ways of asking, behind one coroutine."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import np_to_triton_dtype

Infer = Callable[..., Any]
_PATIENCE_S = 60.0


def tensor(x: np.ndarray, name: str = "x") -> tritonclient.grpc.InferInput:
    """An input of these values."""
    given = tritonclient.grpc.InferInput(name, list(x.shape), np_to_triton_dtype(x.dtype))
    given.set_data_from_numpy(x)
    return given


@asynccontextmanager
async def sync(target: str) -> AsyncIterator[Infer]:
    """`InferenceServerClient.infer`, in a thread."""
    with tritonclient.grpc.InferenceServerClient(target) as client:

        async def infer(model: str, inputs: Any, **more: Any) -> Any:
            return await asyncio.to_thread(client.infer, model, inputs, **more)

        yield infer


@asynccontextmanager
async def aio(target: str) -> AsyncIterator[Infer]:
    """`aio.InferenceServerClient.infer`."""
    async with tritonclient.grpc.aio.InferenceServerClient(target) as client:
        yield client.infer


@asynccontextmanager
async def stream(target: str) -> AsyncIterator[Infer]:
    """`start_stream` and `async_stream_infer`, whose answers come by a callback in another thread."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(target) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))

        async def infer(model: str, inputs: Any, **more: Any) -> Any:
            client.async_stream_infer(model, inputs, **more)
            result, error = await asyncio.to_thread(answers.get, timeout=_PATIENCE_S)
            if error is not None:
                raise error
            return result

        yield infer
        await asyncio.to_thread(client.stop_stream)


@asynccontextmanager
async def aio_stream(target: str) -> AsyncIterator[Infer]:
    """`aio.InferenceServerClient.stream_infer`."""
    asked: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[dict[str, Any]]:
        while (request := await asked.get()) is not None:
            yield request

    async with tritonclient.grpc.aio.InferenceServerClient(target) as client:
        answers = client.stream_infer(requests())

        async def infer(model: str, inputs: Any, **more: Any) -> Any:
            asked.put_nowait({"model_name": model, "inputs": inputs, **more})
            result, error = await asyncio.wait_for(anext(answers), _PATIENCE_S)
            if error is not None:
                raise error
            return result

        yield infer
        asked.put_nowait(None)
        async for _ in answers:
            raise AssertionError("an answer that nobody asked for")


CLIENTS = {"sync": sync, "aio": aio, "stream": stream, "aio stream": aio_stream}
