"""What a manifest says of a wiring is what ncps wired, with the signs that were learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from statestream.models.bundle import Bundle
from statestream.models.cells.options import AutoNCPWiring, CellOptions
from statestream.models.cells.registry import build_cell, build_wiring
from statestream.models.export.exporter import export_network
from statestream.models.spec import WiringSpec
from tests.integration.models.conftest import FEATURES, made_up, network_of

LIST = {"kind": "auto_ncp", "units": 20, "outputs": 3, "sparsity": 0.9}
"""So few synapses that an LTC holds them as a list, as a matrix else."""
MATRIX = LIST | {"sparsity": 0.1}


def made(**cell: Any) -> Any:
    torch.manual_seed(0)
    return build_cell(TypeAdapter[CellOptions](CellOptions).validate_python(cell), FEATURES)


def wired(options: dict[str, Any]) -> set[tuple[int, int, int]]:
    """The synapses of ncps's own wiring, neurons numbered as a manifest does: inputs, then inter, command, motor."""
    wiring = build_wiring(AutoNCPWiring.model_validate(options))
    wiring.build(FEATURES)
    order = [neuron for layer in range(wiring.num_layers) for neuron in wiring.get_neurons_of_layer(layer)]
    place = {neuron: FEATURES + k for k, neuron in enumerate(order)}
    inward, between = wiring.sensory_adjacency_matrix, wiring.adjacency_matrix
    found = {(int(i), place[int(j)], int(inward[i, j])) for i, j in np.argwhere(inward)}
    return found | {(place[int(i)], place[int(j)], int(between[i, j])) for i, j in np.argwhere(between)}


def ends(synapses: Any) -> set[tuple[int, int]]:
    return {(source, target) for source, target, _ in synapses}


@pytest.mark.parametrize("wiring", [MATRIX, LIST], ids=["matrix", "list"])
def test_an_ltc_is_wired_as_ncps_does_it(wiring: dict[str, Any]) -> None:
    found = made(kind="ltc", wiring=wiring).wiring()
    assert found is not None
    assert set(found.synapses) == wired(wiring)
    assert list(found.layers) == ["sensory", "inter", "command", "motor"]
    assert (found.layers["sensory"], found.layers["motor"], sum(found.layers.values())) == (FEATURES, 3, FEATURES + 20)


def test_a_synapse_says_what_it_has_learned() -> None:
    cell: Any = made(kind="ltc", wiring=LIST)
    before = cell.wiring()
    with torch.no_grad():
        cell.recurrent.erev.neg_()
        cell.sensory.w[0] = 0.0
    after = cell.wiring()
    inward = {s for s in before.synapses if s[0] < FEATURES}
    assert {(a, b, -sign) for a, b, sign in before.synapses if a >= FEATURES} <= set(after.synapses)
    assert len(inward - set(after.synapses)) == 1, "a synapse without strength is none"


@pytest.mark.parametrize("mode", ["default", "no_gate", "pure"])
def test_a_cfc_has_the_synapses_between_its_layers_by_what_they_do(mode: str) -> None:
    cell: Any = made(kind="cfc", wiring=LIST, mode=mode)
    found: WiringSpec | None = cell.wiring()
    assert found is not None
    first = FEATURES + found.layers["inter"]
    command = range(first, first + found.layers["command"])
    onward = {(source, target) for source, target in ends(wired(LIST)) if not (source in command and target in command)}
    assert ends(found.synapses) == onward
    for source, target, sign in found.synapses[:6]:
        assert effect(cell, source, target - FEATURES) * sign > 0


def effect(cell: Any, source: int, neuron: int) -> float:
    """How much a small input moves a neuron of the first layer, with biases at zero and the gate half open."""
    layer = cell.layers[0]
    with torch.no_grad():
        layer.entry.bias.zero_()
        x = torch.zeros(1, FEATURES)
        x[0, source] = 1e-3
        moved = layer.step(x, {"h": torch.zeros(1, layer.units)}, torch.zeros(1, 1) + 1e-6)[0]
        still = layer.step(torch.zeros(1, FEATURES), {"h": torch.zeros(1, layer.units)}, torch.zeros(1, 1) + 1e-6)[0]
    return float(moved[0, neuron] - still[0, neuron])


def test_what_is_made_of_a_wired_cell_has_its_wiring() -> None:
    inner = {"kind": "cfc", "wiring": LIST, "mixed_memory": True}
    found = made(kind="encoded", encoder={"kind": "mlp", "units": [7]}, cell=inner).wiring()
    assert found is not None
    assert found.layers["sensory"] == 7
    assert made(kind="ltc").wiring() is None, "all to all is no circuit"
    assert made(kind="gru").wiring() is None


def test_an_exported_bundle_holds_it(tmp_path: Path) -> None:
    network = network_of("ltc_ncp")
    bundle = export_network(network, made_up([40, 30]), tmp_path, name="wired")
    assert Bundle.open(bundle.path).manifest.wiring == network.cell.wiring() is not None
