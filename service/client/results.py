"""Results for the application: one row, or columns of many rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from statestream.models.spec import Array, Float32Array, Int64Array
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.protocol.verdict import NO_OUTPUT, ResultFlag, Verdict


@dataclass(frozen=True, eq=False)
class StepResult:
    """Result of one row."""

    seq: int
    verdict: Verdict
    outputs: Mapping[str, Array]
    """`[*shape]` by output name; empty where the row has no output."""
    dt_s: float
    """Seconds by which the row advanced its session; 0 where it did not."""
    flags: ResultFlag
    detail: str
    """Why the row was not applied; empty where it was."""
    queue_s: float
    """Seconds that the row waited for its turn in the server."""
    compute_s: float
    """Seconds that its turn took."""
    batch: int
    """Sessions that advanced in the same turn."""
    latency_s: float
    """Seconds from handing the row to the client to receiving this result."""

    @property
    def y(self) -> Array:
        """The model's first output, `[*shape]`.

        Raises:
            InvalidArgument: the row was INVALID; the text has the reason.
            FailedPrecondition: the row has another verdict without an output; the text names it.
        """
        if self.outputs:
            return next(iter(self.outputs.values()))
        if self.verdict == Verdict.INVALID:
            raise InvalidArgument(self.detail or f"the server found row {self.seq} invalid")
        raise FailedPrecondition(f"row {self.seq} has no output, it is {self.verdict.name}")


@dataclass(frozen=True, eq=False)
class ChunkResult:
    """Results of several rows: of a chunk in order of seq, of a burst in order of its sessions."""

    seq: Int64Array
    """`[rows]`"""
    verdict: Int64Array
    """`[rows]` values of `Verdict`"""
    dt_s: Float32Array
    """`[rows]` seconds by which each row advanced its session; 0 where it did not"""
    flags: Int64Array
    """`[rows]` bits of `ResultFlag`"""
    row: Int64Array
    """`[n]` the row that each output belongs to; `arange(rows)` when all rows were applied"""
    outputs: Mapping[str, Array]
    """`[n, *shape]` by output name"""
    details: Mapping[int, str]
    """Why a row was not applied, by index of the row."""
    queue_s: float
    """Longest wait of a row for its turn in the server, seconds."""
    compute_s: float
    """Total seconds that the turns of these rows took."""
    batch: int
    """Most sessions that advanced in one of these turns."""
    latency_s: float
    """Seconds from handing the rows to the client to receiving the last result."""

    def __len__(self) -> int:
        return len(self.seq)

    def __iter__(self) -> Iterator[StepResult]:
        """Iterate over the rows; convenient, but slow."""
        return self.steps([self.latency_s] * len(self))

    def steps(self, latency_s: Sequence[float]) -> Iterator[StepResult]:
        """Iterate over the rows, each with its latency from `latency_s`, `[rows]`."""
        place = np.full(len(self), NO_OUTPUT)
        place[self.row] = np.arange(len(self.row))
        for row, each_s in enumerate(latency_s):
            yield self._step(row, int(place[row]), each_s)

    def __getitem__(self, row: int) -> StepResult:
        """One row."""
        row = range(len(self))[row]
        found = np.flatnonzero(self.row == row)
        return self._step(row, int(found[0]) if len(found) else NO_OUTPUT, self.latency_s)

    @property
    def y(self) -> Array:
        """The model's first output, `[n, *shape]`; `row` has the rows' indices."""
        return next(iter(self.outputs.values()), np.empty((0,), np.float32))

    def full(self, name: str, fill: float = np.nan) -> Array:
        """One output for every row, `[rows, *shape]`.

        `fill` where a row has none.

        Raises:
            KeyError: no output of this name.
        """
        known = self.outputs[name]
        if len(known) == len(self):
            return known
        whole = np.full((len(self), *known.shape[1:]), fill, known.dtype)
        whole[self.row] = known
        return whole

    def counts(self) -> dict[Verdict, int]:
        """Number of rows by verdict, for the verdicts that occur."""
        verdicts, counts = np.unique(self.verdict, return_counts=True)
        return {Verdict(v): n for v, n in zip(verdicts.tolist(), counts.tolist(), strict=True)}

    def reordered(self, order: Int64Array) -> ChunkResult:
        """Reorder the rows: row `order[i]` goes to index `i`; `order` is `[rows]`."""
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        by_place = np.argsort(place[self.row])
        return replace(
            self,
            seq=self.seq[order],
            verdict=self.verdict[order],
            dt_s=self.dt_s[order],
            flags=self.flags[order],
            row=place[self.row][by_place],
            outputs={name: array[by_place] for name, array in self.outputs.items()},
            details={int(place[row]): text for row, text in self.details.items()},
        )

    def _step(self, row: int, place: int, latency_s: float) -> StepResult:
        return StepResult(
            seq=int(self.seq[row]),
            verdict=Verdict(int(self.verdict[row])),
            outputs={} if place == NO_OUTPUT else {name: array[place] for name, array in self.outputs.items()},
            dt_s=float(self.dt_s[row]),
            flags=ResultFlag(int(self.flags[row])),
            detail=self.details.get(row, ""),
            queue_s=self.queue_s,
            compute_s=self.compute_s,
            batch=self.batch,
            latency_s=latency_s,
        )


def join(parts: Sequence[ChunkResult]) -> ChunkResult:
    """Concatenate results."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [len(part) for part in parts]).tolist()
    details = {
        start + row: text for start, part in zip(starts, parts, strict=False) for row, text in part.details.items()
    }
    with_outputs = [part for part in parts if len(part.row)]
    names = with_outputs[0].outputs if with_outputs else {}
    return ChunkResult(
        seq=np.concatenate([part.seq for part in parts]),
        verdict=np.concatenate([part.verdict for part in parts]),
        dt_s=np.concatenate([part.dt_s for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
        row=np.concatenate([part.row + start for start, part in zip(starts, parts, strict=False)]),
        outputs={name: np.concatenate([part.outputs[name] for part in with_outputs]) for name in names},
        details=details,
        queue_s=max(part.queue_s for part in parts),
        compute_s=sum(part.compute_s for part in parts),
        batch=max(part.batch for part in parts),
        latency_s=max(part.latency_s for part in parts),
    )
