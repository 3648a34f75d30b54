"""Neural circuit policies (Lechner et al., 2020, doi:10.1038/s42256-020-00237-3) as what a manifest says of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

from torch import Tensor

from statestream.models.spec import LayerName, WiringSpec

LAYERS: tuple[LayerName, ...] = ("sensory", "inter", "command", "motor")


def layers_of(wiring: Any) -> list[list[int]]:
    """The neurons of each layer of an `ncps.wirings.Wiring`, from inter to motor; empty where it has no such layers."""
    found = [list(wiring.get_neurons_of_layer(k)) for k in range(wiring.num_layers)]
    return found if len(found) == len(LAYERS) - 1 else []


def circuit(sizes: Sequence[int], synapses: Sequence[tuple[int, int, Tensor]]) -> WiringSpec:
    """The circuit with layers of these sizes, sensory first.

    Args:
        synapses: layer that they come from, layer that they go to, and `[from, to]` the sign of each, 0 for none.
    """
    first = [0, *accumulate(sizes)]
    found: list[tuple[int, int, Literal[-1, 1]]] = [
        (first[before] + source, first[after] + target, 1 if signs[source, target] > 0 else -1)
        for before, after, signs in synapses
        for source, target in signs.nonzero().tolist()
    ]
    return WiringSpec(layers=dict(zip(LAYERS, sizes, strict=True)), synapses=tuple(found))


def consecutive(signs: Sequence[Tensor]) -> list[tuple[int, int, Tensor]]:
    """Synapses from each layer to the next, for `circuit`."""
    return [(before, after, each) for (before, after), each in zip(pairwise(range(len(signs) + 1)), signs, strict=True)]
