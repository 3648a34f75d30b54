"""Hoisted chunk graphs are the Scan of the step: ragged, with holes, over any number of rows and any gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from statestream.models.export import exporter
from statestream.models.export.exporter import can_hoist, export_network, hoisted_graph, step_graph
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.training.network import Network
from tests.integration.models.conftest import (
    FAMILIES,
    FEATURES,
    answers,
    chunk,
    made_up,
    manifest_of,
    network_of,
    without_what_does_not_exist,
)

LINEAR = {"s5", "s5_bilinear", "s4d", "s4d_bilinear", "lru", "linoss", "damped_linoss", "mingru", "liquid_s4",
          "spectral", "spectral_s5", "stack_scanned"}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(LINEAR))
def graphs(request: pytest.FixtureRequest) -> tuple[Network, onnx.ModelProto, onnx.ModelProto]:
    """A network, its step in a Scan, and its hoisted chunk graph."""
    network = network_of(request.param)
    manifest = manifest_of(network)
    return network, wrap_in_scan(step_graph(network, manifest), manifest), hoisted_graph(network, manifest)


@pytest.mark.parametrize("longest", [4.0, 4000.0], ids=["usual", "long"])
def test_they_are_equal(graphs: tuple[Network, onnx.ModelProto, onnx.ModelProto], longest: float) -> None:
    """≤ 1e-5 of the largest value, with gaps a thousand times as long too."""
    network, scan, hoisted = graphs
    for batch, rows in ((1, 1), (3, 2), (2, 17), (4, 75)):
        feed = chunk(network, batch, rows, longest=longest)
        found, wanted = answers(hoisted, feed), answers(scan, feed)
        for name, value in wanted.items():
            if name.endswith("_seq"):
                found[name], value = found[name][feed["valid"]], value[feed["valid"]]
            assert np.isfinite(found[name]).all(), name
            size = max(1.0, float(np.abs(value).max(initial=0.0)))
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * size, err_msg=name)


def test_what_does_not_exist_is_not_read(graphs: tuple[Network, onnx.ModelProto, onnx.ModelProto]) -> None:
    """Not even where it is no number; and a session's neighbours change nothing."""
    network, _, hoisted = graphs
    without_what_does_not_exist(hoisted, chunk(network, 3, 40))


@pytest.mark.parametrize("family", sorted(LINEAR))
def test_no_time_moves_no_state(family: str) -> None:
    """Rows that are not valid are rows without time: a is 1 and b is 0, exactly."""
    network = network_of(family)
    state = {spec.name: torch.rand(4, *spec.shape) for spec in network.states}
    with torch.no_grad():
        _, moves = network.row_wise(torch.randn(4, FEATURES), state, torch.zeros(4, 1))
    for name, parts in (network.state_parts or {}).items():
        a, b = moves[name].chunk(2, dim=-1)
        one = torch.cat([part + (k == 0) for k, part in enumerate(torch.zeros_like(a).chunk(parts, dim=-1))], dim=-1)
        assert torch.equal(a, one), name
        assert not b.any(), name


def test_linear_states_are_known() -> None:
    linear = {family for family in FAMILIES if network_of(family).state_parts}
    assert linear == LINEAR == {family for family in linear if can_hoist(network_of(family))}


def test_export_chooses_and_says_what_it_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = made_up([40, 30])

    def chosen(family: str, **options: bool) -> tuple[str, int]:
        bundle = export_network(network_of(family), recordings, tmp_path, name=family, **options)
        scans = sum(node.op_type == "Scan" for node in onnx.load(bundle.chunk_path).graph.node)
        return bundle.manifest.training["chunk_graph"], scans

    assert chosen("s5") == ("hoisted", 1)
    assert chosen("stack_scanned") == ("hoisted", 4)
    assert chosen("gru") == ("scan", 1)
    assert chosen("liquid_s4", aux_tau=True) == ("scan", 1)
    monkeypatch.setattr(exporter, "LARGEST_STATE", 15)
    assert chosen("s5") == ("scan", 1), "16 numbers"
