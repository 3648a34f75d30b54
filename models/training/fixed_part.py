"""First cells of a network that training leaves as they are: run once, not in every epoch.

A spectral bank and its whitening take several times as long as the small cell behind them, and put out the same numbers
in every epoch where recordings are trained on whole and unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from statestream.models.cells.base import Cell
from statestream.models.cells.composite import Chain
from statestream.models.config import AugmentOptions, TrainingOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import TimeSpec
from statestream.models.training.batches import segment_rows
from statestream.models.training.network import Features, Network, Scaling
from statestream.models.training.rollout import rollout
from statestream.models.training.splits import Split

MOST_BYTES = 1 << 30
"""Most memory that outputs of the fixed part may take; beyond it they are computed in every epoch."""


def without_fixed_part(
    network: Network, split: Split, time: TimeSpec, options: TrainingOptions, *, at_end: bool
) -> tuple[Network, Split]:
    """Network and recordings to train on, where the fixed part of the network has been run already.

    Returns:
        A network that shares the weights of `network`, and the training and validation recordings as the fixed part
        puts them out; `network` and `split` themselves where there is no such part, or its outputs are not the same in
        every epoch.
    """
    cells = _in_order(network.cell)
    # The last cell stays, so that there is one to train.
    fixed = list(takewhile(_is_fixed, cells[:-1]))
    if not any(cell.states for cell in fixed) or not _is_steady(split.train, options, at_end=at_end):
        return network, split
    size, recordings = fixed[-1].output_size, (*split.train, *split.validation)
    if 4 * size * sum(map(len, recordings)) > MOST_BYTES:
        return network, split
    first = Features(_chain(fixed), network.facts)
    features = [f"feature{k}" for k in range(size)]
    facts = replace(network.facts, features=features, inputs=Scaling.none(size), units=(), relative=())
    rest = Network(_chain(cells[len(fixed) :]), facts)
    rest.readout = network.readout
    train, validation = (_put_out(first, part, time) for part in (split.train, split.validation))
    return rest, replace(split, train=train, validation=validation)


def _in_order(cell: Cell) -> list[Cell]:
    """Cells of nested chains, from the input on."""
    if not isinstance(cell, Chain):
        return [cell]
    return [each for inner in cell.cells().values() for each in _in_order(inner)]


def _chain(cells: Sequence[Cell]) -> Cell:
    return Chain({f"part{k}": cell for k, cell in enumerate(cells)}) if len(cells) > 1 else cells[0]


def _is_fixed(cell: Cell) -> bool:
    return not any(parameter.requires_grad for parameter in cell.parameters())


def _is_steady(recordings: Sequence[Recording], options: TrainingOptions, *, at_end: bool) -> bool:
    """Whether every epoch has the same rows, from the first of each recording on."""
    whole = segment_rows(recordings, options, at_end=at_end) == 0
    return whole and options.augment == AugmentOptions() and recordings[0].features.ndim == 2


def _put_out(first: Network, recordings: Sequence[Recording], time: TimeSpec) -> tuple[Recording, ...]:
    results = rollout(first, recordings, time)
    return tuple(replace(r, features=result.outputs) for r, result in zip(recordings, results, strict=True))
