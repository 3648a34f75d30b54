"""Encoders in front of cells: a window that streams, and frames from a camera, up to the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import conv1d

from statestream.models.cells.base import keep
from statestream.models.cells.frames import Change, shrink
from statestream.models.cells.options import CellOptions
from statestream.models.cells.registry import build_cell
from statestream.models.cells.window import DepthwiseConvolution
from statestream.models.data.recordings import Recording
from statestream.models.evaluation.latency import step_cost
from statestream.models.evaluation.stream_cost import stream_costs
from statestream.models.export.exporter import export_network
from statestream.models.spec import TimeSpec
from statestream.models.training.dataset import channel_statistics
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.rollout import rollout

HEIGHT, WIDTH = 24, 32
OPTIONS: dict[str, Any] = {
    "kind": "encoded",
    "encoder": {
        "kind": "frames", "frame": [HEIGHT, WIDTH], "size": [8, 12], "crop": [6, 1, 2, 3], "units": 10,
        "channels": [4, 8],
    },
    "cell": {"kind": "cfc", "units": 8},
}  # fmt: skip


def frames_network(*, motion: bool = False, alone: bool = False) -> Network:
    torch.manual_seed(0)
    options = OPTIONS | {"encoder": OPTIONS["encoder"] | {"motion": motion}}
    if alone:
        del options["cell"]
    facts = Facts(
        task="regression",
        features=("r", "g", "b"),
        labels=("steering",),
        nominal_s=0.05,
        inputs=Scaling([120.0, 110.0, 100.0], [60.0, 50.0, 40.0]),
        targets=Scaling([0.0], [1.0]),
    )
    return Network(build_cell(TypeAdapter[CellOptions](CellOptions).validate_python(options), 3), facts).eval()


def film(frames: int, seed: int) -> Recording:
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Recording(str(seed), np.arange(frames) * 50_000_000, pictures)


def test_a_step_on_a_frame_is_timed_like_any_other() -> None:
    network = frames_network()
    assert step_cost(network).batch_1_us > 0
    assert [cost.rows for cost in stream_costs({"camera": network}, lengths=(1,))] == [1, 1]


def test_frames_are_normalised_by_channel() -> None:
    """All pixels of all frames are samples of their channel."""
    pictures = [film(3, 0).features // 2, film(2, 1).features]
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]).astype(float)
    mean, std = channel_statistics(pictures)
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(std, pixels.std(axis=0))


@pytest.mark.parametrize("motion", [False, True])
def test_frames_go_from_the_camera_into_the_graph(tmp_path: Path, motion: bool) -> None:
    """8 bits in, and torch = step.onnx = chunk.onnx, or nothing is written."""
    network, films = frames_network(motion=motion), [film(30, 0), film(20, 1)]
    bundle = export_network(network, films, tmp_path, name="camera", tolerance=1e-5)
    (x,) = bundle.manifest.inputs
    assert (x.shape, x.dtype, x.labels) == ((HEIGHT, WIDTH, 3), "uint8", ("r", "g", "b"))
    assert bundle.golden().inputs["x"].dtype == np.uint8


def test_an_encoder_alone_remembers_nothing(tmp_path: Path) -> None:
    network, whole = frames_network(alone=True), film(30, 0)
    assert export_network(network, [whole, film(20, 1)], tmp_path, name="camera").manifest.states == ()
    time = TimeSpec.around(0.05)
    after, alone = rollout(network, [whole, whole.where(slice(20, 30))], time)
    np.testing.assert_allclose(after.outputs[20:], alone.outputs, atol=1e-6)
    assert np.ptp(alone.outputs) > 1e-4


def test_cropped_pixels_are_not_seen() -> None:
    network, (one,) = frames_network(), (film(5, 0),)
    changed = one.features.copy()
    changed[:, :6], changed[:, -1:], changed[:, :, :2], changed[:, :, -3:] = 0, 255, 255, 0
    time = TimeSpec.around(0.05)
    before, after = rollout(network, [one, Recording("changed", one.t_ns, changed)], time)
    np.testing.assert_array_equal(before.outputs, after.outputs)
    changed[:, 10, 10] += 50
    (other,) = rollout(network, [Recording("changed", one.t_ns, changed)], time)
    assert np.abs(other.outputs - before.outputs).max() > 1e-4


def test_a_network_that_sees_motion_streams() -> None:
    """Row by row as at once, also past rows that do not exist."""
    cell = frames_network(motion=True).cell
    x = cell.reduce(torch.from_numpy(np.stack([film(7, 0).features, film(7, 1).features])).float())
    valid, d = torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 7, 1)
    valid[1, [2, 6]] = False
    with torch.no_grad():
        at_once, after = cell.unroll(x, cell.initial_state(2), d, valid)
        state = cell.initial_state(2)
        for k in range(7):
            y, advanced = cell.step(x[:, k], state, d[:, k])
            state = keep(valid[:, k], advanced, state)
            torch.testing.assert_close(y[valid[:, k]], at_once[valid[:, k], k])
    for name, value in state.items():
        torch.testing.assert_close(value, after[name])


def test_a_change_is_since_the_row_before() -> None:
    x, start = torch.randn(2, 5, 3), torch.randn(2, 1, 3)
    y, state = Change(3).unroll(x, {"window": start}, torch.ones(2, 5, 1))
    torch.testing.assert_close(y, torch.diff(torch.cat([start, x], dim=1), dim=1))
    torch.testing.assert_close(state["window"], x[:, -1:])


def test_shrinking_averages_by_area() -> None:
    torch.testing.assert_close(shrink(6, 3, 0, 0) @ torch.arange(6.0), torch.tensor([0.5, 2.5, 4.5]))
    torch.testing.assert_close(shrink(6, 2, 2, 1), torch.tensor([[0, 0, 2, 1, 0, 0], [0, 0, 0, 1, 2, 0]]) / 3)
    torch.testing.assert_close(shrink(17, 5, 3, 2).sum(dim=1), torch.ones(5))
    with pytest.raises(ValueError, match="size: 5 pixels wanted of 4: 10 less a crop of 3 and 3"):
        shrink(10, 5, 3, 3)


def test_a_window_is_a_causal_convolution() -> None:
    torch.manual_seed(0)
    cell = DepthwiseConvolution(4, taps=3)
    x = torch.randn(2, 9, 4)
    with torch.no_grad():
        y, _ = cell.unroll(x, cell.initial_state(2), torch.ones(2, 9, 1))
        padded = torch.nn.functional.pad(x.transpose(1, 2), (2, 0))
        wanted = conv1d(padded, cell.weight.t().unsqueeze(1), cell.bias, groups=4).transpose(1, 2)
    torch.testing.assert_close(y, wanted)
