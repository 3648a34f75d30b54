"""Measures the cost of a step in ONNX Runtime, on one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import onnxruntime

from statestream.models.export.exporter import step_graph
from statestream.models.export.onnx_scan import input_names
from statestream.models.spec import Array, Manifest, OutputSpec, TimeSpec
from statestream.models.training.network import Network

BLOCKS, BLOCK_S = 20, 0.02
"""Number and seconds of blocks of calls; the fastest counts, as other load only makes a block slower."""


@dataclass(frozen=True)
class StepCost:
    """Microseconds of one call of the step graph."""

    batch_1_us: float
    batch_64_us: float


def step_cost(network: Network) -> StepCost:
    """Export the step graph and time it at batch 1 and 64."""
    manifest = _manifest(network)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = step_graph(network, manifest).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return StepCost(*(_best_us(session, _feed(manifest, batch)) for batch in (1, 64)))


def _manifest(network: Network) -> Manifest:
    facts = network.facts
    return Manifest(
        name="timed",
        version=1,
        inputs=network.inputs,
        outputs=(OutputSpec(name="y", shape=(len(facts.labels),), std=(1.0,)),),
        states=network.states,
        time=TimeSpec.around(facts.nominal_s),
    )


def _feed(manifest: Manifest, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(batch, *spec.shape)).astype(spec.np_dtype) for spec in manifest.inputs]
    dt = np.full((batch, 1), manifest.time.nominal_s, np.float32)
    states = [np.repeat(s.initial_array[None], batch, axis=0) for s in manifest.states]
    return dict(zip(input_names(manifest), (*inputs, dt, *states), strict=True))


def _best_us(session: onnxruntime.InferenceSession, feed: dict[str, Array]) -> float:
    session.run(None, feed)
    best = np.inf
    for _ in range(BLOCKS):
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < BLOCK_S:
            session.run(None, feed)
            calls += 1
        best = min(best, (time.perf_counter() - started) / calls)
    return float(best) * 1e6
