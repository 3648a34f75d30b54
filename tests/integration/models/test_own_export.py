"""A model exported by torch alone, as anybody would: no part of the exporter here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from statestream.models.bundle import STEP, Bundle
from statestream.models.spec import InputSpec, OutputSpec, StateSpec
from statestream.service.cli import main
from statestream.service.embedded import Embedded
from tests.conftest import leaky_manifest


class Gru(torch.nn.Module):
    """A GRU of several inputs and a head, one step."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(3, 8, batch_first=True)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, dt: torch.Tensor, state_h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = self.gru(torch.cat([x, dt], dim=1)[:, None], state_h[None])
        return self.head(y[:, 0]), h[0]


@pytest.mark.filterwarnings("ignore")  # of torch, about its own modules
def test_torchs_own_default_export_of_a_gru_becomes_a_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "gru" / "1"
    folder.mkdir(parents=True)
    model = Gru().eval()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model,
        (torch.zeros(3, 2), torch.ones(3, 1), torch.zeros(3, 8)),
        folder / STEP,
        input_names=["x", "dt", "state_h"],
        output_names=["y", "state_h_out"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        dynamo=True,
    )
    assert (folder / f"{STEP}.data").is_file(), "torch keeps the weights beside the graph"
    manifest = leaky_manifest("gru").model_copy(
        update={
            "inputs": (InputSpec(name="x", shape=(2,)),),
            "outputs": (OutputSpec(name="y", shape=(2,), std=(1.0,)),),
            "states": (StateSpec(name="h", shape=(8,)),),
        }
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    assert main(["bundle", "golden", str(folder)]) == 0
    assert f"{STEP}.data" in Bundle.open(folder).manifest.files, "its hash is the manifest's"
    session = Embedded.open(folder).session()
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    got = session.chunk(x).outputs["y"]
    state = torch.zeros(1, 8)
    for row in range(5):
        with torch.no_grad():
            y, state = model(torch.tensor(x[row : row + 1]), torch.tensor([[0.1]]), state)
        np.testing.assert_allclose(got[row], y[0].numpy(), atol=1e-5)
