"""ONNX Runtime engine: opens, verifies and runs a bundle's graphs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from statestream.models.bundle import Bundle, BundleError, odd_names
from statestream.models.spec import Array, BoolArray, Float32Array, Manifest, Tensors, TensorSpec
from statestream.service.engine import golden
from statestream.service.engine import providers as presets
from statestream.service.engine.base import TurnLimits
from statestream.service.engine.coupling import culprit
from statestream.service.engine.golden import Cost
from statestream.service.engine.graph_file import GraphFile, check_weight_files
from statestream.service.engine.providers import NO_BUILD, TensorRTCache
from statestream.service.engine.refusal import reason, refusing
from statestream.service.engine.runtimes import oldest, runs

if TYPE_CHECKING:
    from statestream.service.engine.native import _core

log = logging.getLogger(__name__)

_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)", "bool": "tensor(bool)"}
_APART = 1e-5
"""How far a row may move with what stands beside it on a CPU, which computes each row alike."""
_ANY_BATCH = 2**31
_CHECK_S = 300.0
"""Longest that a check may take: a graph can hold a loop whose end depends on what it computes."""

Named = tuple[str, TensorSpec]
"""A tensor's name in the graph, and its spec."""


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
    new_states: tuple[str, ...]
    """The manifest's names, in the order of `fetch`: outputs, then new states."""
    fetch: list[str]
    options: Any = None
    """ONNX Runtime's options of a run; None: its defaults."""

    def run(self, inputs: Tensors, dt: Array, valid: Array | None, states: Tensors) -> tuple[Tensors, Tensors]:
        feed = {self.dt: dt}
        for name, graph_name in self.inputs:
            feed[graph_name] = inputs[name]
        if valid is not None:
            feed["valid"] = valid
        for name, graph_name in self.states:
            feed[graph_name] = states[name]
        values = self.session.run(self.fetch, feed, self.options)
        n = len(self.outputs)
        return (
            dict(zip(self.outputs, values[:n], strict=True)),
            dict(zip(self.new_states, values[n:], strict=True)),
        )


class Engine:
    """A bundle ready to run. `load` refuses one that does not reproduce its golden recording."""

    def __init__(
        self, manifest: Manifest, step: Graph, chunk: Graph, provider: str, max_batch: int, native: bool = False
    ) -> None:
        self._step = step
        self._chunk = chunk
        self.native = native
        """Whether C++ opened the graphs, so that it can run them, too."""
        self.manifest = manifest
        self.provider = provider
        self.max_batch = max_batch
        """Sessions that the graphs are given at once; larger batches run in parts."""
        self.cost = Cost(0.0, 0.0)
        self.fused = False
        """Whether the bundle's fused graphs run."""
        self.concerns: list[str] = []
        """What is odd about the bundle, but no reason to refuse it."""

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 1,
        cache: TensorRTCache = NO_BUILD,
        max_batch: int = _ANY_BATCH,
        native: bool = False,
    ) -> Engine:
        """Open both graphs and check their tensors against the manifest; arguments and errors as for `load`."""
        m, chosen = bundle.manifest, presets.available(providers)
        if "tensorrt" in chosen:
            cache.check(m)
        step_file, chunk_file = GraphFile.read(bundle.step_path), GraphFile.read(bundle.chunk_path)
        check_weight_files(bundle, step_file, chunk_file)
        max_batch = min(max_batch, m.max_batch or max_batch)
        native = native and chosen[0] == "cpu"
        # XNNPACK has threads of its own.
        own = 1 if "xnnpack" in chosen else threads
        step_arguments = presets.for_step(chosen, m, threads, cache)
        session = _session(step_file, step_arguments, own, native)
        step = _open(session, step_file.path, m, suffix="", extra=(), max_batch=max_batch)
        chunk_arguments = presets.for_chunk(chosen, m, threads, cache)
        session = _session(chunk_file, chunk_arguments, own, native)
        chunk = _open(session, chunk_file.path, m, suffix="_seq", extra=("valid",), max_batch=max_batch)
        provider = str(step.session.get_providers()[0])
        engine = cls(m, step, chunk, provider, max_batch, native)
        if provider != step_arguments[0][0]:
            engine.concerns.append(f"onnxruntime took {provider} instead of {step_arguments[0][0]}")
        states = [f"state_{s.name}" for s in m.states]
        engine.concerns += [f"no node of {step_file.path.name} reads '{name}'" for name in step_file.unread(states)]
        engine.concerns += odd_names(m)
        return engine

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 1,
        cache: TensorRTCache = NO_BUILD,
        max_batch: int = _ANY_BATCH,
        native: bool = False,
        measure: bool = True,
    ) -> Engine:
        """Open both graphs, check them (see `check`), and measure.

        A bundle's fused graphs run in place of the plain ones if the CPU runs them and onnxruntime has their operators.

        Args:
            providers: keys of `PROVIDERS`, the preferred one first; those not available are skipped, with a log line.
            threads: threads of ONNX Runtime within an operator.
            cache: where TensorRT's engines are, and whether to build missing ones.
            max_batch: most sessions in one run of a graph; the manifest may say fewer.
            native: whether C++ opens the graphs, where the CPU runs them; results are the same, bit by bit.
            measure: whether to set `cost`; a caller that loads several at once measures them afterwards, one by one.

        Raises:
            BundleError: the graphs do not have the manifest's tensors, do not reproduce `golden.npz`, mix the sessions
                of a batch, or do not run; the message names the file and the cause.
            FailedPrecondition: onnxruntime is not installed, or has none of `providers`, or TensorRT has no engine.
        """

        def checked(bundle: Bundle) -> Engine:
            engine = cls.open(
                bundle, providers=providers, threads=threads, cache=cache, max_batch=max_batch, native=native
            )
            engine.check(bundle)
            return engine

        with refusing(f"{bundle.path} cannot be loaded"):
            engine = _fused(bundle, checked) if presets.is_cpu(providers) else checked(bundle)
            if measure:
                engine.measure()
            if cache.build and engine.provider == presets.PROVIDERS["tensorrt"]:
                cache.finish(engine.manifest)
        return engine

    def check(self, bundle: Bundle) -> None:
        """Run the golden recording through both graphs: alone, with holes, and beside strangers; see `golden.check`."""
        exact = self.provider in (presets.PROVIDERS["cpu"], presets.PROVIDERS["xnnpack"])
        tolerance = _APART if exact else self.manifest.tolerance
        with self._ending():
            golden.check(self, bundle, tolerance, lambda coupling: culprit(GraphFile.read(bundle.step_path), coupling))

    def measure(self) -> None:
        """Set `cost` to what a step takes here and now."""
        with self._ending():
            self.cost = golden.measure(self)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Have the graphs' runs end with an error after `_CHECK_S`."""
        session = self._step.session
        options = session.run_options() if self.native else presets.runtime().RunOptions()
        graphs = (self._step, self._chunk)
        self._step, self._chunk = (replace(graph, options=options) for graph in graphs)
        timer = threading.Timer(_CHECK_S, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if options.terminate:
                raise BundleError(f"{error} (it had not ended after {_CHECK_S:g} s)") from error
            raise
        finally:
            timer.cancel()
            self._step, self._chunk = graphs

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """Run the step graph: see `base.StepModel`."""
        if len(dt_B1) > self.max_batch:
            return _in_parts(self._step, self.max_batch, inputs, dt_B1, None, states)
        return self._step.run(inputs, dt_B1, None, states)

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Run the chunk graph: see `base.StepModel`."""
        if len(dt_BT1) > self.max_batch:
            return _in_parts(self._chunk, self.max_batch, inputs, dt_BT1, valid_BT, states)
        return self._chunk.run(inputs, dt_BT1, valid_BT, states)

    def plain_turns(self, limits: TurnLimits, clock: Callable[[], float]) -> _core.Turns | None:
        """Plain turns in C++, by `limits` and `max_batch`; None if Python opened the graphs."""
        if not self.native:
            return None
        from statestream.service.engine.native.session import plain_turns

        limits = limits._replace(max_batch=min(limits.max_batch, self.max_batch))
        return plain_turns(self.manifest, self._step.session, self._chunk.session, limits, clock)

    def initial(self, batch: int) -> dict[str, Array]:
        """Initial states, `[batch, *shape]` by name."""
        return {
            s.name: np.ascontiguousarray(np.broadcast_to(s.initial_array, (batch, *s.shape)))
            for s in self.manifest.states
        }

    def rollout(self, inputs: Tensors, dt_s: Float32Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """One session step by step: inputs `[time, *shape]`, `dt_s [time]` to outputs and final states `[*shape]`."""
        passed = golden.rollout(self, inputs, dt_s)
        return passed.outputs, passed.final


def _fused(bundle: Bundle, checked: Callable[[Bundle], Engine]) -> Engine:
    """The engine of a bundle's fused graphs if it has any that run here, else of its plain ones."""
    if (fused := bundle.fused()) is None:
        return checked(bundle)
    try:
        engine = checked(fused)
    except BundleError as error:
        engine, text = checked(bundle), f"the plain graphs run: {error}"
        if _is_too_old(fused):
            log.info("%s: %s", bundle.manifest.ref, text)
        else:
            engine.concerns.append(text)
        return engine
    engine.fused = True
    return engine


def _is_too_old(bundle: Bundle) -> bool:
    """Whether the onnxruntime here is older than a bundle's graphs need."""
    with refusing(f"{bundle.path} cannot be read"):
        needed = oldest(*map(GraphFile.read, (bundle.step_path, bundle.chunk_path)))
    return bool(needed) and not runs(needed, presets.runtime().__version__)


def _in_parts(
    graph: Graph, most: int, inputs: Tensors, dt: Array, valid: Array | None, states: Tensors
) -> tuple[Tensors, Tensors]:
    """Run a batch as several of at most so many sessions."""
    parts = []
    for start in range(0, len(dt), most):
        mine = slice(start, start + most)
        parts.append(
            graph.run(
                {name: x[mine] for name, x in inputs.items()},
                dt[mine],
                None if valid is None else valid[mine],
                {name: state[mine] for name, state in states.items()},
            )
        )
    first = parts[0]
    return (
        {name: np.concatenate([outputs[name] for outputs, _ in parts]) for name in first[0]},
        {name: np.concatenate([after[name] for _, after in parts]) for name in first[1]},
    )


def _session(file: GraphFile, providers: list[presets.Argument], threads: int, native: bool) -> Any:
    """Open a graph, in C++ if `native`; BundleError if ONNX Runtime refuses it."""
    ort, path = presets.runtime(), file.path
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take cores that the service and other programs on the device need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Dequantise 8-bit weights once, at load, instead of at every step: halves the time of a CfC of 128 units.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    try:
        if native:
            from statestream.service.engine.native.session import NativeSession

            return NativeSession(str(path), options)
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BundleError(f"{path}: {_refusal(file, ort.__version__, error)}") from error


def _open(
    session: Any, path: Path, manifest: Manifest, *, suffix: str, extra: tuple[str, ...], max_batch: int
) -> Graph:
    """Check that an opened graph has the manifest's tensors."""
    inputs: list[Named] = [(f"{t.name}{suffix}", t) for t in manifest.inputs]
    outputs: list[Named] = [(f"{name}{suffix}", t) for name, t in manifest.results.items()]
    states_in: list[Named] = [(f"state_{s.name}", s) for s in manifest.states]
    states_out: list[Named] = [(f"state_{s.name}_out", s) for s in manifest.states]
    rank = 2 if suffix else 1
    _check(path, "input", session.get_inputs(), inputs, states_in, {f"dt{suffix}", *extra}, rank)
    _check_axes(path, session.get_inputs(), {name for name, _ in states_in}, rank, max_batch)
    _check(path, "output", session.get_outputs(), outputs, states_out, set(), rank)
    return Graph(
        session,
        inputs=tuple((t.name, name) for name, t in inputs),
        states=tuple((t.name, name) for name, t in states_in),
        dt=f"dt{suffix}",
        outputs=tuple(manifest.results),
        new_states=tuple(t.name for _, t in states_out),
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
        if kind == "output" and not tensor.shape:
            continue  # the graph does not say it; its results will
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


def _check_axes(path: Path, actual: Sequence[Any], states: set[str], rank: int, max_batch: int) -> None:
    """Batch and time are axes of any length; where sessions run one at a time, the batch may be fixed at 1."""
    for tensor in actual:
        for axis, name in enumerate(("batch", "time")[: 1 if tensor.name in states else rank]):
            size = tensor.shape[axis] if axis < len(tensor.shape) else None
            if isinstance(size, int) and not (name == "batch" and size == max_batch == 1):
                raise BundleError(
                    f"{path}: input '{tensor.name}' has a fixed {name} of {size}; export it with a dynamic one"
                    + (", or say max_batch = 1 in the manifest" if (name, size) == ("batch", 1) else "")
                )


def _refusal(file: GraphFile, version: str, error: Exception) -> str:
    """Why onnxruntime did not open a graph: it is too old for it, or what it says itself."""
    needed = oldest(file)
    if needed and not runs(needed, version):
        return (
            f"IR version {file.ir_version}, opset {file.opset}: this needs onnxruntime {needed}, here is {version}; "
            f"export with IR version 10 and opset 20 at most, or install a newer one"
        )
    return f"onnxruntime {version} refuses it: {reason(error)}"
