"""Checks of a bundle at load: its golden recording alone, with holes, and beside strangers; then what a step costs.

T   rows of the recording     B   lines of a batch     N   lines of it that are golden, the others are strangers'
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from statestream.models.bundle import Bundle, BundleError, Golden
from statestream.models.metrics import deviation, state_deviation
from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, Manifest, Tensors, TimeSpec
from statestream.service.engine.base import BundleModel
from statestream.service.engine.refusal import refusing

BATCH = 31
"""Lines of a batch with strangers: a prime, which few other axes are as long as."""
_GOLDEN_LINES = 15
_CHUNK_ROWS = 4
_SCALE = 100.0
_LARGEST = np.float32(1e37)
_WARM_UP_BATCHES = (1, 64)
_MEASURE_S = 0.1


class Rollout(NamedTuple):
    """One session, step by step."""

    outputs: dict[str, Array]
    """`[T, *shape]` by name."""
    states: dict[str, Array]
    """`[T + 1, *shape]` by name: before each row, and after the last one."""

    @property
    def final(self) -> dict[str, Array]:
        """The states after the last row, `[*shape]` by name."""
        return {name: state[-1] for name, state in self.states.items()}


class Crowd(NamedTuple):
    """A batch of golden lines and of strangers' lines, mixed."""

    inputs: Tensors
    """`[B, …]` by name."""
    dt_s: Array
    """`[B, …, 1]`"""
    valid: BoolArray
    """`[B, …]` whether each row counts, for a chunk graph."""
    states: Tensors
    golden: Int64Array
    """`[N]` the lines that are golden."""


class Cost(NamedTuple):
    """What one call of the step graph takes, measured at load."""

    step_s: float
    """Seconds for a batch of 1."""
    batch_s: float
    """Seconds for a batch of 64."""


class Coupling(NamedTuple):
    """An output or state that moved with what stands beside it in the batch."""

    what: str
    error: float
    mild: Crowd
    wild: Crowd


def rollout(model: BundleModel, inputs: Tensors, dt_s: Float32Array) -> Rollout:
    """Run one session alone: inputs `[T, *shape]`, `dt_s [T]`; BundleError where a result has a wrong shape."""
    states: Tensors = model.initial(1)
    rows: list[Tensors] = [{t.name: np.empty((0, *t.shape), t.np_dtype) for t in model.manifest.outputs}]
    passed: list[Tensors] = [states]
    for k in range(len(dt_s)):
        y, states = model.step({n: x[k : k + 1] for n, x in inputs.items()}, dt_s[k : k + 1, None], states)
        rows.append(y)
        passed.append(states)
    if len(dt_s):
        _check_shapes(model.manifest, rows[1], states, (1,))
    return Rollout(
        {n: np.concatenate([y[n] for y in rows]) for n in rows[0]},
        {n: np.concatenate([each[n] for each in passed]) for n in states},
    )


def check(model: BundleModel, bundle: Bundle, tolerance: float, culprit: Callable[[Coupling], str]) -> None:
    """Check that both graphs reproduce the golden recording, wherever in a batch its rows stand.

    Args:
        tolerance: how far a row may move with what stands beside it, in standard deviations.
        culprit: names the operator of the step graph that mixes the lines of a batch; empty where it finds none.

    Raises:
        BundleError: a graph strays from the recording, mixes sessions, or does not run.
    """
    golden, step, chunk = bundle.golden(), bundle.step_path, bundle.chunk_path
    with refusing(f"{step} does not run"):
        alone = rollout(model, golden.inputs, golden.dt_s)
    _judge(bundle, step, alone.outputs, alone.final, golden)
    with refusing(f"{chunk} does not run"):
        outputs, states = _with_holes(model, golden)
    _judge(bundle, chunk, outputs, states, golden)
    with refusing(f"{step} does not run with a batch of {BATCH}, of which half is {_SCALE:g} times as large"):
        coupling = _step_beside_strangers(model, golden, alone, tolerance)
    if coupling is not None:
        raise BundleError(_mixes(step, coupling, culprit(coupling)))
    with refusing(f"{chunk} does not run with a batch of {BATCH}, of which half is {_SCALE:g} times as large"):
        coupling = _chunk_beside_strangers(model, golden, alone, tolerance)
    if coupling is not None:
        raise BundleError(_mixes(chunk, coupling, ""))


def measure(model: BundleModel) -> Cost:
    """What a step takes, after a few for warming up."""
    return Cost(*(_median_step_s(model, batch) for batch in _WARM_UP_BATCHES))


def _moved(manifest: Manifest, mild: tuple[Tensors, Tensors], wild: tuple[Tensors, Tensors]) -> tuple[float, str]:
    """How far results of the same lines are apart, and which output or state is farthest."""
    errors = _errors(manifest, wild, mild)
    what = max(errors, key=lambda name: errors[name])
    return errors[what], what


def _errors(manifest: Manifest, found: tuple[Tensors, Tensors], expected: tuple[Tensors, Tensors]) -> dict[str, float]:
    """The largest error of each output and state, of its scale."""
    (outputs, states), (y, after) = found, expected
    errors = {f"output '{t.name}'": deviation(outputs[t.name], y[t.name], t.std_array) for t in manifest.outputs}
    errors |= {f"state '{s.name}'": state_deviation(states[s.name], after[s.name]) for s in manifest.states}
    return {what: float(error.max(initial=0.0)) for what, error in errors.items()}


def _mixes(graph: Path, coupling: Coupling, culprit: str) -> str:
    by = f" by {culprit}" if culprit else ""
    return (
        f"{graph} mixes the sessions of a batch{by}: {coupling.what} of a row moves by "
        f"{coupling.error:.2g} of its scale with the rows beside it. Make each row depend on itself alone (quantise "
        f"weights, not activations, or these with fixed ranges), or serve it one session at a time: max_batch = 1, in "
        f"the manifest or of the server"
    )


def _step_beside_strangers(model: BundleModel, golden: Golden, alone: Rollout, tolerance: float) -> Coupling | None:
    lines = _spread(len(golden.dt_s), _GOLDEN_LINES)
    inputs = {name: x[lines] for name, x in golden.inputs.items()}
    states = {name: state[lines] for name, state in alone.states.items()}
    mild, wild = _crowds(model.manifest.time, inputs, golden.dt_s[lines, None], states)
    runs = [model.step(each.inputs, each.dt_s, each.states) for each in (mild, wild)]
    for run in runs:
        _check_shapes(model.manifest, *run, (BATCH,))
    found = [_of(run, mild.golden) for run in runs]
    expected = (
        {name: y[lines] for name, y in alone.outputs.items()},
        {name: state[lines + 1] for name, state in alone.states.items()},
    )
    return _judge_crowd(model, mild, wild, expected, found, tolerance)


def _chunk_beside_strangers(model: BundleModel, golden: Golden, alone: Rollout, tolerance: float) -> Coupling | None:
    rows = min(_CHUNK_ROWS, len(golden.dt_s))
    first = _spread(len(golden.dt_s) - rows + 1, _GOLDEN_LINES)
    cells = first[:, None] + np.arange(rows)
    inputs = {name: x[cells] for name, x in golden.inputs.items()}
    states = {name: state[first] for name, state in alone.states.items()}
    mild, wild = _crowds(model.manifest.time, inputs, golden.dt_s[cells, None], states)
    runs = [model.chunk(each.inputs, each.dt_s, each.valid, each.states) for each in (mild, wild)]
    for run in runs:
        _check_shapes(model.manifest, *run, (BATCH, rows))
    found = [_of(run, mild.golden) for run in runs]
    expected = (
        {name: y[cells] for name, y in alone.outputs.items()},
        {name: state[first + rows] for name, state in alone.states.items()},
    )
    return _judge_crowd(model, mild, wild, expected, found, tolerance)


def _judge_crowd(
    model: BundleModel,
    mild: Crowd,
    wild: Crowd,
    alone: tuple[Tensors, Tensors],
    found: list[tuple[Tensors, Tensors]],
    tolerance: float,
) -> Coupling | None:
    """Whether golden lines moved: with what stands beside them, or from what they are alone.

    The first compares calls of one shape, whose rounding is the same, so that it may be strict; how large a batch is
    may change the last bits, which the manifest's tolerance covers.
    """
    for first, second, allowed in (
        (found[0], found[1], tolerance),
        (alone, found[0], max(tolerance, model.manifest.tolerance)),
    ):
        error, what = _moved(model.manifest, first, second)
        if not error <= allowed:
            return Coupling(what, error, mild, wild)
    return None


def _crowds(time: TimeSpec, inputs: Tensors, dt_s: Array, states: Tensors) -> tuple[Crowd, Crowd]:
    """Golden lines `[N, …]` beside others like them, and in the same places beside others 100 times as large.

    The latter have both signs, other times, and every other row of theirs does not count.
    """
    random = np.random.default_rng(0)
    n = len(dt_s)
    place = random.permutation(BATCH)
    stranger = random.integers(0, n, BATCH - n)

    def mixed(lines: Array, others: Array) -> Array:
        batch = np.empty((BATCH, *lines.shape[1:]), lines.dtype)
        batch[place[:n]], batch[place[n:]] = lines, others
        return batch

    def crowd(other: Callable[[Array], Array], other_dt_s: Array, other_valid: BoolArray) -> Crowd:
        return Crowd(
            {name: mixed(x, other(x[stranger])) for name, x in inputs.items()},
            mixed(dt_s, other_dt_s[stranger]),
            mixed(valid, other_valid[stranger]),
            {name: mixed(state, other(state[stranger])) for name, state in states.items()},
            place[:n],
        )

    valid: BoolArray = np.ones(dt_s.shape[:-1], np.bool_)
    gaps = valid.copy()
    gaps[..., 1::2] = False
    return crowd(lambda lines: lines, dt_s, valid), crowd(_hundredfold, _other_times(time, dt_s), gaps)


def _hundredfold(x: Array) -> Array:
    """Strangers' values `[B - N, …]`: 100 times as large, every other stranger's with the opposite sign, and 100 where
    there was nothing; the opposite where that cannot be."""
    if x.dtype == np.bool_:
        return ~x
    if x.dtype == np.uint8:
        return np.uint8(255) - x
    large = np.clip(np.where(x == 0, _SCALE, x * np.float32(_SCALE)), -_LARGEST, _LARGEST).astype(x.dtype)
    large[1::2] *= -1
    return large


def _other_times(time: TimeSpec, dt_s: Array) -> Array:
    """The longest and the shortest elapsed time in turn, line by line."""
    other = np.full_like(dt_s, time.max_s)
    other[1::2] = time.min_s
    return other


def _spread(rows: int, most: int) -> Int64Array:
    """At most so many of `rows` indices, from the first to the last."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def _of(run: tuple[Tensors, Tensors], lines: Int64Array) -> tuple[Tensors, Tensors]:
    outputs, states = run
    return {name: y[lines] for name, y in outputs.items()}, {name: state[lines] for name, state in states.items()}


def _with_holes(model: BundleModel, golden: Golden) -> tuple[Tensors, Tensors]:
    """The recording through the chunk graph with rows between that are not valid: first, last, and after each third."""
    rows = np.arange(len(golden.dt_s))
    at = rows + rows // 3 + 1
    row_of = np.zeros(at[-1] + 2, np.int64)
    row_of[at] = rows
    valid: BoolArray = np.zeros(len(row_of), np.bool_)
    valid[at] = True
    dt_s = np.where(valid, golden.dt_s[row_of], np.float32(model.manifest.time.nominal_s))
    inputs = {name: x[None, row_of] for name, x in golden.inputs.items()}
    y, states = model.chunk(inputs, dt_s[None, :, None], valid[None], model.initial(1))
    _check_shapes(model.manifest, y, states, (1, len(row_of)))
    return {name: value[0, at] for name, value in y.items()}, {name: value[0] for name, value in states.items()}


def _check_shapes(manifest: Manifest, outputs: Tensors, states: Tensors, leading: tuple[int, ...]) -> None:
    found = [("output", name, outputs[name].shape, (*leading, *t.shape)) for name, t in manifest.results.items()]
    found += [("state", s.name, states[s.name].shape, (*leading[:1], *s.shape)) for s in manifest.states]
    for kind, name, shape, expected in found:
        if shape != expected:
            raise ValueError(f"{kind} '{name}' has shape {list(shape)}, expected {list(expected)}")


def _judge(bundle: Bundle, graph: Path, outputs: Tensors, states: Tensors, golden: Golden) -> None:
    """Compare with the recording; BundleError names what is off."""
    tolerance = bundle.manifest.tolerance
    for what, error in _errors(bundle.manifest, (outputs, states), (golden.outputs, golden.states)).items():
        if not error <= tolerance:
            raise BundleError(
                f"{bundle.path}: {graph.name} does not reproduce golden.npz: {what} is off by {error:.2g} of its "
                f"scale, tolerance {tolerance:g}"
            )


def _median_step_s(model: BundleModel, batch: int, repeats: int = 15) -> float:
    inputs = {t.name: np.zeros((batch, *t.shape), t.np_dtype) for t in model.manifest.inputs}
    dt = np.full((batch, 1), model.manifest.time.nominal_s, np.float32)
    states = model.initial(batch)
    times: list[float] = []
    while len(times) < 3 or (len(times) < repeats and sum(times) < _MEASURE_S):
        start = time.perf_counter()
        model.step(inputs, dt, states)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
