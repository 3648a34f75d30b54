"""`make bench-train`: cells in training beside ncps and beside their own loops; graphs beside their plain forms.

Everything on one thread, in CPU time, so that another process on the core counts for little. The two sides of a ratio
take turns within a round; a ratio is the median over the rounds.
`python -m tests.bench.train [--quick] [--out build] [--write]`
"""

from __future__ import annotations

import copy
import io
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import ncps.torch
import numpy as np
import onnxruntime
import torch
from ncps import wirings
from torch import Tensor, nn

from statestream.models.bundle import CHUNK, FUSED, STEP
from statestream.models.cells.base import Cell
from statestream.models.cells.cfc import CfC
from statestream.models.cells.cfc_sequence import bf16_gradients
from statestream.models.cells.gated_delta import GatedDelta
from statestream.models.cells.ltc import LTC
from statestream.models.cells.mamba2 import Mamba2
from statestream.models.cells.s5 import S5
from statestream.models.cells.synapses import DenseSynapses
from statestream.models.config import load_config
from statestream.models.export.exporter import OPSET, fused_graphs, step_graph
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.files import write_json
from statestream.models.spec import InputSpec, Manifest, OutputSpec, TimeSpec
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.runs import build_network
from tests.bench import options
from tests.bench.pages import show

INPUTS, UNITS = 16, 32
NOMINAL_S = 0.02
BATCHES = (8, 32, 128)
CHUNK_ROWS = 256
HEADS, WIDTH = 4, 32
MATRICES: dict[str, Callable[[], Cell]] = {
    "gated_delta": lambda: GatedDelta(INPUTS, UNITS, heads=HEADS, keys=WIDTH, width=WIDTH),
    "mamba2": lambda: Mamba2(INPUTS, UNITS, heads=HEADS, width=WIDTH, states=WIDTH),
}
"""Cells whose states are matrices, `WIDTH` by `WIDTH` each."""

PAGE = "performance.md"

Work = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How often, and how long."""

    rounds: int
    rows: int
    """Of a sequence in training."""
    steps: int
    """Of the long sequence that is scanned."""
    calls: int
    """Of a step graph, in one measurement."""
    chunks: int
    """Calls of a chunk graph, in one measurement."""


FULL = Effort(rounds=15, rows=64, steps=1024, calls=400, chunks=8)
QUICK = Effort(rounds=1, rows=4, steps=64, calls=10, chunks=1)


def main() -> None:
    given = options.given("tests.bench.train", PAGE)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # The exporter's advice about its own internals.
    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    facts = measure(QUICK if given.quick else FULL) | {"quick": given.quick}
    given.out.mkdir(parents=True, exist_ok=True)
    write_json(given.out / "bench_train.json", facts)
    show(PAGE, "train", ["figure", "value", "wanted"], figures(facts), write=given.write)
    show(PAGE, "fused", ["", "plain, µs a row", "fused, µs a row", "fused over plain"], fused(facts), write=given.write)


def figures(facts: dict[str, Any]) -> list[list[str]]:
    return [[f"`{name}`", f"{facts[name]:.3g}", wanted] for name, wanted in WANTED.items()]


def fused(facts: dict[str, Any]) -> list[list[str]]:
    rows = []
    for cell in MATRICES:
        for key, what in (("batch1", "a step"), ("chunk", f"a chunk of {CHUNK_ROWS}")):
            plain, us, part = (facts[f"{cell}_{form}_us_{key}"] for form in ("plain", "fused", "fused_vs_plain"))
            rows.append([f"`{cell}`, {what}", f"{plain:.1f}", f"{us:.1f}", f"{part:.2f}"])
    return rows


WANTED = {
    **{f"{cell}_vs_ncps_batch{batch}": "≥ 1.5" if batch < 128 else "" for cell in ("cfc", "ltc") for batch in BATCHES},
    "cfc_bf16_vs_float32": "≤ 0.86",
    "s5_scan_vs_loop": "≥ 1.8",
    "ltc_list_vs_dense_batch64": "≥ 2.5",
    "cfc_fused_vs_plain_us_batch1": "≤ 0.8",
    "bank_cfc_vs_gru_us_batch1": "≤ 2",
    "bank_cfc_us_batch1": "≤ 30",
    "gated_delta_fused_vs_plain_us_batch1": "≤ 0.77",
    "gated_delta_fused_vs_plain_us_chunk": "≤ 0.2",
    "mamba2_fused_vs_plain_us_batch1": "",
    "mamba2_fused_vs_plain_us_chunk": "",
}
"""Ratios of speed, those with `us` of time, and what the project asks of them."""


def measure(effort: Effort) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for batch in BATCHES:
        x_BTI = torch.randn(batch, effort.rows, INPUTS)
        for name, ours, theirs in (("cfc", *cfcs()), ("ltc", *ltcs())):
            times = turns(effort.rounds, training(ours, x_BTI), training(theirs, x_BTI))
            facts[f"{name}_vs_ncps_batch{batch}"] = ratio(times[1], times[0])
            facts[f"{name}_sequences_s_batch{batch}"] = batch / median(times[0])
            facts[f"ncps_{name}_sequences_s_batch{batch}"] = batch / median(times[1])
    bf16, float32 = turns(effort.rounds, *precisions(effort.rows))
    facts["cfc_bf16_vs_float32"] = ratio(bf16, float32)
    facts["cfc_float32_ms"] = 1e3 * median(float32)
    scanned, looped = turns(effort.rounds, *scans(effort.steps))
    facts["s5_scan_vs_loop"] = ratio(looped, scanned)
    facts["s5_scan_ms"], facts["s5_steps"] = 1e3 * median(scanned), effort.steps
    listed, dense = turns(effort.rounds, *(calls(graph, 64, effort.calls) for graph in ltc_graphs()))
    facts["ltc_list_vs_dense_batch64"] = ratio(dense, listed)
    facts["ltc_list_us_batch64"] = 1e6 * median(listed) / effort.calls
    fused, plain = turns(effort.rounds, *(calls(graph, 1, effort.calls) for graph in cfc_graphs()))
    facts["cfc_fused_vs_plain_us_batch1"] = ratio(fused, plain)
    facts["cfc_fused_us_batch1"] = 1e6 * median(fused) / effort.calls
    facts["cfc_plain_us_batch1"] = 1e6 * median(plain) / effort.calls
    bank, gru = turns(effort.rounds, *(calls(graph, 1, effort.calls) for graph in terrain_graphs()))
    facts["bank_cfc_vs_gru_us_batch1"] = ratio(bank, gru)
    facts["bank_cfc_us_batch1"] = 1e6 * median(bank) / effort.calls
    facts["gru_us_batch1"] = 1e6 * median(gru) / effort.calls
    return facts | matrices(effort)


def matrices(effort: Effort) -> dict[str, float]:
    """Fused graphs of cells whose states are matrices, beside the plain ones: µs a step, and a row of a chunk."""
    facts: dict[str, float] = {}
    for name, cell in MATRICES.items():
        graphs = {file: session(graph) for file, graph in plain_and_fused(network(cell())).items()}
        for what, ours, theirs, count, rows in (
            ("batch1", FUSED.step, STEP, effort.calls, 1),
            ("chunk", FUSED.chunk, CHUNK, effort.chunks, CHUNK_ROWS),
        ):
            fused, plain = turns(effort.rounds, *(calls(graphs[file], 1, count, rows) for file in (ours, theirs)))
            facts[f"{name}_fused_vs_plain_us_{what}"] = ratio(fused, plain)
            facts[f"{name}_fused_us_{what}"] = 1e6 * median(fused) / count / rows
            facts[f"{name}_plain_us_{what}"] = 1e6 * median(plain) / count / rows
    return facts


def plain_and_fused(module: Network) -> dict[str, bytes]:
    """Graphs of a network by their files' names."""
    manifest = manifest_of(module)
    step = step_graph(module, manifest)
    plain = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    return plain | fused_graphs(module, manifest)


def turns(rounds: int, *works: Work) -> list[list[float]]:
    """CPU seconds of each, measured in turns."""
    for work in works:
        work()
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, own in zip(works, seconds, strict=True):
            begin = time.process_time()
            work()
            own.append(time.process_time() - begin)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


@dataclass(frozen=True)
class Trained:
    """A module with what it does to a batch, and what follows an optimiser step."""

    module: nn.Module
    forward: Callable[[Tensor], Tensor]
    after: Callable[[], object]


def training(one: Trained, x_BTI: Tensor) -> Work:
    """Forward, backward, optimiser step."""
    optimizer = torch.optim.Adam(one.module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        one.forward(x_BTI).square().mean().backward()
        optimizer.step()
        one.after()

    return step


def cfcs() -> tuple[Trained, Trained]:
    theirs = ncps.torch.CfC(INPUTS, UNITS)
    return ours(CfC(INPUTS, UNITS)), Trained(theirs, lambda x: theirs(x)[0], lambda: None)


def ltcs() -> tuple[Trained, Trained]:
    theirs = ncps.torch.LTC(INPUTS, wirings.FullyConnected(UNITS))
    constrain = theirs.rnn_cell.apply_weight_constraints
    return ours(LTC(INPUTS, wirings.FullyConnected(UNITS))), Trained(theirs, lambda x: theirs(x)[0], constrain)


def ours(cell: Cell) -> Trained:
    def forward(x_BTI: Tensor) -> Tensor:
        return cell.unroll(x_BTI, cell.initial_state(len(x_BTI)), torch.ones(*x_BTI.shape[:2], 1))[0]

    return Trained(cell, forward, cell.constrain)


def precisions(rows: int) -> tuple[Work, Work]:
    """Optimiser steps of walker2d's CfC: with bf16 gradients, with float32's."""
    cell, x_BTI = ours(CfC(17, 128, backbone_units=128)), torch.randn(64, rows, 17)

    def forward(x_BTI: Tensor) -> Tensor:
        with bf16_gradients():
            return cell.forward(x_BTI)

    return training(replace(cell, forward=forward), x_BTI), training(cell, x_BTI)


def scans(steps: int) -> tuple[Work, Work]:
    """Forward and backward of an S5 layer: its scan, and the loop over `unbind` that every cell has."""
    cell = S5(64, 64, pairs=64)
    x_BTI, d_BT1 = torch.randn(8, steps, 64), torch.rand(8, steps, 1) + 0.5

    def run(unroll: Callable[..., Any]) -> None:
        cell.zero_grad()
        unroll(x_BTI, cell.initial_state(8), d_BT1)[0].square().mean().backward()

    return partial(run, cell.unroll), partial(run, partial(Cell.unroll, cell))


def ltc_graphs() -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    """NCP-19 with its synapses listed, and the same network with them as matrices."""
    wiring = wirings.NCP(12, 6, 1, 4, 4, 4, 6, seed=22222)
    listed = LTC(INPUTS, wiring)
    dense = copy.deepcopy(listed)
    dense.recurrent = DenseSynapses(wiring.erev_initializer(), implicit=False)
    dense.sensory = DenseSynapses(wiring.sensory_erev_initializer(), implicit=False)
    return session(exported(network(listed))), session(exported(network(dense)))


def cfc_graphs() -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    """Our CfC as it is exported, and ncps's cell between the same normalisation and readout, written plainly."""
    module = network(CfC(INPUTS, UNITS))
    example = (torch.zeros(2, INPUTS), torch.ones(2, 1), torch.zeros(2, UNITS))
    content, batch = io.BytesIO(), torch.export.Dim("batch")
    program = torch.onnx.export(
        Plain(module).eval(),
        example,
        input_names=["x", "dt", "state_h"],
        output_names=["y", "state_h_out"],
        dynamic_shapes=[{0: batch}] * len(example),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(content)
    return session(exported(module)), session(content.getvalue())


class Plain(nn.Module):
    """Normalise, step ncps's cell, read out, restore units: each as it is usually written."""

    def __init__(self, fused: Network) -> None:
        super().__init__()
        self.fused = fused
        self.cell = ncps.torch.CfCCell(INPUTS, UNITS)

    def forward(self, x: Tensor, dt: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.cell((x - self.fused.mean) / self.fused.std, h, dt / NOMINAL_S)
        return self.fused.readout(y) * self.fused.target_std + self.fused.target_mean, h


def terrain_graphs() -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    """The preset `borealtc`, a spectral bank and a small CfC, and a GRU of 48 units on the raw rows."""
    facts = Facts(
        task="classification",
        features=[f"x{k}" for k in range(6)],
        labels=[f"terrain{k}" for k in range(5)],
        nominal_s=0.01,
        inputs=Scaling([0.5] * 6, [2.0] * 6),
        targets=Scaling.none(5),
    )
    configs = load_config("borealtc"), load_config("borealtc_raw", ('cell={kind="gru", units=48}',))
    bank, gru = (session(exported(build_network(config, facts).eval())) for config in configs)
    return bank, gru


def network(cell: Cell) -> Network:
    facts = Facts(
        task="regression",
        features=[f"x{k}" for k in range(INPUTS)],
        labels=("a", "b"),
        nominal_s=NOMINAL_S,
        inputs=Scaling([0.5] * INPUTS, [2.0] * INPUTS),
        targets=Scaling([1.0, -1.0], [2.0, 3.0]),
    )
    return Network(cell, facts).eval()


def manifest_of(module: Network) -> Manifest:
    return Manifest(
        name="bench",
        version=1,
        inputs=(InputSpec(name="x", shape=module.input_shape),),
        outputs=(OutputSpec(name="y", shape=(len(module.facts.labels),), std=(1.0,)),),
        states=module.states,
        time=TimeSpec.around(module.facts.nominal_s),
    )


def exported(module: Network) -> bytes:
    return step_graph(module, manifest_of(module)).SerializeToString()


def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def calls(graph: onnxruntime.InferenceSession, batch: int, count: int, rows: int = 1) -> Work:
    """So many calls of a step graph, or of a chunk graph with rows that are all valid."""
    random = np.random.default_rng(0)
    sizes = {"batch": batch, "time": rows}
    shapes = {i.name: [sizes.get(axis, axis) for axis in i.shape] for i in graph.get_inputs()}
    feed: dict[str, np.ndarray] = {name: random.random(shape, dtype=np.float32) for name, shape in shapes.items()}
    if "valid" in feed:
        feed["valid"] = np.ones((batch, rows), np.bool_)

    def run() -> None:
        for _ in range(count):
            graph.run(None, feed)

    return run


if __name__ == "__main__":
    main()
