"""Columns that grow while a file is read, and take little memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from statestream.models.data.tables import objects
from statestream.models.spec import Array, Int64Array

_WIDE = 40
"""Characters of a text; columns of longer ones are objects, since one long text would make all of them long."""


class Numbers:
    """A column of numbers of one type that grows."""

    def __init__(self, kind: np.dtype[Any] | type[Any], room: int = 0) -> None:
        self._found = np.empty(max(room, 16), kind)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def array(self) -> Array:
        return self._found[: self._count]

    def append(self, value: bool | int | float) -> None:
        """Add a number."""
        if self._count == len(self._found):
            self._grow(self._count + 1)
        self._found[self._count] = value
        self._count += 1

    def extend(self, values: Sequence[bool | int | float] | Array) -> None:
        """Add several numbers."""
        end = self._count + len(values)
        if end > len(self._found):
            self._grow(end)
        self._found[self._count : end] = values
        self._count = end

    def keep(self, indices: Int64Array) -> None:
        """Keep the numbers of these indices, in this order."""
        self._found = self.array[indices]
        self._count = len(indices)

    def _grow(self, least: int) -> None:
        grown = np.empty(max(least, 2 * len(self._found)), self._found.dtype)
        grown[: self._count] = self.array
        self._found = grown


class Texts:
    """A column of texts that grows: ASCII of one width if none is long, else objects."""

    def __init__(self) -> None:
        self._found = Numbers(np.dtype("S1"))

    @property
    def array(self) -> Array:
        return self._found.array

    def extend(self, cells: Sequence[str]) -> None:
        """Add several texts."""
        block = _narrow(cells)
        before = self.array
        if before.dtype.kind == "O" or block is None:
            self._change(objects(before.astype(str).tolist()) if before.dtype.kind == "S" else before)
            block = objects(cells)
        elif block.itemsize > before.itemsize:
            self._change(before.astype(block.dtype))
        self._found.extend(block)

    def _change(self, before: Array) -> None:
        if before.dtype != self.array.dtype:
            self._found = Numbers(before.dtype, len(before))
            self._found.extend(before)


def _narrow(cells: Sequence[str]) -> Array | None:
    """Texts as bytes of one width; None: one is not ASCII, or long."""
    try:
        block = np.array(cells, "S")
    except UnicodeEncodeError:
        return None
    return block if block.itemsize <= _WIDE else None
