"""Input conversion: the application's arrays to columns, checked against the manifest."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from statestream.models import jpeg
from statestream.models.levels import levels
from statestream.models.spec import NO_TIME, Array, InputSpec, Int64Array, PictureRange
from statestream.service.errors import InvalidArgument

_QUALITY = 95
"""Of JPEGs that clients make of depths, as `stream` does."""
Input = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""One array for a model with one input, else arrays by input name. Encoded pictures are `bytes`, several a list.

Pictures of more than 8 bits `[H, W]` become levels by the input's `picture_range`.
"""


def rows_of(x: Input, specs: tuple[InputSpec, ...], rows: int | None = None) -> tuple[dict[str, Array], int]:
    """Copy `x` into contiguous columns of the manifest's dtypes.

    Args:
        x: `[rows, *shape]`, or such arrays by input name; for an encoded input, a list of each picture's bytes.
        rows: expected number of rows; None: that of the first input.

    Returns:
        `[rows, *shape]` by input name, encoded pictures `[rows]`, and the number of rows.

    Raises:
        InvalidArgument: an input does not fit; the text has the input's name, what was expected and what was given.
    """
    columns: dict[str, Array] = {}
    for field, spec, given in _named(x, specs):
        shape = () if spec.encoding != "raw" else spec.shape
        array = _pictures(field, given, spec) if spec.encoding != "raw" else _cast(field, given, spec)
        if array.ndim != len(shape) + 1 or array.shape[1:] != shape or rows not in (None, len(array)):
            raise InvalidArgument(
                f"shape {list(array.shape)}, expected [{'rows' if rows is None else rows}{_dims(shape)}]"
                f"{_elements(spec)}",
                field=field,
            )
        rows = len(array)
        columns[spec.name] = array
    if not rows:
        raise InvalidArgument("no rows, expected at least one", field="x")
    return columns, rows


def row_of(x: Input, specs: tuple[InputSpec, ...]) -> dict[str, Array]:
    """Like `rows_of`, for one row: `x` is `[*shape]`, the columns are `[1, *shape]`."""
    columns: dict[str, Array] = {}
    for field, spec, given in _named(x, specs):
        if spec.encoding != "raw":
            columns[spec.name] = _pictures(field, [given], spec)
            continue
        array = _cast(field, given, spec)
        if array.shape != spec.shape:
            raise InvalidArgument(
                f"shape {list(array.shape)}, expected {list(spec.shape)}{_elements(spec)}", field=field
            )
        columns[spec.name] = array[None]
    return columns


def times_of(timestamp_ns: npt.ArrayLike | None, rows: int) -> Int64Array | None:
    """Convert timestamps to `[rows]` int64.

    Raises:
        InvalidArgument: not whole nanoseconds, or not one per row.
    """
    if timestamp_ns is None:
        return None
    try:
        array = np.asarray(timestamp_ns)
    except ValueError as error:
        raise InvalidArgument(f"not an array: {error}", field="timestamp_ns") from None
    if array.shape != (rows,):
        raise InvalidArgument(f"shape {list(array.shape)}, expected [{rows}], one a row", field="timestamp_ns")
    if array.dtype.kind not in "iu":
        raise InvalidArgument(f"dtype {array.dtype}, expected int64: whole nanoseconds", field="timestamp_ns")
    if array.dtype == np.uint64 and len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise InvalidArgument(f"{int(array.max())} does not fit int64", field="timestamp_ns")
    if (array == NO_TIME).any():
        raise InvalidArgument(f"{NO_TIME} is reserved", field="timestamp_ns")
    return array.astype(np.int64)


def time_of(timestamp_ns: SupportsIndex | None) -> Int64Array | None:
    """Convert one timestamp to `[1]` int64; raises InvalidArgument like `times_of`."""
    if timestamp_ns is None:
        return None
    try:
        value = operator.index(_no_bool(timestamp_ns))
    except TypeError:
        raise InvalidArgument(f"{timestamp_ns!r}, expected whole nanoseconds as an int", field="timestamp_ns") from None
    if not NO_TIME < value <= np.iinfo(np.int64).max:
        raise InvalidArgument(f"{value} does not fit int64", field="timestamp_ns")
    return np.array([value], np.int64)


def _no_bool(value: SupportsIndex) -> SupportsIndex:
    if isinstance(value, bool):
        raise TypeError("a bool is no time, though it has an index")
    return value


def _named(x: Input, specs: tuple[InputSpec, ...]) -> list[tuple[str, InputSpec, Any]]:
    """Pair each input with its array and the argument's name for errors."""
    if not isinstance(x, Mapping):
        if len(specs) > 1:
            names = ", ".join(f"'{spec.name}'" for spec in specs)
            raise InvalidArgument(f"one array, expected a mapping with {names}", field="x")
        return [("x", specs[0], x)]
    unknown = [name for name in x if name not in {spec.name for spec in specs}]
    missing = [spec.name for spec in specs if spec.name not in x]
    for wrong, problem in ((unknown, "the model has no such input"), (missing, "missing")):
        if wrong:
            known = ", ".join(f"'{spec.name}'" for spec in specs)
            raise InvalidArgument(f"{problem}; the model's inputs are {known}", field=f"x['{wrong[0]}']")
    return [(f"x['{spec.name}']", spec, x[spec.name]) for spec in specs]


def _cast(field: str, given: Any, spec: InputSpec) -> Array:
    """Return a contiguous copy, so that the application may reuse its buffer."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InvalidArgument(f"not an array: {error}", field=field) from None
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InvalidArgument("elements are masked, expected a value for each; see numpy's filled()", field=field)
    if spec.picture_range is not None and array.dtype != spec.np_dtype and array.dtype.kind in "fiu":
        return _levels(array, spec, spec.picture_range)
    if array.dtype == spec.np_dtype:
        return np.array(array, spec.np_dtype, order="C")
    if spec.dtype != "float32" or array.dtype.kind not in "fiub":
        remedy = "scale its values to 0 … 255" if spec.frame and array.itemsize > 1 else "convert it with astype"
        raise InvalidArgument(f"dtype {array.dtype}, expected {spec.dtype}; {remedy}", field=field)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which the server answers INVALID
        return np.array(array, spec.np_dtype, order="C")


def _levels(array: Array, spec: InputSpec, span: PictureRange) -> Array:
    """Convert depths `[…, H, W]` to levels `[…, *shape]`."""
    return np.ascontiguousarray(levels(array, span)[..., : spec.shape[-1]])


def _pictures(field: str, given: Any, spec: InputSpec) -> Array:
    """Copy encoded pictures to a `[rows]` column of bytes objects."""
    if isinstance(given, (bytes, bytearray, memoryview)) or not isinstance(given, Iterable):
        raise InvalidArgument(f"{type(given).__name__}, expected a list of encoded pictures", field=field)
    pictures = list(given)
    column = np.empty(len(pictures), object)
    for row, picture in enumerate(pictures):
        if spec.picture_range is not None and isinstance(picture, np.ndarray) and picture.dtype != np.uint8:
            picture = jpeg.encode(_levels(picture, spec, spec.picture_range), spec.colours or "rgb", _QUALITY)
        if not isinstance(picture, (bytes, bytearray, memoryview)):
            raise InvalidArgument(
                f"{type(picture).__name__}, expected the bytes of a {spec.encoding} picture", field=field
            )
        if memoryview(picture).nbytes > spec.wire_bytes:
            raise InvalidArgument(
                f"a picture of {memoryview(picture).nbytes} bytes, the model takes at most {spec.wire_bytes}",
                field=field,
            )
        column[row] = bytes(picture)
    return column


def _dims(shape: tuple[int, ...]) -> str:
    return "".join(f", {size}" for size in shape)


def _elements(spec: InputSpec) -> str:
    return f" ({', '.join(spec.labels)})" if spec.labels and len(spec.labels) <= 16 else ""
