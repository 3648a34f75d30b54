"""Row queue: rows that wait for a turn, in columns that grow as messages arrive."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from statestream.models.spec import NO_TIME, Array, InputSpec, Int64Array
from statestream.service.batching.frame_queue import FrameQueue
from statestream.service.batching.row_sizes import RowSizes
from statestream.service.batching.step_columns import StepColumns
from statestream.service.protocol.limits import SEQ_LIMIT
from statestream.service.protocol.verdict import RowFlag

Float64Array = np.ndarray[tuple[int], np.dtype[np.float64]]
_SKIP = int(RowFlag.SKIP)
_NO_TIME_BYTES = np.int64(NO_TIME).tobytes()
_NEVER_BYTES = np.float64(math.inf).tobytes()


class RowBatch(NamedTuple):
    """Rows of several sessions, as columns of equal length; rows of one session are in order."""

    slot: Int64Array
    seq: Int64Array
    t_ns: Int64Array
    flags: np.ndarray[tuple[int], np.dtype[np.uint8]] | None
    """None: no row has any."""
    received_s: Float64Array
    due_s: Float64Array | None
    """When each row's budget ends, on the clock of `received_s`; None: no row has one."""
    data: Mapping[str, Array]
    """`[rows, *shape]` by input name; zeros where a row has no usable data."""
    problems: Mapping[int, str]
    """Rows with unusable data, and why."""
    frames: Mapping[str, Array] = {}
    """`[rows]` bytes: images of encoded inputs before they are decoded into `data`; empty where a row has none."""

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.slot)

    def take(self, rows: Int64Array) -> RowBatch:
        """Select rows."""
        flags = None if self.flags is None else self.flags[rows]
        problems = {new: self.problems[old] for new, old in enumerate(rows.tolist()) if old in self.problems}
        data = {name: column[rows] for name, column in self.data.items()}
        due_s = None if self.due_s is None else self.due_s[rows]
        frames = {name: column[rows] for name, column in self.frames.items()}
        received_s = self.received_s[rows]
        return RowBatch(
            self.slot[rows], self.seq[rows], self.t_ns[rows], flags, received_s, due_s, data, problems, frames
        )


class SingleRow(NamedTuple):
    """One row that arrived alone, without flags."""

    slot: int
    seq: int
    t_ns: int
    received_s: float
    data: Mapping[str, Array]
    """`[1, *shape]` by input name."""


class PlainRows(NamedTuple):
    """Columns of rows without flags, problems or images; each row's data is as large as the model wants it."""

    slot: bytes | array[int]
    seq: bytes | array[int]
    t_ns: bytes | array[int]
    received_s: bytes | array[float]
    due_s: bytes | array[float] | None
    """None: no row has a deadline."""
    data: tuple[bytes, ...]
    """By input, in the manifest's order."""


class RowSource(Protocol):
    """Where a transport gathers rows until their model's queue wants them."""

    def __len__(self) -> int:
        """Number of rows that have gathered; safe in any thread."""
        ...

    def empty(self) -> None:
        """Move what has gathered to the queue, by `RowQueue.append`."""
        ...


class RowQueue:
    """Queued rows of one model; they gather here while the engine is busy."""

    source: RowSource | None = None
    """Rows that came before any that is added from elsewhere."""

    def __init__(self, inputs: tuple[InputSpec, ...], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._inputs = {spec.name: spec for spec in inputs if spec.encoding == "raw"}
        self._sizes = RowSizes(inputs)
        self._encoded = {spec.name: spec for spec in inputs if spec.encoding != "raw"}
        self._images = FrameQueue(self._encoded)
        self._data: dict[str, list[bytes]] = {name: [] for name in self._inputs}
        self._packed: PlainRows | None = None
        """Rows of the source, while no others are queued: a turn of them needs no columns that grow."""
        self._packed_rows = 0
        self.clear()

    def clear(self) -> None:
        """Remove all rows."""
        self._packed, self._packed_rows = None, 0
        self._slot = array("q")
        self._seq = array("q")
        self._t_ns = array("q")
        self._flags = array("B")
        self._flagged = False
        self._received_s = array("d")
        self._due_s = array("d")
        self._due = False
        for parts in self._data.values():
            parts.clear()
        self._problems: dict[int, str] = {}
        if self._encoded:
            self._images.clear()

    def __len__(self) -> int:
        return len(self._slot) + self._packed_rows + (0 if self.source is None else len(self.source))

    def gather(self) -> int:
        """Take what the source has; returns the number of queued rows."""
        if self.source is not None:
            self.source.empty()
        return len(self._slot) + self._packed_rows

    def count(self, slot: int) -> int:
        """Number of queued rows of the session in `slot`."""
        self._collect()
        return self._slot.count(slot)

    def add(self, slots: Sequence[int], message: StepColumns) -> None:
        """Append the rows of one message.

        Args:
            slots: `[rows]` session of each row.
            message: the rows.

        Raises:
            InvalidArgument: the columns have different lengths, so that rows cannot be separated; nothing was added.
                Data of a wrong name or size is not an error here: its rows get the verdict INVALID.
        """
        rows = len(slots)
        message.check(rows)
        if not rows:
            return
        self._collect()
        start, flags = len(self._slot), message.flags
        skipped = sum(1 for flag in flags if flag & _SKIP) if flags else 0
        has_data = np.frombuffer(bytes(flags), np.uint8) & _SKIP == 0 if skipped else None
        data, problem = self._sizes.split(message.columns, rows - skipped)
        problem = self._images.stray(message.frames) or problem
        if self._encoded:
            problem = problem or self._images.missing(message.frames, rows - skipped)
            too_long = self._images.append({} if problem else message.frames, rows, has_data)
            self._problems |= {start + row: why for row, why in too_long.items()}
        if problem or skipped == rows:
            data = self._sizes.zeros(rows)
        elif has_data is not None:
            data = self._sizes.spread(data, has_data)
        self._slot.extend(slots)
        self._seq.extend(message.seq)
        self._flags.frombytes(bytes(flags) if flags else bytes(rows))
        self._flagged = self._flagged or any(flags)
        now_s = self._clock()
        self._received_s.extend([now_s] * rows)
        self._due_s.extend([now_s + budget * 1e-6 for budget in message.budget_us] or [math.inf] * rows)
        self._due = self._due or bool(message.budget_us)
        if message.t_ns:
            self._t_ns.extend(message.t_ns)
        else:
            self._t_ns.frombytes(_NO_TIME_BYTES * rows)
        for name, part in data.items():
            self._data[name].append(part)
        if problem:
            self._problems |= dict.fromkeys(range(start, start + rows), problem)

    def add_row(self, slot: int, seq: int, t_ns: int, columns: Sequence[tuple[str, bytes]]) -> bool:
        """Append one row without flags, its columns in the manifest's order.

        Returns:
            False if the row is not valid or the model takes images, and nothing was added; `add` decides.
        """
        if self._encoded or not 0 < seq < SEQ_LIMIT or len(columns) != len(self._sizes.by_name):
            return False
        for (name, part), (expected, size) in zip(columns, self._sizes.by_name.items(), strict=True):
            if name != expected or len(part) != size:
                return False
        if self.source is not None:
            self._collect()
        self._slot.append(slot)
        self._seq.append(seq)
        self._t_ns.append(t_ns)
        self._flags.append(0)
        self._received_s.append(self._clock())
        self._due_s.append(math.inf)
        for name, part in columns:
            self._data[name].append(part)
        return True

    def append(self, rows: PlainRows) -> None:
        """Append rows of the source, as bytes."""
        if self._slot or self._packed is not None:
            self._unpack()
            self._extend(rows)
        else:
            self._packed, self._packed_rows = rows, len(rows.slot) // self._slot.itemsize

    def single(self) -> SingleRow | None:
        """The only queued row, if it has neither flags nor a deadline; it stays queued."""
        if self.source is not None:
            self._collect()
        if len(self._slot) != 1 or self._flagged or self._due or self._problems or self._encoded:
            return None
        data = {
            name: np.frombuffer(self._data[name][0], spec.np_dtype).reshape(1, *spec.shape)
            for name, spec in self._inputs.items()
        }
        return SingleRow(self._slot[0], self._seq[0], self._t_ns[0], self._received_s[0], data)

    def plain(self) -> PlainRows | None:
        """Columns of the rows, which stay queued; None if there are none, or one has a flag, a problem or an image."""
        if self.source is not None:
            self.source.empty()
            if self._packed is not None:
                return self._packed
        if not self._slot or self._flagged or self._problems or self._encoded:
            return None
        for parts in self._data.values():
            if len(parts) > 1:
                parts[:] = [b"".join(parts)]
        data = tuple(parts[0] for parts in self._data.values())
        due_s = self._due_s if self._due else None
        return PlainRows(self._slot, self._seq, self._t_ns, self._received_s, due_s, data)

    def drop(self, rows: int) -> None:
        """Remove the first of the rows that `plain` gave."""
        if rows == self._packed_rows:
            self._packed, self._packed_rows = None, 0
            return
        self._unpack()
        if rows == len(self._slot):
            self.clear()
            return
        for column in (self._slot, self._seq, self._t_ns, self._flags, self._received_s, self._due_s):
            del column[:rows]
        for parts, spec in zip(self._data.values(), self._inputs.values(), strict=True):
            parts[:] = [parts[0][rows * spec.row_bytes :]]

    def take(self) -> RowBatch:
        """Take all rows; the queue is empty afterwards."""
        self._collect()
        data = {
            name: np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), spec.np_dtype).reshape(
                -1, *spec.shape
            )
            for (name, parts), spec in zip(self._data.items(), self._inputs.values(), strict=True)
        }
        rows = RowBatch(
            np.frombuffer(self._slot, np.int64),
            np.frombuffer(self._seq, np.int64),
            np.frombuffer(self._t_ns, np.int64),
            np.frombuffer(self._flags, np.uint8) if self._flagged else None,
            np.frombuffer(self._received_s, np.float64),
            np.frombuffer(self._due_s, np.float64) if self._due else None,
            data,
            self._problems,
            self._images.take() if self._encoded else {},
        )
        self.clear()
        return rows

    def put_back(self, rows: RowBatch) -> None:
        """Append rows taken from this queue or another of the same inputs."""
        if not rows.n:
            return
        self._unpack()
        start = len(self._slot)
        self._slot.frombytes(rows.slot.tobytes())
        self._seq.frombytes(rows.seq.tobytes())
        self._t_ns.frombytes(rows.t_ns.tobytes())
        self._flags.frombytes(bytes(rows.n) if rows.flags is None else rows.flags.tobytes())
        self._flagged = self._flagged or rows.flags is not None
        self._received_s.frombytes(rows.received_s.tobytes())
        self._due_s.extend([math.inf] * rows.n if rows.due_s is None else rows.due_s.tolist())
        self._due = self._due or rows.due_s is not None
        for name, column in rows.data.items():
            self._data[name].append(column.tobytes())
        if self._encoded:
            self._images.put_back(rows.frames)
        self._problems |= {start + row: problem for row, problem in rows.problems.items()}

    def _collect(self) -> None:
        """Take what the source has, and have every queued row in the columns that grow."""
        if self.source is not None:
            self.source.empty()
        self._unpack()

    def _unpack(self) -> None:
        if (packed := self._packed) is not None:
            self._packed, self._packed_rows = None, 0
            self._extend(packed)

    def _extend(self, rows: PlainRows) -> None:
        count = len(rows.slot) // self._slot.itemsize
        self._slot.frombytes(rows.slot)
        self._seq.frombytes(rows.seq)
        self._t_ns.frombytes(rows.t_ns)
        self._received_s.frombytes(rows.received_s)
        self._flags.frombytes(bytes(count))
        self._due_s.frombytes(rows.due_s or _NEVER_BYTES * count)
        self._due = self._due or rows.due_s is not None
        for parts, part in zip(self._data.values(), rows.data, strict=True):
            parts.append(part)
