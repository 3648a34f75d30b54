"""Hoisted chunk graphs beside the Scan of the same step: CPU time of one over the other, in turns.

`python -m tests.bench.chunks [--quick] [--out build] [--write]`: a minute, on one thread, with irregular rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from statestream.models.cells.base import Cell
from statestream.models.cells.linoss import LinOSS
from statestream.models.cells.lru import LRU
from statestream.models.cells.mingru import MinGRU
from statestream.models.cells.s4d import S4D
from statestream.models.cells.s5 import S5
from statestream.models.cells.spectral import SpectralEncoder
from statestream.models.cells.stack import Stack
from statestream.models.export.exporter import hoisted_graph, step_graph
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.files import write_json
from statestream.models.training.network import Network
from tests.bench import options
from tests.bench.pages import show
from tests.bench.train import INPUTS, NOMINAL_S, PAGE, manifest_of, network, ratio, session, turns

SHAPES = ((1, 2), (1, 4), (1, 8), (1, 64), (1, 256), (16, 2), (16, 8), (16, 64))
"""Sessions and rows of a chunk."""
QUICK = ("s5",)
"""Cells that show whether it works."""


def main() -> None:
    given = options.given("tests.bench.chunks", PAGE)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chosen = {name: cell for name, cell in cells().items() if not given.quick or name in QUICK}
    facts = measure(chosen, rounds=1 if given.quick else 11) | {"quick": given.quick}
    given.out.mkdir(parents=True, exist_ok=True)
    write_json(given.out / "bench_chunks.json", facts)
    header = ["cell", "numbers of state", *(f"{batch} × {rows}" for batch, rows in SHAPES)]
    show(PAGE, "chunks", header, table(chosen, facts), write=given.write)


def table(chosen: Mapping[str, Cell], facts: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, cell in chosen.items():
        found = [f"{facts[f'{name}_batch{b}_rows{t}']:.2f}" for b, t in SHAPES]
        rows.append([f"`{name}`", str(sum(prod(spec.shape) for spec in cell.states)), *found])
    return rows


def cells() -> dict[str, Cell]:
    return {
        "s5": S5(INPUTS, 32, pairs=32),
        "lru": LRU(INPUTS, 32, pairs=32),
        "linoss": LinOSS(INPUTS, 32, oscillators=64),
        "mingru": MinGRU(INPUTS, 32),
        "two_s5": Stack(INPUTS, 48, [S5(48, 48, pairs=32) for _ in range(2)]),
        "four_s5": Stack(INPUTS, 48, [S5(48, 48, pairs=32) for _ in range(4)]),
        "s5_wide": S5(INPUTS, 64, pairs=128),
        "s4d": S4D(INPUTS, 16, pairs=4),
        "s4d_wide": S4D(INPUTS, 32, pairs=16),
        "bank": SpectralEncoder(INPUTS, [0.1, 0.2, 0.3, 0.4], bandwidth=0.015, smoothing=50.0),
    }


def measure(chosen: Mapping[str, Cell], rounds: int) -> dict[str, Any]:
    """Time of the hoisted graph over that of the Scan, by cell, batch and rows; and µs a row of both."""
    facts: dict[str, Any] = {}
    for name, cell in chosen.items():
        scan, hoisted = map(session, graphs(network(cell)))
        for batch, rows in SHAPES:
            feed = chunk(scan, batch, rows)
            ours, scanned = turns(rounds, partial(run, hoisted, feed), partial(run, scan, feed))
            facts[f"{name}_batch{batch}_rows{rows}"] = ratio(ours, scanned)
            for form, seconds in (("hoisted", ours), ("scan", scanned)):
                facts[f"{name}_{form}_us_batch{batch}_rows{rows}"] = 1e6 * median(seconds) / CALLS / rows
    return facts


CALLS = 4


def run(graph: onnxruntime.InferenceSession, feed: dict[str, np.ndarray]) -> None:
    for _ in range(CALLS):
        graph.run(None, feed)


def graphs(module: Network) -> tuple[bytes, bytes]:
    """The Scan, and the hoisted graph."""
    manifest = manifest_of(module)
    hoisted: onnx.ModelProto = hoisted_graph(module, manifest)
    return wrap_in_scan(step_graph(module, manifest), manifest).SerializeToString(), hoisted.SerializeToString()


def chunk(graph: onnxruntime.InferenceSession, batch: int, rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = {i.name: i.shape for i in graph.get_inputs()}
    feed = {name: np.zeros((batch, *shape[1:]), np.float32) for name, shape in sizes.items() if "state" in name}
    feed["x_seq"] = random.normal(size=(batch, rows, INPUTS)).astype(np.float32)
    feed["dt_seq"] = (random.uniform(0.05, 4, (batch, rows, 1)) * NOMINAL_S).astype(np.float32)
    return feed | {"valid": np.ones((batch, rows), bool)}


if __name__ == "__main__":
    main()
