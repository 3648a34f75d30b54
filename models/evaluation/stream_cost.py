"""Step cost and session size by stream length, for recurrent networks and a Transformer.

Both run in PyTorch at batch 1 on one thread, so the figures compare with each other only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from statestream.models.evaluation.transformer import Transformer, cache_bytes
from statestream.models.training.network import Network

LENGTHS = (1, 16, 64, 256, 1024, 4096, 16384)
"""Stream lengths in rows."""
CALLS = 30


@dataclass(frozen=True)
class StreamCost:
    """Cost of one model at one stream length."""

    model: str
    rows: int
    step_us: float
    session_bytes: int


def stream_costs(networks: Mapping[str, Network], lengths: Sequence[int] = LENGTHS) -> list[StreamCost]:
    """Measure each network, and a Transformer of the same inputs and outputs, at each length."""
    found = []
    with torch.no_grad():
        for name, network in networks.items():
            found += [_recurrent(name, network, rows) for rows in lengths]
        facts = next(iter(networks.values())).facts
        transformer = Transformer(len(facts.features), len(facts.labels)).eval()
        found += [_attending(transformer, len(facts.features), rows) for rows in lengths]
    return found


def _recurrent(name: str, network: Network, rows: int) -> StreamCost:
    x_BF = torch.zeros(1, *network.input_shape, dtype=getattr(torch, network.inputs[0].dtype))
    dt_B1 = torch.full((1, 1), network.facts.nominal_s)
    state = network.initial_state(1)
    size = sum(value.numel() * value.element_size() for value in state.values())
    return StreamCost(name, rows, _us(lambda: network.step(x_BF, state, dt_B1)), size)


def _attending(transformer: Transformer, features: int, rows: int) -> StreamCost:
    x_BF, cache = torch.zeros(1, features), transformer.empty_cache(1, rows)
    return StreamCost("transformer", rows, _us(lambda: transformer.step(x_BF, cache)), cache_bytes(cache))


def _us(call: Callable[[], object]) -> float:
    """Median microseconds of a call."""
    call()
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e6
