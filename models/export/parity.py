"""Do step.onnx and chunk.onnx say what PyTorch says? The one place of the models that runs onnxruntime.

Errors are in units of each output's standard deviation over the training data; those of a state are absolute, or in
units of the state's largest value where that is above one, as float32 resolves it. Batches are 1, 3 and 64 recordings,
ragged, with the time that really passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from statestream.models.bundle import CHUNK, STEP
from statestream.models.data.recordings import Recording
from statestream.models.export.onnx_scan import input_names
from statestream.models.metrics import deviation, state_deviation
from statestream.models.spec import Array, Manifest, split_inputs
from statestream.models.training.network import Network
from statestream.models.training.rollout import Padded, pad, rollout

BATCHES = (1, 3, 64)
ROWS = 256
"""Rows of a recording that are compared; whole recordings at batch 1."""


class ParityError(ValueError):
    """An exported graph does not reproduce PyTorch."""


@dataclass(frozen=True)
class Reference:
    """Ragged recordings side by side, with what PyTorch makes of them."""

    padded: Padded
    y_BTK: Array
    states: dict[str, Array]


def reproduced(
    network: Network, graphs: Mapping[str, bytes], manifest: Manifest, recordings: Sequence[Recording]
) -> Network:
    """The network that the graphs reproduce: as it is, in float32, else in double precision.

    Where the state hangs on little things, two runs in float32 are further from each other than either is from what the
    weights say exactly; a graph is not wrong for what PyTorch rounded.

    Raises:
        ParityError: a graph is above `manifest.tolerance` in both.
    """
    try:
        check_parity(network, graphs, manifest, recordings)
    except ParityError:
        network = network.exact()
        check_parity(network, graphs, manifest, recordings)
    return network


def check_parity(
    network: Network, graphs: Mapping[str, bytes], manifest: Manifest, recordings: Sequence[Recording]
) -> float:
    """The largest error of either graph at any batch.

    Raises:
        ParityError: it is above `manifest.tolerance`.
    """
    sessions = {name: _session(graph) for name, graph in graphs.items()}
    worst = 0.0
    for batch in BATCHES:
        reference = _reference(network, manifest, [_ragged(recordings, k, batch) for k in range(batch)])
        for name, run in ((STEP, run_steps), (CHUNK, run_chunk)):
            y_BTK, states = run(sessions[name], manifest, reference.padded)
            error = _error(manifest, reference, y_BTK, states)
            if not error <= manifest.tolerance:
                raise ParityError(
                    f"{manifest.ref}: {name} differs from PyTorch by {error:.3g} standard deviations at batch {batch}; "
                    f"the tolerance is {manifest.tolerance:.3g}"
                )
            worst = max(worst, error)
    return worst


def run_steps(
    session: onnxruntime.InferenceSession, manifest: Manifest, padded: Padded
) -> tuple[Array, dict[str, Array]]:
    """step.onnx row by row: `y_BTK`, and the states; rows that are not valid are left out as a server would."""
    states = _initial(manifest, len(padded.valid_BT))
    names = ["y", *(f"state_{s.name}_out" for s in manifest.states)]
    x_TBF, dt_TB1 = padded.x_BTF.numpy().swapaxes(0, 1), padded.dt_BT1.numpy().swapaxes(0, 1)
    y_T = []
    for x_BF, dt_B1, valid_B in zip(x_TBF, dt_TB1, padded.valid_BT.numpy().T, strict=True):
        inputs = split_inputs(manifest.inputs, x_BF)
        feed = dict(zip(input_names(manifest), (*inputs.values(), dt_B1, *states.values()), strict=True))
        y_BK, *advanced = session.run(names, {name: np.ascontiguousarray(a) for name, a in feed.items()})
        y_T.append(y_BK)
        for name, new in zip(states, advanced, strict=True):
            states[name] = np.where(valid_B.reshape(-1, *[1] * (new.ndim - 1)), new, states[name])
    return np.stack(y_T, axis=1), states


def run_chunk(
    session: onnxruntime.InferenceSession, manifest: Manifest, padded: Padded
) -> tuple[Array, dict[str, Array]]:
    """chunk.onnx over all rows at once: `y_BTK`, and the states."""
    states = _initial(manifest, len(padded.valid_BT))
    inputs = split_inputs(manifest.inputs, padded.x_BTF.numpy())
    feed = {f"{name}_seq": x for name, x in inputs.items()}
    feed |= {"dt_seq": padded.dt_BT1.numpy(), "valid": padded.valid_BT.numpy()}
    names = ["y_seq", *(f"state_{name}_out" for name in states)]
    y_BTK, *advanced = session.run(names, feed | {f"state_{name}": value for name, value in states.items()})
    return y_BTK, dict(zip(states, advanced, strict=True))


def _reference(network: Network, manifest: Manifest, recordings: Sequence[Recording]) -> Reference:
    padded = pad(recordings, manifest.time)
    results = rollout(network, recordings, manifest.time)
    y_BTK = np.zeros((*padded.valid_BT.shape, len(network.facts.labels)), np.float32)
    for row, result in enumerate(results):
        y_BTK[row, : len(result.outputs)] = result.outputs
    states = {s.name: np.concatenate([r.state[s.name].numpy() for r in results]) for s in manifest.states}
    return Reference(padded, y_BTK, states)


def _ragged(recordings: Sequence[Recording], k: int, batch: int) -> Recording:
    """The k-th of a batch: the recordings in turn, each time from another row on, no two equally long."""
    recording = recordings[k % len(recordings)]
    if batch == 1:
        return recording
    start = (k // len(recordings)) * 7 % max(1, len(recording) - 1)
    return recording.where(slice(start, start + max(1, ROWS - 3 * k)))


def _error(manifest: Manifest, reference: Reference, y_BTK: Array, states: Mapping[str, Array]) -> float:
    valid = reference.padded.valid_BT.numpy()
    (output,) = manifest.outputs
    errors = [deviation(y_BTK[valid], reference.y_BTK[valid], output.std_array)]
    errors += [state_deviation(states[name], want) for name, want in reference.states.items()]
    return max(float(np.max(error)) for error in errors)


def _initial(manifest: Manifest, batch: int) -> dict[str, Array]:
    return {s.name: np.repeat(s.initial_array[None], batch, axis=0) for s in manifest.states}


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
