"""Decoding the pictures of a turn's rows in threads of their own, so that the event loop never waits for one."""

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
    """Whether pictures of a model's rows can be decoded, within `max_bytes`.

    Raises:
        FailedPrecondition: they cannot, and why.
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
            f"the pictures of a row of {manifest.ref} have {size} bytes, max_decoded_bytes is {max_bytes}",
            field="bundle",
        )


class Decoded(NamedTuple):
    """What became of pictures."""

    problems: Mapping[int, str]
    """Rows whose picture cannot be used, and why."""
    cpu_s: float
    """CPU time of the threads."""


class FrameDecoder:
    """Threads that decode for all models of a server.

    A model has one turn at a time, whose rows are dealt out among the threads: so no more than that waits for them.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode")

    async def decode(
        self, rows: RowBatch, specs: Mapping[str, InputSpec], needed: Int64Array
    ) -> tuple[RowBatch, float]:
        """The rows with pictures where they were encoded ones, and the CPU seconds that took; see `decoded`."""
        data = _empty(rows, specs)
        loop = asyncio.get_running_loop()
        shares = [share for share in np.array_split(needed, self._threads) if len(share)]
        jobs = [loop.run_in_executor(self._pool, _decode, rows, specs, share, data) for share in shares]
        parts = await asyncio.gather(*jobs)
        return _with(rows, data, parts), sum(part.cpu_s for part in parts)

    def close(self) -> None:
        """Give back the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def decoded(rows: RowBatch, specs: Mapping[str, InputSpec], needed: Int64Array) -> RowBatch:
    """The rows with pictures in `data`, zeros where they are not `needed`, and a problem where one cannot be used."""
    data = _empty(rows, specs)
    return _with(rows, data, [_decode(rows, specs, needed, data)])


def _empty(rows: RowBatch, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    # Memory that is never written to is never there: rows that are dropped take none.
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
