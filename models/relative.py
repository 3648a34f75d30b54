"""Relative columns: the difference to the row before, taken before values are rounded to float32.

An encoder at 1e8 ticks, or a latitude, changes by less than float32 resolves at its magnitude; its differences do not.
Training, played recordings and clients convert rows by `differences`, so that they cannot disagree.

T   rows        F   elements of a row        R   relative columns
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Array, BoolArray, Float32Array, InputSpec


def differences(x_TR: Array, before_R: Array, counts_T: BoolArray | None = None) -> tuple[Array, Array]:
    """Difference of each value to the finite one before it in its column; 0 for the first.

    What is not finite stays as it is.

    Args:
        x_TR: float64 values of consecutive rows.
        before_R: the last finite values before them; NaN: there was none.
        counts_T: rows whose values count as the ones before; None: all.

    Returns:
        Differences `[T, R]`, and the last finite values `[R]`.
    """
    values = np.vstack([before_R, x_TR])
    known = np.isfinite(values)
    if counts_T is not None:
        known[1:] &= counts_T[:, None]
    latest = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], 0), axis=0)
    held = np.take_along_axis(values, latest, axis=0)
    with np.errstate(invalid="ignore"):
        change = np.where(np.isnan(held[:-1]) & np.isfinite(x_TR), 0.0, x_TR - held[:-1])
    return np.where(np.isfinite(x_TR), change, x_TR), held[-1]


class Relative:
    """Rows of one session as its model takes them: relative columns as differences, the others unchanged.

        relative = Relative(session.manifest.inputs[0])
        session.step(relative(row), timestamp_ns)

    For every input without relative columns it only converts to float32.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._columns = [spec.labels.index(name) for name in spec.relative]
        self._before_R = np.full(len(self._columns), np.nan)

    def __call__(self, x: npt.ArrayLike) -> Float32Array:
        """Convert a row `[F]` or consecutive rows `[T, F]`, in double precision, to float32.

        A row that the server would answer INVALID, as it has a NaN, is not the one before the next.
        """
        given = np.asarray(x, np.float64)
        x_TF = np.array(given, np.float64, ndmin=2)
        if self._columns:
            counts_T = None if self._spec.nan == "not_measured" else np.asarray(np.isfinite(x_TF).all(axis=1))
            x_TF[:, self._columns], self._before_R = differences(x_TF[:, self._columns], self._before_R, counts_T)
        return x_TF.astype(np.float32).reshape(given.shape)
