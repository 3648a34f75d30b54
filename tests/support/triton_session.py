"""A sequence by one version of tritonclient, as its users write it; run by that version's own Python, prints JSON.

`python triton_session.py HOST:PORT EXPECTED`: EXPECTED holds rows `x` of a sequence and the outputs `y` they have.
It imports nothing of ours, since the environments that it runs in have tritonclient alone.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio

MODEL = "leaky"
PATIENCE_S = 60
TARGET = sys.argv[1]
EXPECTED = json.loads(Path(sys.argv[2]).read_text())
X, Y = np.array(EXPECTED["x"], np.float32), np.array(EXPECTED["y"], np.float32)


def request(k: int, sequence: Any) -> dict[str, Any]:
    """The k-th step of a sequence."""
    x = tritonclient.grpc.InferInput("x", [1, X.shape[1]], "FP32")
    x.set_data_from_numpy(X[k : k + 1])
    flags = {"sequence_start": k == 0, "sequence_end": k == len(X) - 1}
    return {"model_name": MODEL, "inputs": [x], "sequence_id": sequence, **flags}


def compare(results: list[Any]) -> None:
    np.testing.assert_allclose(np.concatenate([result.as_numpy("y") for result in results]), Y, rtol=1e-6)


def metadata() -> None:
    with tritonclient.grpc.InferenceServerClient(TARGET) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.get_server_metadata().name == "statestream"
        assert [tensor.name for tensor in client.get_model_metadata(MODEL).inputs] == ["x"]
        assert client.get_model_config(MODEL).config.WhichOneof("scheduling_choice") == "sequence_batching"
        assert [model.name for model in client.get_model_repository_index().models] == [MODEL]


def infer(sequence: Any = 7) -> None:
    with tritonclient.grpc.InferenceServerClient(TARGET) as client:
        compare([client.infer(**request(k, sequence)) for k in range(len(X))])


def infer_by_name() -> None:
    infer("left arm")


def infer_asyncio() -> None:
    async def run() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(TARGET) as client:
            compare([await client.infer(**request(k, 8)) for k in range(len(X))])

    asyncio.run(run())


def stream() -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(TARGET) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for k in range(len(X)):
            client.async_stream_infer(**request(k, 9))
        got = [answers.get(timeout=PATIENCE_S) for _ in X]
        client.stop_stream()
    assert [error for _, error in got] == [None] * len(X)
    compare([result for result, _ in got])


def stream_asyncio() -> None:
    async def requests() -> Any:
        for k in range(len(X)):
            yield request(k, 10)

    async def run() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(TARGET) as client:
            got = [answer async for answer in client.stream_infer(requests())]
        assert [error for _, error in got] == [None] * len(X)
        compare([result for result, _ in got])

    asyncio.run(run())


def gzip() -> None:
    """It is refused, by name."""
    with tritonclient.grpc.InferenceServerClient(TARGET) as client:
        try:
            client.infer(**request(0, 11), compression_algorithm="gzip")
        except tritonclient.utils.InferenceServerException as error:
            assert error.message() == "Compression algorithm 'gzip' is disabled."  # noqa: PT017
            return
    raise AssertionError("a packed message was taken")


CHECKS = (metadata, infer, infer_by_name, infer_asyncio, stream, stream_asyncio, gzip)


def outcome(check: Any) -> str:
    """Empty where all is well."""
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    print(json.dumps({check.__name__: outcome(check) for check in CHECKS}))
