"""ONNX Runtime engine: opens, verifies and runs a bundle's graphs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.bundle import CHUNK, STEP, Bundle, BundleError
from statestream.models.spec import Array, BoolArray, Float32Array, Manifest, Tensors, TensorSpec
from statestream.service.engine import providers as presets
from statestream.service.engine.providers import NO_BUILD, TensorRTCache

log = logging.getLogger(__name__)

_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)", "bool": "tensor(bool)"}
_WARM_UP_BATCHES = (1, 64)

Named = tuple[str, TensorSpec]
"""A tensor's name in the graph, and its spec."""


@dataclass(frozen=True)
class Cost:
    """Duration of one call of the step graph, measured at load."""

    step_s: float
    """Seconds for a batch of 1."""
    batch_s: float
    """Seconds for a batch of 64."""


@dataclass(frozen=True)
class Graph:
    """One ONNX Runtime session, and the names of its tensors.

    `inputs` and `states` are pairs: the manifest's name and the graph's.
    """

    session: Any
    inputs: tuple[tuple[str, str], ...]
    states: tuple[tuple[str, str], ...]
    dt: str
    outputs: tuple[str, ...]
    """The manifest's names, in the order of `fetch`; the new states follow there."""
    fetch: list[str]

    def run(self, inputs: Tensors, dt: Array, valid: Array | None, states: Tensors) -> tuple[Tensors, Tensors]:
        feed = {graph_name: inputs[name] for name, graph_name in self.inputs}
        feed[self.dt] = dt
        if valid is not None:
            feed["valid"] = valid
        for name, graph_name in self.states:
            feed[graph_name] = states[name]
        values = self.session.run(self.fetch, feed)
        n = len(self.outputs)
        return (
            dict(zip(self.outputs, values[:n], strict=True)),
            {name: value for (name, _), value in zip(self.states, values[n:], strict=True)},
        )


class Engine:
    """A bundle ready to run. `load` refuses one that does not reproduce its golden recording."""

    def __init__(self, manifest: Manifest, step: Graph, chunk: Graph, provider: str) -> None:
        self._step = step
        self._chunk = chunk
        self.manifest = manifest
        self.provider = provider
        self.cost = Cost(0.0, 0.0)

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 1,
        cache: TensorRTCache = NO_BUILD,
    ) -> Engine:
        """Open both graphs and check their tensors against the manifest; arguments and errors as for `load`."""
        m, chosen = bundle.manifest, presets.available(providers)
        if "tensorrt" in chosen:
            cache.check(m)
        # XNNPACK has its own thread pool.
        session_threads = 1 if "xnnpack" in chosen else threads
        step_arguments = presets.for_step(chosen, m, threads, cache)
        step = _open(bundle.step_path, m, step_arguments, session_threads, suffix="", extra=())
        chunk_arguments = presets.for_chunk(chosen, m, threads, cache)
        chunk = _open(bundle.chunk_path, m, chunk_arguments, session_threads, suffix="_seq", extra=("valid",))
        provider = str(step.session.get_providers()[0])
        if provider != step_arguments[0][0]:
            log.warning("%s: onnxruntime took %s instead of %s", m.ref, provider, step_arguments[0][0])
        return cls(m, step, chunk, provider)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 1,
        cache: TensorRTCache = NO_BUILD,
    ) -> Engine:
        """Open both graphs, check their tensors, replay the golden recording, and measure.

        Args:
            providers: keys of `PROVIDERS`, the preferred one first; those not available are skipped, with a log line.
            threads: threads of ONNX Runtime within an operator.
            cache: where TensorRT's engines are, and whether to build missing ones.

        Raises:
            BundleError: the graphs do not have the manifest's tensors, or do not reproduce `golden.npz`.
            FailedPrecondition: onnxruntime is not installed, or has none of `providers`, or TensorRT has no engine.
        """
        engine = cls.open(bundle, providers=providers, threads=threads, cache=cache)
        engine.replay(bundle)
        engine.cost = engine._measure()
        if cache.build and engine.provider == presets.PROVIDERS["tensorrt"]:
            cache.finish(engine.manifest)
        return engine

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """Run the step graph: see `base.StepModel`."""
        return self._step.run(inputs, dt_B1, None, states)

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Run the chunk graph: see `base.StepModel`."""
        return self._chunk.run(inputs, dt_BT1, valid_BT, states)

    def initial(self, batch: int) -> dict[str, Array]:
        """Initial states, `[batch, *shape]` by name."""
        return {
            s.name: np.ascontiguousarray(np.broadcast_to(s.initial_array, (batch, *s.shape)))
            for s in self.manifest.states
        }

    def rollout(self, inputs: Tensors, dt_s: Float32Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Run one session step by step from the initial state.

        Args:
            inputs: `[time, *shape]` by name.
            dt_s: `[time]`, seconds.

        Returns:
            Outputs `[time, *shape]` and final states `[*shape]`, by name.
        """
        states: Tensors = self.initial(1)
        rows: list[Tensors] = []
        for k in range(len(dt_s)):
            y, states = self.step({n: x[k : k + 1] for n, x in inputs.items()}, dt_s[k : k + 1, None], states)
            rows.append(y)
        return {n: np.concatenate([y[n] for y in rows]) for n in rows[0]}, {n: s[0] for n, s in states.items()}

    def replay(self, bundle: Bundle) -> None:
        """Run the golden recording through both graphs and compare.

        Raises:
            BundleError: an output or final state is off by more than the manifest's tolerance.
        """
        golden = bundle.golden()
        valid = np.ones((1, len(golden.dt_s)), np.bool_)
        inputs = {name: x[None] for name, x in golden.inputs.items()}
        y, states = self.chunk(inputs, golden.dt_s[None, :, None], valid, self.initial(1))
        whole = {name: value[0] for name, value in y.items()}, {name: value[0] for name, value in states.items()}
        for graph, (outputs, final) in ((STEP, self.rollout(golden.inputs, golden.dt_s)), (CHUNK, whole)):
            for spec in self.manifest.outputs:
                error = np.abs(outputs[spec.name] - golden.outputs[spec.name]) / spec.std_array
                self._check_error(bundle, graph, f"output '{spec.name}'", float(np.max(error)))
            for state in self.manifest.states:
                expected = golden.states[state.name]
                scale = max(1.0, float(np.max(np.abs(expected))))
                self._check_error(
                    bundle, graph, f"state '{state.name}'", float(np.max(np.abs(final[state.name] - expected))) / scale
                )

    def _check_error(self, bundle: Bundle, graph: str, what: str, error: float) -> None:
        if not error <= self.manifest.tolerance:
            raise BundleError(
                f"{bundle.path}: {graph} does not reproduce golden.npz: {what} is off by {error:.2g} of its scale, "
                f"tolerance {self.manifest.tolerance:g}"
            )

    def _measure(self) -> Cost:
        return Cost(*(self._median_step_s(batch) for batch in _WARM_UP_BATCHES))

    def _median_step_s(self, batch: int, repeats: int = 15) -> float:
        inputs = {t.name: np.zeros((batch, *t.shape), t.np_dtype) for t in self.manifest.inputs}
        dt = np.full((batch, 1), self.manifest.time.nominal_s, np.float32)
        states = self.initial(batch)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.step(inputs, dt, states)
            times.append(time.perf_counter() - start)
        return float(np.median(times))


def _open(
    path: Path,
    manifest: Manifest,
    providers: list[presets.Argument],
    threads: int,
    *,
    suffix: str,
    extra: tuple[str, ...],
) -> Graph:
    ort = presets.runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take cores that the service and other programs on the device need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Dequantise 8-bit weights once, at load, instead of at every step: halves the time of a CfC of 128 units.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BundleError(f"{path}: onnxruntime refuses it: {_first_line(error)}") from error
    inputs: list[Named] = [(f"{t.name}{suffix}", t) for t in manifest.inputs]
    outputs: list[Named] = [(f"{name}{suffix}", t) for name, t in manifest.results.items()]
    states_in: list[Named] = [(f"state_{s.name}", s) for s in manifest.states]
    states_out: list[Named] = [(f"state_{s.name}_out", s) for s in manifest.states]
    rank = 2 if suffix else 1
    _check(path, "input", session.get_inputs(), inputs, states_in, {f"dt{suffix}", *extra}, rank)
    _check(path, "output", session.get_outputs(), outputs, states_out, set(), rank)
    return Graph(
        session,
        inputs=tuple((t.name, name) for name, t in inputs),
        states=tuple((t.name, name) for name, t in states_in),
        dt=f"dt{suffix}",
        outputs=tuple(manifest.results),
        fetch=[name for name, _ in outputs + states_out],
    )


def _check(
    path: Path,
    kind: str,
    actual: Sequence[Any],
    rows: list[Named],
    states: list[Named],
    others: set[str],
    rank: int,
) -> None:
    """Check that the graph's tensors have the manifest's names, types and shapes."""
    found = {tensor.name: tensor for tensor in actual}
    for name, spec, leading in [(n, t, rank) for n, t in rows] + [(n, t, 1) for n, t in states]:
        if name not in found:
            raise BundleError(f"{path}: no {kind} '{name}'; the graph has {', '.join(sorted(found))}")
        tensor = found[name]
        if tensor.type != _TYPES[spec.dtype]:
            raise BundleError(f"{path}: {kind} '{name}' is {tensor.type}, the manifest says {spec.dtype}")
        shape = tuple(tensor.shape[leading:])
        if len(tensor.shape) != leading + len(spec.shape) or any(
            isinstance(got, int) and got != want for got, want in zip(shape, spec.shape, strict=True)
        ):
            raise BundleError(f"{path}: {kind} '{name}' has shape {tensor.shape}, the manifest says {list(spec.shape)}")
    wanted = {name for name, _ in rows} | {name for name, _ in states} | others
    for name in others - found.keys():
        raise BundleError(f"{path}: no {kind} '{name}'; the graph has {', '.join(sorted(found))}")
    for name in found.keys() - wanted:
        raise BundleError(f"{path}: {kind} '{name}' is not in the manifest")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
