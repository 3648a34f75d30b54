"""A readout that learns in its session: it follows a drift, rests without a target, and never runs away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from statestream.models.cells.least_squares import LeastSquares
from statestream.models.data.recordings import Recording
from statestream.models.export.adaptation import PREFIX, AdaptiveNetwork, taught
from statestream.models.export.exporter import export_network
from statestream.models.spec import TimeSpec
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.service.embedded import Embedded
from tests.integration.models.conftest import FEATURES, NOMINAL_S, made_up, network_of

TIME = TimeSpec.around(NOMINAL_S)
LEARNED = (PREFIX + "weights", PREFIX + "covariance")


def learning(forgetting: float = 0.99) -> AdaptiveNetwork:
    return AdaptiveNetwork(network_of("cfc", "regression"), forgetting).eval()


def plant(gain: float, rows: int = 600, seed: int = 0) -> Recording:
    """A recording whose targets are a linear map of its rows, times a gain, with some noise."""
    (recording,) = made_up([rows], seed)
    map_FK = np.random.default_rng(1).normal(size=(FEATURES, 3))
    noise = np.random.default_rng(seed).normal(size=(rows, 3)) / 50
    target = (gain * recording.features @ map_FK + noise).astype(np.float32)
    return Recording(recording.id, recording.t_ns, recording.features, target)


def test_it_is_least_squares() -> None:
    """With hardly any forgetting, W is the ridge regression on all rows so far."""
    random, n = torch.Generator().manual_seed(0), 200
    phi_TN, target_TK = torch.randn(n, 4, generator=random), torch.randn(n, 2, generator=random)
    cell = LeastSquares(4, 2, forgetting=0.99999)
    x = torch.cat([phi_TN[:-1], torch.zeros(n - 1, 2), torch.full((n - 1, 2), torch.nan)], dim=1)
    x[1:, -2:] = target_TK[: n - 2]
    _, state = cell.unroll(x.unsqueeze(0), cell.initial_state(1), torch.ones(1, n - 1, 1))
    known = torch.cat([phi_TN[: n - 2], torch.ones(n - 2, 1)], dim=1).double()
    ridge = torch.linalg.solve(known.T @ known + torch.eye(5), known.T @ target_TK[: n - 2].double())
    torch.testing.assert_close(state["weights"][0].double(), ridge, rtol=1e-3, atol=1e-3)


def test_what_was_never_trained_is_learned_on_the_way() -> None:
    recording = plant(1.0)
    (plain,) = rollout(network_of("cfc", "regression"), [recording], TIME)
    (learned,) = rollout(learning(), [taught(recording)], TIME)
    end = slice(300, None)
    before, after = (((r.outputs - np.asarray(recording.target))[end] ** 2).mean() for r in (plain, learned))
    assert after < 0.02 * before


def test_without_a_target_it_says_what_the_network_says_and_rests() -> None:
    """A mask that is 0, and a target that is NaN, say the same; a NaN of one output leaves the weights of that one."""
    network, recording = learning(), taught(plant(1.0))
    masked, missing, partly = (recording.features.copy() for _ in range(3))
    masked[:, -1] = 0
    missing[:, FEATURES : FEATURES + 3] = np.nan
    partly[:, FEATURES] = np.nan
    results = [
        rollout(network, [Recording("r", recording.t_ns, x, recording.target)], TIME)[0]
        for x in (masked, missing, partly)
    ]
    (plain,) = rollout(network_of("cfc", "regression"), [plant(1.0)], TIME)
    for result in results[:2]:
        np.testing.assert_allclose(result.outputs, plain.outputs, rtol=1e-5, atol=1e-5)
        assert not result.state[LEARNED[0]].any()
        torch.testing.assert_close(result.state[LEARNED[1]][0], torch.eye(len(result.state[LEARNED[1]][0])))
    weights = results[2].state[LEARNED[0]][0]
    assert not weights[:, 0].any()
    assert weights[:, 1:].abs().max() > 0.1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recordings = [taught(plant(gain, 300, seed)) for seed, gain in enumerate((1.0, 0.5, 2.0))]
    for recording in recordings[1:]:
        random = np.random.default_rng(0)
        recording.features[random.random(len(recording)) < 0.3, -1] = 0
        recording.features[random.random(len(recording)) < 0.1, FEATURES] = np.nan
    exported = export_network(learning(), recordings, tmp_path_factory.mktemp("repository"), name="learning")
    return exported.path


def inputs_of(recording: Recording) -> dict[str, np.ndarray]:
    x = taught(recording).features
    return {"x": x[:, :FEATURES], "target": x[:, FEATURES:-1], "target_mask": x[:, -1:] > 0}


def test_two_sessions_learn_different_things_at_once_and_do_not_touch(bundle: Path) -> None:
    model = Embedded.open(bundle)
    assert [(t.name, t.dtype, t.nan) for t in model.manifest.inputs] == [
        ("x", "float32", "invalid"), ("target", "float32", "not_measured"), ("target_mask", "bool", "invalid"),
    ]  # fmt: skip
    recordings = [plant(1.0), plant(-2.0, seed=5)]
    both, alone = [model.session() for _ in recordings], [model.session() for _ in recordings]
    columns = [inputs_of(recording) for recording in recordings]
    together = []
    for k in range(len(recordings[0])):
        rows = {name: np.stack([one[name][k] for one in columns]) for name in columns[0]}
        together.append(model.burst(both, rows, np.stack([r.t_ns[k] for r in recordings])).y)
    for k, recording in enumerate(recordings):
        expected = alone[k].chunk(columns[k], recording.t_ns)
        y = np.stack(together)[:, k]
        np.testing.assert_allclose(y, expected.y, rtol=0, atol=1e-4)
        error = (y - np.asarray(recording.target))[400:]
        assert (error**2).mean() < 0.05 * np.asarray(recording.target)[400:].var()
    both[0].reset()
    assert not both[0].state[LEARNED[0]].any()
    assert both[1].state[LEARNED[0]].any()


def test_covariance_is_bounded_over_a_million_rows(bundle: Path) -> None:
    """Ten thousand in each of 100 sessions; most rows stand still, where a covariance that is divided by λ explodes."""
    session = onnxruntime.InferenceSession(str(bundle / "chunk.onnx"), providers=["CPUExecutionProvider"])
    batch, rows, chunks = 100, 500, 20
    names = [o.name for o in session.get_outputs() if o.name.startswith("state_")]
    state = {
        i.name: np.zeros((batch, *i.shape[1:]), np.float32) for i in session.get_inputs() if i.name.startswith("state_")
    }
    random = np.random.default_rng(0)
    still = np.full((batch, rows, FEATURES), 0.5, np.float32)
    feed = {"valid": np.ones((batch, rows), bool), "target_mask_seq": np.ones((batch, rows, 1), bool)}
    for k in range(chunks):
        moving = k % 10 == 0
        feed["x_seq"] = random.normal(size=still.shape).astype(np.float32) if moving else still
        feed["dt_seq"] = random.uniform(0.5, 2, (batch, rows, 1)).astype(np.float32) * np.float32(NOMINAL_S)
        feed["target_seq"] = random.normal((1, -2, 0), (3, 0.1, 1), size=(batch, rows, 3)).astype(np.float32)
        found = session.run(names, feed | state)
        state = {name.removesuffix("_out"): value for name, value in zip(names, found, strict=True)}
        covariance = state[f"state_{LEARNED[1]}"].astype(np.float64)
        values = np.linalg.eigvalsh(covariance)
        assert values.min() > 0
        assert values.max() <= 1 + 1e-4
        np.testing.assert_array_equal(covariance, covariance.swapaxes(1, 2))
        assert np.abs(state[f"state_{LEARNED[0]}"]).max() < 10
    assert batch * rows * chunks == 10**6


@pytest.mark.parametrize(
    ("network", "forgetting", "problem"),
    [
        (
            network_of("cfc"),
            0.99,
            r"adaptation needs regression from rows of numbers; the network's task is 'classification'",
        ),
        (network_of("cfc", "regression"), 0.998, r"forgetting: 0.998, expected 0.9 to 0.995"),
    ],
)
def test_what_cannot_learn_is_refused(network: Network, forgetting: float, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AdaptiveNetwork(network, forgetting)
