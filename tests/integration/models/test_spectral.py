"""The bank of oscillators: it finds a tone at any timing, keeps its laws of time; whitening makes features alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from statestream.models.cells.base import Cell, State
from statestream.models.cells.options import CellOptions, SpectralOptions
from statestream.models.cells.registry import build_cell
from statestream.models.cells.spectral import SpectralEncoder
from statestream.models.cells.whitening import Whitening
from statestream.models.config import Config, ConfigError, parse_config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.export.adaptation import ADAPTIVE_TOLERANCE, AdaptiveNetwork, taught
from statestream.models.export.exporter import export, export_network
from statestream.models.spec import TimeSpec
from statestream.models.training.feature_statistics import fix_whitening
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.trainer import train
from statestream.service.embedded import Embedded
from tests.integration.models.conftest import FAMILIES, made_up, network_of

RATE = 100.0
HZ = (5.0, 10.0, 20.0, 40.0)


def bank(**options: Any) -> SpectralEncoder:
    """Of one signal at 100 Hz, without the map behind it."""
    spectral = {"kind": "spectral", "frequencies_hz": HZ} | options
    whole = TypeAdapter[CellOptions](CellOptions).validate_python({"kind": "encoded", "encoder": spectral})
    (found,) = [m for m in build_cell(whole, 1, period_s=1 / RATE).modules() if isinstance(m, SpectralEncoder)]
    return found


def energies(cell: Cell, x_T: np.ndarray, t_s: np.ndarray) -> Tensor:
    """The features after the last row."""
    d = torch.from_numpy(np.diff(t_s, prepend=t_s[0] - 1 / RATE) * RATE).float().view(1, -1, 1)
    with torch.no_grad():
        y, _ = cell.unroll(torch.from_numpy(x_T).float().view(1, -1, 1), cell.initial_state(1), d)
    return y[0, -1]


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize("irregular", [False, True])
def test_a_tone_is_loudest_where_it_is_whenever_rows_come(hz: float, irregular: bool) -> None:
    """A sine of amplitude 2 swings the oscillator of its frequency by 1: half of it turns the other way."""
    random = np.random.default_rng(0)
    gaps = random.uniform(0.3, 1.7, 600) if irregular else np.ones(600)
    t_s = np.cumsum(gaps) / RATE
    found = energies(bank(), 2 * np.sin(2 * np.pi * hz * t_s), t_s)
    assert HZ[int(found.argmax())] == hz
    assert float(found.max()) == pytest.approx(0.0, abs=0.5 if irregular else 0.2)
    assert float(found.sort().values[-2]) < float(found.max()) - 1


def test_a_gain_of_a_sensor_is_an_offset_of_its_features() -> None:
    t_s = np.arange(400) / RATE
    x = np.random.default_rng(0).normal(size=400)
    soft, loud = energies(bank(), x, t_s), energies(bank(), 10 * x, t_s)
    torch.testing.assert_close(loud - soft, torch.full_like(soft, np.log(100.0)), atol=1e-2, rtol=0)


def at_gaps(cell: Cell, x: Tensor, state: State, *gaps: float) -> State:
    with torch.no_grad():
        for gap in gaps:
            y, state = cell.step(x, state, torch.full((1, 1), gap))
            assert y.isfinite().all()
    return state


@pytest.mark.parametrize("gaps", [(0.5, 0.5), (0.1, 30.0), (20.0, 0.01)])
def test_two_gaps_are_one_without_input(gaps: tuple[float, float]) -> None:
    """For z and n whatever they are; for p where z is at rest."""
    cell, nothing = bank(), torch.zeros(1, 1)
    for swing, exact in ((torch.randn(1, 8), {"z", "n"}), (torch.zeros(1, 8), {"z", "p", "n"})):
        state = {"z": swing, "p": torch.rand(1, 4), "n": torch.rand(1, 1)}
        two, one = at_gaps(cell, nothing, state, *gaps), at_gaps(cell, nothing, state, sum(gaps))
        for name in exact:
            torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=1e-5)
    state = {"z": torch.ones(1, 8), "p": torch.zeros(1, 4), "n": torch.zeros(1, 1)}
    two, one = at_gaps(cell, nothing, state, 5.0, 5.0), at_gaps(cell, nothing, state, 10.0)
    assert (two["p"] - one["p"]).abs().max() > 1e-4


@pytest.mark.parametrize("gaps", [(0.5, 0.5), (0.1, 30.0), (20.0, 0.01)])
def test_a_row_that_repeats_a_value_changes_nothing(gaps: tuple[float, float]) -> None:
    cell, value = bank(), torch.full((1, 1), 3.0)
    state = {"z": torch.randn(1, 8), "p": torch.rand(1, 4), "n": torch.rand(1, 1)}
    two, one = at_gaps(cell, value, state, *gaps), at_gaps(cell, value, state, sum(gaps))
    for name in ("z", "n"):
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=1e-5)


def test_rows_missing_from_a_slow_movement_change_no_feature() -> None:
    """Were each row an impulse, those that are left would shake the oscillators of all frequencies."""
    t_s = np.arange(1000) / RATE
    kept = np.random.default_rng(0).random(len(t_s)) >= 0.3
    kept[-1] = True
    slow = 20 * np.sin(2 * np.pi * 0.3 * t_s)
    whole, missing = energies(bank(), slow, t_s), energies(bank(), slow[kept], t_s[kept])
    torch.testing.assert_close(missing, whole, atol=0.1, rtol=0)


def test_no_time_leaves_the_states_and_a_first_row_finite() -> None:
    cell = bank()
    state = at_gaps(cell, torch.randn(1, 1), cell.initial_state(1), 1.0, 2.0)
    for gap, atol in ((0.0, 0.0), (1e-6, 1e-5)):
        after = at_gaps(cell, torch.randn(1, 1), state, gap)
        for name, value in state.items():
            torch.testing.assert_close(after[name], value, atol=atol, rtol=0)
    fresh = cell.initial_state(1)
    torch.testing.assert_close(at_gaps(cell, torch.randn(1, 1), fresh, 0.0), fresh)


def test_options_are_of_hertz_and_seconds_and_follow_from_the_period() -> None:
    def found(**options: Any) -> SpectralEncoder:
        spectral = {"kind": "spectral"} | options
        whole = TypeAdapter[CellOptions](CellOptions).validate_python({"kind": "encoded", "encoder": spectral})
        (cell,) = [m for m in build_cell(whole, 2, period_s=0.01).modules() if isinstance(m, SpectralEncoder)]
        return cell

    given = found(range_hz=[2.0, 46.0, 12], bandwidth_hz=1.5, smoothing_s=0.5)
    for cell in (given, found()):
        torch.testing.assert_close(cell.frequencies(), torch.linspace(0.02, 0.46, 12))
        assert (cell.decay, cell.smoothing) == pytest.approx((2 * np.pi * 0.015, 50.0))
        assert [spec.shape for spec in cell.states] == [(48,), (24,), (1,)]
        assert not list(cell.parameters())
    assert [name for name, _ in found(learned=True).named_parameters()] == ["shift"]
    with pytest.raises(ValueError, match=r"cell.encoder: an oscillator of 60 Hz needs rows at twice that rate; they"):
        found(frequencies_hz=[5.0, 60.0])
    with pytest.raises(ValueError, match=r"either encoder.frequencies_hz or encoder.range_hz"):
        SpectralOptions(kind="spectral", frequencies_hz=(1.0,), range_hz=(1.0, 2.0, 2))


def test_a_learned_frequency_moves_to_a_tone() -> None:
    """Its weight is what the frequency is multiplied by, as a logarithm: decay leads back to where it started."""
    torch.manual_seed(0)
    cell = bank(frequencies_hz=[18.0], learned=True, bandwidth_hz=3.0)
    t_s = torch.arange(300) / RATE
    x = torch.sin(2 * np.pi * 20.0 * t_s).view(1, -1, 1)
    optimizer = torch.optim.Adam(cell.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        y, _ = cell.unroll(x, cell.initial_state(1), torch.ones(1, 300, 1))
        (-y[:, 100:].mean()).backward()
        optimizer.step()
    assert float(cell.frequencies()[0].detach()) * RATE == pytest.approx(20.0, abs=0.5)


# The map of features.


def features_of(network: Network, recordings: list[Recording]) -> np.ndarray:
    """What the readout of a bank alone is given."""
    with torch.no_grad():
        network.readout.weight.copy_(torch.eye(*network.readout.weight.shape))
        network.readout.bias.zero_()
    return np.concatenate([r.outputs for r in rollout(network, recordings, TimeSpec.around(0.02))])


@pytest.mark.parametrize("whiten", [False, True])
def test_features_are_standardised_or_whitened_by_the_training_split(whiten: bool) -> None:
    network, recordings = network_of("spectral", "regression"), made_up([400, 300])
    size = network.cell.output_size
    network.readout = torch.nn.Linear(size, size)
    network.target_mean, network.target_std = torch.zeros(size), torch.ones(size)
    network.facts.labels[:] = [f"y{k}" for k in range(size)]  # type: ignore[index]
    fix_whitening(network, recordings, TimeSpec.around(0.02), whiten=whiten)
    y = features_of(network, recordings).astype(np.float64)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(y.T, bias=True)
    if whiten:
        np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=2e-2)
        assert (np.diag(covariance) < 1.01).all()
        assert np.median(np.diag(covariance)) > 0.7
    else:
        np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-3)
        assert np.abs(covariance - np.eye(size)).max() > 0.3, "neighbouring oscillators hear the same"


SPECTRAL = {"kind": "encoded", "encoder": {"kind": "spectral", "range_hz": [5.0, 45.0, 4]}}
CELLS: dict[str, dict[str, Any]] = {
    "spectral": SPECTRAL,
    **{f"spectral_{name}": SPECTRAL | {"cell": FAMILIES[name]} for name in ("cfc", "gru", "stack")},
    **{name: FAMILIES[name] for name in ("cfc", "s5", "ltc_ncp", "convolution_cfc")},
}
NO_PRODUCT_BEHIND = {"spectral_gru", "ltc_ncp", "convolution_cfc"}
"""Their next operation is no matrix product of the features alone."""


def vibrations(rows: int = 120, *, holes: bool = False) -> Dataset:
    """Two kinds of shaking, 12 and 31 Hz, in mixed and shifted channels; two classes of recordings."""
    random, recordings = np.random.default_rng(0), []
    mix = random.normal(size=(3, 3))
    for k in range(24):
        t_ns = np.cumsum(random.uniform(0.5, 1.5, rows) * 1e7).astype(np.int64)
        phase = random.uniform(0, 2 * np.pi, 3)
        x = np.sin(2 * np.pi * (12, 31)[k % 2] * t_ns[:, None] / 1e9 + phase) + random.normal(size=(rows, 3)) / 3
        features = (x @ mix + (5, 0, -1)).astype(np.float32)
        if holes:
            features[random.random(features.shape) < 0.3] = np.nan
        recordings.append(Recording(str(k), t_ns, features, np.full(rows, k % 2), str(k)))
    return Dataset(tuple(recordings), ("a", "b", "c"), ("slow", "fast"))


def config_of(cell: dict[str, Any], *, epochs: int = 1, **data: Any) -> Config:
    values = {
        "name": "shaken",
        "data": {"dataset": "borealtc", "whiten": True, "period_s": 0.01, **data},
        "split": {"validation": 0.0, "test": 0.25},
        "cell": cell,
        "training": {"epochs": epochs, "passes": 1, "batch": 6, "learning_rate": 0.05},
    }
    return parse_config(values, "a test")


@pytest.mark.parametrize(
    ("cell", "holes"), [*((cell, False) for cell in CELLS), ("spectral", True), ("spectral_cfc", True), ("cfc", True)]
)
def test_whitened_networks_become_bundles(cell: str, holes: bool, tmp_path: Path) -> None:
    """Trained, read back, exported at 1e-5 and in int8, and run embedded, where rows have holes too."""
    dataset = vibrations(holes=holes)
    config = config_of(CELLS[cell], missing="hold" if holes else "drop")
    run = train(config, tmp_path / "runs", progress=False, dataset=dataset)
    (map_,) = [module for module in run.network.modules() if isinstance(module, Whitening)]
    assert not torch.equal(map_.matrix, torch.eye(len(map_.matrix))), "what was fixed is kept with the weights"
    recording = dataset.recordings[0]
    for quantize in (None, "int8"):
        bundle = export(run, tmp_path / "repository", dataset=dataset, quantize=quantize, max_drop=1.0)
        y = Embedded.open(bundle.path).session().chunk(recording.features, recording.t_ns).y
        assert np.isfinite(y).all()
        if quantize is None:
            (wanted,) = rollout(run.network, [recording], TimeSpec.around(0.01))
            np.testing.assert_allclose(y, wanted.outputs, atol=1e-4)
            read = {name for node in onnx.load(bundle.step_path).graph.node for name in node.input}
            assert any(name.endswith(".matrix") for name in read) == (cell in NO_PRODUCT_BEHIND)


def test_whitening_helps_a_bank_learn_and_a_bank_hears_what_rows_hide(tmp_path: Path) -> None:
    """Linear readouts: rows of both classes have one mean; of the bank's features a straight line parts them."""
    dataset = vibrations()
    run = train(config_of(SPECTRAL, epochs=5), tmp_path, progress=False, dataset=dataset)
    assert run.scores["accuracy"] > 0.9, "of rows, the first of a recording among them"


def test_a_readout_behind_a_bank_goes_on_learning(tmp_path: Path) -> None:
    """Exported at the tolerance of adaptation, against torch; and it learns what its targets are made of."""
    network = AdaptiveNetwork(network_of("spectral_cfc", "regression"), 0.99).eval()
    recordings = []
    for recording in made_up([300, 200]):
        target = np.concatenate([np.zeros((1, 3)), recording.features[:-1, :3]]).astype(np.float32)
        recordings.append(taught(Recording(recording.id, recording.t_ns, recording.features, target)))
    bundle = export_network(network, recordings, tmp_path, name="learning", tolerance=ADAPTIVE_TOLERANCE)
    assert bundle.manifest.training["chunk_graph"] == "scan"
    assert {spec.name for spec in bundle.manifest.states} >= {"encoder_z", "encoder_p", "encoder_n", "cell_h"}
    assert np.abs(bundle.golden().states["readout_weights"]).max() > 0.01


def test_pictures_are_not_whitened() -> None:
    frames = {"kind": "frames", "frame": [24, 32], "size": [8, 12], "units": 4}
    with pytest.raises(ConfigError, match=r"data.whiten needs rows of numbers; cell.encoder takes pictures"):
        config_of({"kind": "encoded", "encoder": frames})
