"""Statistics of the training split for the fixed maps of a network (see `cells.whitening`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statestream.models.cells.base import Cell
from statestream.models.cells.composite import Chain
from statestream.models.cells.whitening import Whitening
from statestream.models.data.recordings import Recording
from statestream.models.spec import Array, TimeSpec
from statestream.models.training.network import Features, Network
from statestream.models.training.rollout import rollout

TOGETHER = 64
"""Recordings whose features are in memory at once."""


def fix_whitening(network: Network, recordings: Sequence[Recording], time: TimeSpec, *, whiten: bool) -> None:
    """Set each map of the network by the mean and covariance of what reaches it; `whiten` or standardise by them."""
    for found in [cell for cell in network.modules() if isinstance(cell, Whitening)]:
        features = Features(_up_to(network.cell, found), network.facts)
        found.fix(*_moments(features, recordings, time), whiten=whiten)


def _up_to(cell: Cell, last: Cell) -> Cell:
    """The part of nested chains that ends with `last`."""
    if cell is last or not isinstance(cell, Chain):
        return cell
    part: dict[str, Cell] = {}
    for name, inner in cell.cells().items():
        part[name] = _up_to(inner, last)
        if any(module is last for module in inner.modules()):
            break
    return Chain(part) if len(part) > 1 else part.popitem()[1]


def _moments(features: Features, recordings: Sequence[Recording], time: TimeSpec) -> tuple[Array, Array]:
    """Mean `[F]` and covariance `[F, F]` over all rows."""
    size = features.cell.output_size
    rows, total_F, product_FF = 0, np.zeros(size), np.zeros((size, size))
    for start in range(0, len(recordings), TOGETHER):
        results = rollout(features, recordings[start : start + TOGETHER], time)
        y_NF = np.concatenate([result.outputs for result in results]).astype(np.float64)
        rows += len(y_NF)
        total_F += y_NF.sum(axis=0)
        product_FF += y_NF.T @ y_NF
    mean_F = total_F / rows
    return mean_F, product_FF / rows - np.outer(mean_F, mean_F)
