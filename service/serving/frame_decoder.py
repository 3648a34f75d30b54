"""Frame decoder: threads that decode the images of a turn, so that the event loop does not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from statestream.models import jpeg
from statestream.models.spec import Array, InputSpec, Int64Array, Manifest
from statestream.service.batching.row_queue import RowBatch
from statestream.service.errors import FailedPrecondition


def check_pictures(manifest: Manifest, max_bytes: int) -> None:
    """Check that a model's images can be decoded, within `max_bytes` a row.

    Raises:
        FailedPrecondition: they cannot; the message has the reason.
    """
    if not manifest.encoded_inputs:
        return
    try:
        jpeg.simplejpeg()
    except jpeg.FrameError as error:
        raise FailedPrecondition(str(error), field="bundle") from None
    size = sum(spec.row_bytes for spec in manifest.encoded_inputs.values())
    if size > max_bytes:
        raise FailedPrecondition(
            f"a row of {manifest.ref} has {size} bytes of decoded images; max_decoded_bytes is {max_bytes}",
            field="bundle",
        )


class Decoded(NamedTuple):
    """Result of decoding a share of a turn's images."""

    problems: Mapping[int, str]
    """Rows whose image is unusable, and why."""
    cpu_s: float
    """CPU time of the decoding."""


class FrameDecoder:
    """Threads that decode images for all models of a server.

    A model has one turn at a time, whose rows are split among the threads, so at most one turn a model waits.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode")

    async def decode(
        self, rows: RowBatch, specs: Mapping[str, InputSpec], needed: Int64Array
    ) -> tuple[RowBatch, float]:
        """Decode a turn's images: the rows with decoded images, and the CPU seconds used; see `decoded`."""
        data = _empty(rows, specs)
        loop = asyncio.get_running_loop()
        shares = [share for share in np.array_split(needed, self._threads) if len(share)]
        jobs = [loop.run_in_executor(self._pool, _decode, rows, specs, share, data) for share in shares]
        parts = await asyncio.gather(*jobs)
        return _with(rows, data, parts), sum(part.cpu_s for part in parts)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def decoded(rows: RowBatch, specs: Mapping[str, InputSpec], needed: Int64Array) -> RowBatch:
    """Decode the images of `needed` rows into `data`; other rows get zeros, unusable images a problem."""
    data = _empty(rows, specs)
    return _with(rows, data, [_decode(rows, specs, needed, data)])


def _empty(rows: RowBatch, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    # Pages of zeros that are never written take no memory, so dropped rows cost none.
    return {name: np.zeros((rows.n, *spec.shape), spec.np_dtype) for name, spec in specs.items()}


def _decode(rows: RowBatch, specs: Mapping[str, InputSpec], needed: Int64Array, data: Mapping[str, Array]) -> Decoded:
    begin_s = time.thread_time()
    problems: dict[int, str] = {}
    for name, spec in specs.items():
        for row in needed.tolist():
            try:
                jpeg.decode(rows.frames[name][row], spec, data[name][row])
            except jpeg.FrameError as error:
                problems[row] = f"steps.columns['{name}']: {error}"
                data[name][row] = 0
    return Decoded(problems, time.thread_time() - begin_s)


def _with(rows: RowBatch, data: Mapping[str, Array], parts: list[Decoded]) -> RowBatch:
    problems = dict(rows.problems)
    for part in parts:
        problems |= part.problems
    return rows._replace(data={**rows.data, **data}, problems=problems, frames={})
