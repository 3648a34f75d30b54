"""Parity: compares graphs of steps and of chunks with PyTorch.

Errors are in units of each output's standard deviation over the training data. Errors of a state are absolute, or, for
a largest value above one, relative to it, as float32 resolves it. Batches are 1, 3 and 64 ragged recordings with their
real elapsed time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from statestream.models.bundle import FUSED, STEP
from statestream.models.data.recordings import Recording
from statestream.models.export.onnx_scan import input_names
from statestream.models.metrics import deviation, state_deviation
from statestream.models.spec import PROBABILITY, Array, Manifest, split_inputs
from statestream.models.training.network import Network
from statestream.models.training.rollout import Padded, pad, rollout

BATCHES = (1, 3, 64)
ROWS = 256
"""Most rows compared per recording; at batch 1 whole recordings are."""
OWN_ERRORS = 2.0
"""Largest error of a graph, in errors of PyTorch in float32, where these exceed the tolerance."""
MOST_WIDER = 10.0
"""Largest factor by which that widens a tolerance."""


class ParityError(ValueError):
    """An exported graph does not reproduce PyTorch."""


@dataclass(frozen=True)
class Reference:
    """Padded recordings and PyTorch's results for them."""

    padded: Padded
    outputs: dict[str, Array]
    """`[B, T, K]` by name."""
    states: dict[str, Array]


def reproduced(
    network: Network, graphs: Mapping[str, bytes], manifest: Manifest, recordings: Sequence[Recording]
) -> tuple[Network, Manifest]:
    """Return the network that the graphs reproduce, in float32, else in double precision, and the manifest.

    Where the state is sensitive to small errors, two float32 runs differ more from each other than either does from the
    exact result; PyTorch's own rounding must not fail a graph. Nor can a graph be more exact than float32: where both
    comparisons fail, the tolerance is twice PyTorch's own error, but at most ten times what was asked for.

    Raises:
        ParityError: a graph's error is above the tolerance against both.
    """
    try:
        check_parity(network, graphs, manifest, recordings)
        return network, manifest
    except ParityError:
        exact = network.exact()
    try:
        check_parity(exact, graphs, manifest, recordings)
    except ParityError:
        own = min(OWN_ERRORS * rounding_error(network, exact, manifest, recordings), MOST_WIDER * manifest.tolerance)
        if own <= manifest.tolerance:
            raise
        manifest = manifest.model_copy(update={"tolerance": float(f"{own:.2g}")})
        check_parity(exact, graphs, manifest, recordings)
    return exact, manifest


def rounding_error(network: Network, exact: Network, manifest: Manifest, recordings: Sequence[Recording]) -> float:
    """Largest error of a network in float32 against the same in double precision."""
    worst = 0.0
    for batch in BATCHES:
        ragged = [_ragged(recordings, k, batch) for k in range(batch)]
        rounded, reference = (_reference(each, manifest, ragged) for each in (network, exact))
        worst = max(worst, _error(manifest, reference, rounded.outputs, rounded.states))
    return worst


def check_parity(
    network: Network, graphs: Mapping[str, bytes], manifest: Manifest, recordings: Sequence[Recording]
) -> float:
    """Compare graphs, by their files' names, with PyTorch at every batch size.

    Returns the largest error.

    Raises:
        ParityError: the error is above `manifest.tolerance`.
    """
    sessions = {name: _session(graph) for name, graph in graphs.items()}
    worst = 0.0
    for batch in BATCHES:
        reference = _reference(network, manifest, [_ragged(recordings, k, batch) for k in range(batch)])
        for name, session in sessions.items():
            run = run_steps if name in (STEP, FUSED.step) else run_chunk
            outputs, states = run(session, manifest, reference.padded)
            error = _error(manifest, reference, outputs, states)
            if not error <= manifest.tolerance:
                raise ParityError(
                    f"{manifest.ref}: {name} differs from PyTorch by {error:.3g} standard deviations at batch {batch}; "
                    f"the tolerance is {manifest.tolerance:.3g}"
                )
            worst = max(worst, error)
    return worst


def run_steps(
    session: onnxruntime.InferenceSession, manifest: Manifest, padded: Padded
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run step.onnx row by row, skipping invalid rows as a server does.

    Returns the outputs, `[B, T, K]` each, and the states.
    """
    states = _initial(manifest, len(padded.valid_BT))
    outputs = [spec.name for spec in manifest.outputs]
    names = [*outputs, *(f"state_{s.name}_out" for s in manifest.states)]
    x_TBF, dt_TB1 = padded.x_BTF.numpy().swapaxes(0, 1), padded.dt_BT1.numpy().swapaxes(0, 1)
    rows: list[Sequence[Array]] = []
    for x_BF, dt_B1, valid_B in zip(x_TBF, dt_TB1, padded.valid_BT.numpy().T, strict=True):
        inputs = split_inputs(manifest.inputs, x_BF)
        feed = dict(zip(input_names(manifest), (*inputs.values(), dt_B1, *states.values()), strict=True))
        results = session.run(names, {name: np.ascontiguousarray(a) for name, a in feed.items()})
        rows.append(results[: len(outputs)])
        for name, new in zip(states, results[len(outputs) :], strict=True):
            states[name] = np.where(valid_B.reshape(-1, *[1] * (new.ndim - 1)), new, states[name])
    columns = zip(*rows, strict=True)
    return {name: np.stack(column, axis=1) for name, column in zip(outputs, columns, strict=True)}, states


def run_chunk(
    session: onnxruntime.InferenceSession, manifest: Manifest, padded: Padded
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run chunk.onnx over all rows at once; returns the outputs, `[B, T, K]` each, and the states."""
    states = _initial(manifest, len(padded.valid_BT))
    inputs = split_inputs(manifest.inputs, padded.x_BTF.numpy())
    feed = {f"{name}_seq": x for name, x in inputs.items()}
    feed |= {"dt_seq": padded.dt_BT1.numpy(), "valid": padded.valid_BT.numpy()}
    outputs = [spec.name for spec in manifest.outputs]
    names = [*(f"{name}_seq" for name in outputs), *(f"state_{name}_out" for name in states)]
    results = session.run(names, feed | {f"state_{name}": value for name, value in states.items()})
    after = dict(zip(states, results[len(outputs) :], strict=True))
    return dict(zip(outputs, results, strict=False)), after


def _reference(network: Network, manifest: Manifest, recordings: Sequence[Recording]) -> Reference:
    padded = pad(recordings, manifest.time)
    results = rollout(network, recordings, manifest.time)
    y_BTK = np.zeros((*padded.valid_BT.shape, len(network.facts.labels)), np.float32)
    for row, result in enumerate(results):
        y_BTK[row, : len(result.outputs)] = result.outputs
    states = {s.name: np.concatenate([r.state[s.name].numpy() for r in results]) for s in manifest.states}
    return Reference(padded, outputs_of(manifest, y_BTK), states)


def outputs_of(manifest: Manifest, y: Array) -> dict[str, Array]:
    """A manifest's outputs by name, of what the network makes."""
    return {spec.name: np.exp(y) if spec.unit == PROBABILITY else y for spec in manifest.outputs}


def _ragged(recordings: Sequence[Recording], k: int, batch: int) -> Recording:
    """The k-th recording of a batch: recordings in turn, with different starts and lengths."""
    recording = recordings[k % len(recordings)]
    if batch == 1:
        return recording
    start = (k // len(recordings)) * 7 % max(1, len(recording) - 1)
    return recording.where(slice(start, start + max(1, ROWS - 3 * k)))


def _error(
    manifest: Manifest, reference: Reference, outputs: Mapping[str, Array], states: Mapping[str, Array]
) -> float:
    valid = reference.padded.valid_BT.numpy()
    errors = [
        deviation(outputs[spec.name][valid], reference.outputs[spec.name][valid], spec.std_array)
        for spec in manifest.outputs
    ]
    errors += [state_deviation(states[name], want) for name, want in reference.states.items()]
    return max(float(np.max(error)) for error in errors)


def _initial(manifest: Manifest, batch: int) -> dict[str, Array]:
    return {s.name: np.repeat(s.initial_array[None], batch, axis=0) for s in manifest.states}


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # As the engine: otherwise a MatMul by 8-bit weights rounds what it multiplies, too.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
