"""Exporter: makes a bundle from a trained network: graphs, manifest, golden recording.

A bundle is written only if step.onnx and chunk.onnx reproduce PyTorch on real recordings (see `parity`); fused graphs
beside them (see `fused`) are written if they do, too.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript.optimizer import optimize
from torch import Tensor, nn

from statestream.models.bundle import CHUNK, FUSED, STEP, Bundle, Golden, versions, write_bundle
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.export.adaptation import ADAPTIVE_TOLERANCE, AdaptiveNetwork, taught
from statestream.models.export.folding import fold_constants
from statestream.models.export.fused import Chunk, can_fuse, can_unroll, fused
from statestream.models.export.hoisted import RECURRENCE, wrap_hoisted
from statestream.models.export.onnx_scan import (
    IR_VERSION,
    chunk_inputs,
    chunk_outputs,
    input_names,
    output_names,
    wrap_in_scan,
)
from statestream.models.export.parity import check_parity, outputs_of, reproduced
from statestream.models.export.quantization import Weights, pack, quantized
from statestream.models.spec import (
    LOG_PROBABILITY,
    MAX_DROP,
    PROBABILITY,
    Array,
    InputSpec,
    Manifest,
    OutputSpec,
    Quantization,
    TensorSpec,
    TimeSpec,
    split_inputs,
)
from statestream.models.training.dataset import load_dataset
from statestream.models.training.network import Facts, Network
from statestream.models.training.rollout import Rollout, rollout
from statestream.models.training.runs import Run, load_checkpoint
from statestream.models.training.splits import split_dataset
from statestream.models.training.tasks import scores as task_scores

log = logging.getLogger(__name__)

OPSET = 20
LARGEST_STATE = 256
"""Numbers of each of a session's states up to which a hoisted chunk graph is no slower at batch 16 either: a and b of
all rows must fit the cache (`python -m tests.bench.chunks`)."""
LARGEST_WEIGHT = 2**24
"""Most elements of a tensor that is computed from weights at export, not at every load."""
TOLERANCE = 1e-5
GOLDEN_ROWS = 64
COMPARED = 8
"""Held-out recordings on which the graphs are compared with PyTorch."""
RESOLVED = 0.05
"""Smallest `std` of an output relative to its size: float32 cannot resolve 1e-5 of a smaller one."""


def export(
    checkpoint: Run | Path | str,
    repository: Path | str,
    name: str | None = None,
    version: int | None = None,
    *,
    overwrite: bool = False,
    dataset: Dataset | None = None,
    aux_tau: bool = False,
    probabilities: bool = False,
    jpeg: bool = False,
    quantize: Weights | None = None,
    max_drop: float = MAX_DROP,
    adapt: float | None = None,
) -> Bundle:
    """Write the bundle of a training.

    Args:
        checkpoint: a run, its folder or its weights file, or a checkpoint, such as `best.ckpt`.
        repository: folder of bundles, `NAME/VERSION/`.
        name: name of the model; None: the run's.
        version: version of the bundle; None, or one that exists: the next one.
        overwrite: replace a version that exists.
        dataset: recordings to use in place of the run's, which else must be available.
        aux_tau: add the effective time constants as an output (see `export_network`).
        probabilities: add a classification's probabilities as an output (see `export_network`).
        jpeg: clients send frames as JPEG (see `export_network`).
        quantize: store weights in 8 or 16 bits; None: float32.
        max_drop: largest loss of score by `quantize` on the validation split (or, without one, on the test split): the
            difference of an accuracy, the relative growth of an error.
        adapt: forgetting factor of a readout that keeps learning in each session (see `AdaptiveNetwork`).

    Raises:
        RunError, DataError: the run or its recordings cannot be read.
        ParityError: a graph differs from PyTorch by more than the tolerance.
        DropError: `quantize` costs more than `max_drop`.
        ValueError: the network has no weights to `quantize`, or no readout to `adapt`.
    """
    run = checkpoint if isinstance(checkpoint, Run) else load_checkpoint(checkpoint)
    config, network = run.config, run.network
    split = split_dataset(dataset or load_dataset(config), config.split, classes=config.task.kind == "classification")
    time = TimeSpec.around(network.facts.nominal_s)
    found, quantization, at_end = run.metrics.get("test"), None, config.task.at == "end"
    if quantize is not None:
        network, quantization = quantized(network, split, time, quantize, at_end=at_end, max_drop=max_drop)
    if quantize is not None or found is None:
        outputs = [r.outputs for r in rollout(network, split.test, time)]
        found = task_scores(network, outputs, split.test, at_end=at_end)
    unit = np.asarray(network.facts.targets.std)
    output_std, recordings = outputs_std(rollout(network, split.train, time), unit), split.test[:COMPARED]
    if config.task.kind != "classification":
        # Outputs of a network that has learned little hardly vary, so the targets' spread is their least unit.
        targets = spread(np.concatenate([np.asarray(r.target) for r in split.train]), unit)
        output_std = np.maximum(output_std, targets).tolist()
    tolerance = TOLERANCE
    if adapt is not None:
        network, recordings = AdaptiveNetwork(network, adapt), tuple(map(taught, recordings))
        tolerance = ADAPTIVE_TOLERANCE
    return export_network(
        network,
        recordings,
        repository,
        name=name or config.name,
        version=version,
        overwrite=overwrite,
        time=time,
        output_std=output_std,
        description=config.description,
        scores=found,
        training={
            "config": config.model_dump(mode="json"),
            "recordings": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
            "parameters": run.network.parameter_count,
            "baselines": run.baselines,
            "versions": {
                "statestream": package_version("statestream"),
                **run.metrics.get("versions", {"torch": torch.__version__}),
            },
        },
        tolerance=tolerance,
        aux_tau=aux_tau,
        probabilities=probabilities,
        jpeg=jpeg,
        quantization=quantization,
    )


def export_network(
    network: Network,
    recordings: Sequence[Recording],
    repository: Path | str,
    *,
    name: str,
    version: int | None = None,
    overwrite: bool = False,
    time: TimeSpec | None = None,
    output_std: Sequence[float] | None = None,
    description: str = "",
    scores: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
    aux_tau: bool = False,
    probabilities: bool = False,
    jpeg: bool = False,
    quantization: Quantization | None = None,
) -> Bundle:
    """Write `repository/name/version`, by default, or where it exists, the next version.

    Args:
        overwrite: replace a version that exists.
        recordings: held-out recordings; the graphs are compared on all, the first gives the golden vectors.
        output_std: standard deviation of each output over the training data; None: over `recordings`.
        tolerance: largest error of a graph, in units of `output_std`.
        aux_tau: add an output `aux_tau`: the effective time constants of the liquid neurons, in seconds.
        probabilities: add an output `probability` beside the log-probabilities.
        jpeg: clients send frames as JPEG, which the server decodes, not as raw pixels.
        quantization: how to store the weights, which are already `rounded`; None: as float32.

    Raises:
        ParityError: a graph differs from PyTorch by more than the tolerance; the text has the graph, batch and error.
        ValueError: `aux_tau` for a network without time constants, `probabilities` for one that predicts numbers, or
            `jpeg` for one without frames.
    """
    network = deepcopy(network).eval().cpu()
    repository = Path(repository)
    facts = network.facts
    time = time or TimeSpec.around(facts.nominal_s)
    irregular = [with_irregular_time(r, seed=k) for k, r in enumerate(recordings)]
    std = output_std
    if std is None:
        std = outputs_std(rollout(network, recordings, time), np.asarray(facts.targets.std))
    manifest = Manifest(
        name=name,
        version=_version(repository, name, version, overwrite=overwrite),
        description=description,
        inputs=_inputs(network, jpeg=jpeg),
        outputs=_outputs(facts, std, probabilities=probabilities),
        aux=(_tau_spec(network),) if aux_tau else (),
        states=network.states,
        time=time,
        wiring=network.cell.wiring(),
        tolerance=tolerance,
        scores=dict(scores or {}),
        training=dict(training or {}),
    )
    step = step_graph(network, manifest, normalisation=quantization is None)
    if quantization is not None:
        sizes = pack(step, quantization.weights)
        manifest = manifest.model_copy(update={"quantization": quantization.model_copy(update=sizes)})
    chunk, form = chunk_graph(network, step, manifest, quantization)
    manifest = manifest.model_copy(update={"training": {**manifest.training, "chunk_graph": form}})
    graphs = {STEP: step.SerializeToString(), CHUNK: chunk.SerializeToString()}
    exact, manifest = reproduced(network, graphs, manifest, irregular)
    if can_fuse(network):
        graphs |= _fused_if_equal(network, exact, manifest, irregular, quantization)
    golden = golden_vectors(exact, irregular[0], manifest)
    return write_bundle(repository / name / str(manifest.version), manifest, golden, graphs)


def _fused_if_equal(
    network: Network,
    exact: Network,
    manifest: Manifest,
    recordings: Sequence[Recording],
    quantization: Quantization | None,
) -> dict[str, bytes]:
    """Fused graphs, if they reproduce a network here; else none, with a warning: a bundle does without them."""
    try:
        graphs = fused_graphs(network, manifest, quantization)
        check_parity(exact, graphs, manifest, recordings)
    except Exception as error:  # of torch's exporter, or of an onnxruntime without the operator
        log.warning("%s: no fused graphs are written: %s", manifest.ref, str(error).partition("\n")[0])
        return {}
    return graphs


def _version(repository: Path, name: str, wanted: int | None, *, overwrite: bool) -> int:
    """The wanted version if it may be written, else the one after the last."""
    taken = versions(repository, name)
    if wanted is not None and (overwrite or wanted not in taken):
        return wanted
    return max(taken, default=0) + 1


def step_graph(network: Network, manifest: Manifest, *, normalisation: bool = True) -> onnx.ModelProto:
    """Export the network's step as ONNX, with the manifest's names.

    Only the batch axis is dynamic.

    Args:
        normalisation: whether to fold the normalisation of inputs into the weights, which scales their columns.
    """
    step = _Step(network, probabilities=len(manifest.outputs) > 1, aux_tau=bool(manifest.aux))
    return _graph(step, network, manifest, output_names(manifest), normalisation=normalisation)


def chunk_graph(
    network: Network, step: onnx.ModelProto, manifest: Manifest, quantization: Quantization | None = None
) -> tuple[onnx.ModelProto, str]:
    """The faster chunk graph of a step graph, and its form: "hoisted" of small linear states, else "scan"."""
    if manifest.aux or not can_hoist(network):
        return wrap_in_scan(step, manifest), "scan"
    return hoisted_graph(network, manifest, quantization), "hoisted"


def can_hoist(network: Network) -> bool:
    """Whether all but x ← a·x + b can be done for all rows at once, and is no slower."""
    if not network.state_parts or len(network.input_shape) > 1:
        return False
    return max(math.prod(spec.shape) for spec in network.states) <= LARGEST_STATE


def hoisted_graph(network: Network, manifest: Manifest, quantization: Quantization | None = None) -> onnx.ModelProto:
    """The chunk graph of a network with linear states, without what is no recurrence in its loop (see `hoisted`)."""
    outputs = [*manifest.results, *(f"{RECURRENCE}{s.name}" for s in manifest.states)]
    module = _Rows(network, probabilities=len(manifest.outputs) > 1)
    rows = _graph(module, network, manifest, outputs, normalisation=quantization is None)
    if quantization is not None:
        pack(rows, quantization.weights)
    return wrap_hoisted(rows, manifest, network.state_parts or {})


def fused_graphs(network: Network, manifest: Manifest, quantization: Quantization | None = None) -> dict[str, bytes]:
    """Step and chunk graph of a network that `can_fuse`, by their files' names (see `fused`)."""
    whole = can_unroll(network) and not manifest.aux
    network = fused(network)
    step = step_graph(network, manifest, normalisation=quantization is None)
    chunk = _unrolled(network, manifest) if whole else None
    if quantization is not None:
        for graph in (step, *((chunk,) if chunk else ())):
            pack(graph, quantization.weights)
    chunk = chunk or wrap_in_scan(step, manifest)
    return {FUSED.step: step.SerializeToString(), FUSED.chunk: chunk.SerializeToString()}


def _unrolled(network: Network, manifest: Manifest) -> onnx.ModelProto:
    """The chunk graph of a fused network, all rows at once."""
    states = tuple(network.initial_state(2)[s.name] for s in network.states)
    x_BTF, dt_BT1 = torch.zeros(2, 3, *network.input_shape), torch.full((2, 3, 1), network.facts.nominal_s)
    valid_BT = torch.ones(2, 3, dtype=torch.bool)
    inputs, outputs = ([value.name for value in part(manifest)] for part in (chunk_inputs, chunk_outputs))
    module = Chunk(network, probabilities=len(manifest.outputs) > 1)
    example = (*states, x_BTF, dt_BT1, valid_BT)
    return _finished(traced_graph(module, example, inputs, outputs, len(example) - len(states)))


def _graph(
    module: nn.Module, network: Network, manifest: Manifest, outputs: list[str], *, normalisation: bool
) -> onnx.ModelProto:
    """Export a module of inputs, dt and states as ONNX; only the batch axis is dynamic."""
    # Batch 2, because the exporter treats an axis of length 1 as a constant.
    inputs = tuple(torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in manifest.inputs)
    dt_B1 = torch.full((2, 1), network.facts.nominal_s)
    states = tuple(network.initial_state(2)[s.name] for s in network.states)
    model = traced_graph(module, (*inputs, dt_B1, *states), input_names(manifest), outputs)
    fold_constants(model, normalisation=normalisation)
    return _finished(model)


def _finished(model: onnx.ModelProto) -> onnx.ModelProto:
    """A traced graph for onnxruntime 1.18 and newer, without notes."""
    model.ir_version = min(model.ir_version, IR_VERSION)
    _strip(model)
    onnx.checker.check_model(model)
    return model


def traced_graph(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], sequences: int = 0
) -> onnx.ModelProto:
    """Trace a module on example tensors, whose first axis is dynamic, and translate it.

    Args:
        sequences: how many of the last ones have a second axis of time, which is dynamic too.
    """
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    rows = len(example) - sequences
    with _quietly():
        program = torch.onnx.export(
            module,
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(tuple({0: axes[0]} if k < rows else axes for k in range(len(example))),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        # Compute everything that depends on weights only; by default large tensors are left to be computed at load.
        optimize(program.model, input_size_limit=LARGEST_WEIGHT, output_size_limit=LARGEST_WEIGHT)
    return program.model_proto


def with_irregular_time(recording: Recording, *, seed: int, dropped: float = 0.2) -> Recording:
    """Simulate a flaky link: drop rows and delay the others by up to half a period."""
    random = np.random.default_rng(seed)
    kept = random.random(len(recording)) >= dropped
    kept[:2] = True
    recording = recording.where(kept)
    gaps_ns = np.diff(recording.t_ns, append=recording.t_ns[-1] + 1)
    late_ns = (random.random(len(recording)) * 0.5 * gaps_ns).astype(np.int64)
    return Recording(recording.id, recording.t_ns + late_ns, recording.features, recording.target, recording.group)


def outputs_std(rollouts: Sequence[Rollout], unit: Array | float = 1.0) -> list[float]:
    """`spread` of each output over all rollouts."""
    return spread(np.concatenate([r.outputs for r in rollouts]), unit)


def spread(y_NK: Array, unit: Array | float = 1.0) -> list[float]:
    """Standard deviation of each column, with a floor at which float32 resolves the tolerance.

    Args:
        unit: scale of the readout, broadcastable to `[K]`; its rounding is relative to that.
    """
    y_NK = y_NK.astype(np.float64)
    size = np.sqrt((y_NK**2).mean(axis=0))
    return [float(s) for s in np.maximum(y_NK.std(axis=0), np.maximum(RESOLVED * size, 1e-6 * np.asarray(unit)))]


def golden_vectors(network: Network, recording: Recording, manifest: Manifest) -> Golden:
    """Run the first rows of a recording through PyTorch for the golden vectors."""
    short = recording.where(slice(0, GOLDEN_ROWS))
    (result,) = rollout(network, [short], manifest.time)
    return Golden(
        inputs=split_inputs(network.inputs, short.features),
        dt_s=result.dt_s,
        outputs=outputs_of(manifest, result.outputs),
        states={name: value[0].numpy() for name, value in result.state.items()},
    )


def _inputs(network: Network, *, jpeg: bool) -> tuple[InputSpec, ...]:
    """The network's inputs, with pictures encoded if `jpeg`."""
    row, *others = network.inputs
    if not jpeg:
        return network.inputs
    if row.colours is None:
        raise ValueError(f"jpeg: the network takes {len(network.facts.features)} numbers, no frames")
    return row.model_copy(update={"encoding": "jpeg"}), *others


def _outputs(facts: Facts, std: Sequence[float], *, probabilities: bool) -> tuple[OutputSpec, ...]:
    shape, labels, task = (len(facts.labels),), tuple(facts.labels), facts.task
    unit = LOG_PROBABILITY if task == "classification" else ""
    y = OutputSpec(name="y", shape=shape, labels=labels, task=task, unit=unit, std=tuple(std))
    if not probabilities:
        return (y,)
    if task != "classification":
        raise ValueError(f"probabilities: the network's task is '{task}'; a classification has them")
    # Of a probability an error counts as it is, however rare its class.
    return y, y.model_copy(update={"name": PROBABILITY, "unit": PROBABILITY, "std": (1.0,)})


def _tau_spec(network: Network) -> TensorSpec:
    x_BF, dt_B1 = torch.zeros(1, *network.input_shape), torch.ones(1, 1)
    return TensorSpec(name="tau", shape=(network.time_constants(x_BF, network.initial_state(1), dt_B1).shape[1],))


class _Rows(nn.Module):
    """`Network.row_wise` with positional tensors, for the ONNX export."""

    def __init__(self, network: Network, *, probabilities: bool) -> None:
        super().__init__()
        self.network = network
        self.probabilities = probabilities

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs, dt, states after each row."""
        x_NF, dt_N1, *states = tensors
        after = {spec.name: state for spec, state in zip(self.network.states, states, strict=True)}
        y_NK, moves = self.network.row_wise(x_NF, after, dt_N1)
        return y_NK, *_exp(y_NK, self.probabilities), *(moves[spec.name] for spec in self.network.states)


class _Step(nn.Module):
    """`Network.step` with positional tensors, for the ONNX export."""

    def __init__(self, network: Network, *, probabilities: bool, aux_tau: bool) -> None:
        super().__init__()
        self.network = network
        self.probabilities = probabilities
        self.aux_tau = aux_tau

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take inputs, dt and states; return outputs, aux and next states."""
        n = len(self.network.inputs)
        inputs, dt_B1, states = tensors[:n], tensors[n], tensors[n + 1 :]
        x_BF = inputs[0] if n == 1 else torch.cat([part.float() for part in inputs], dim=-1)
        named = {spec.name: state for spec, state in zip(self.network.states, states, strict=True)}
        y_BK, state = self.network.step(x_BF, named, dt_B1)
        aux = (self.network.time_constants(x_BF, named, dt_B1),) if self.aux_tau else ()
        return y_BK, *_exp(y_BK, self.probabilities), *aux, *(state[spec.name] for spec in self.network.states)


def _exp(y: Tensor, wanted: bool) -> tuple[Tensor, ...]:
    return (y.exp(),) if wanted else ()


def _strip(model: onnx.ModelProto) -> None:
    """Remove parts that a server does not need.

    These are shapes of inner values, on which later tools fail, and the exporter's notes, which contain stack traces
    with paths of the exporting machine.
    """
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the ONNX exporter's warnings about its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
