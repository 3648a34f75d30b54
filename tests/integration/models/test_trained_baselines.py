"""Baselines of a training: each finds what it can find, on the split and by the scores of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.models.training.baselines import Kind, baseline_scores, lost_to
from statestream.models.training.network import Network, Scaling
from statestream.models.training.splits import Split
from statestream.models.training.trailing import trailing_features
from tests.integration.models.conftest import FEATURES, made_up, network_of

LENGTHS = list(range(60, 120, 2))
TRAINED, KEPT = 20, 24


@pytest.mark.parametrize(("rows", "window"), [(30, 1), (30, 7), (30, 30), (31, 16)])
def test_trailing_features_are_those_of_each_window(rows: int, window: int) -> None:
    x_TF = np.random.default_rng(0).normal(1e4, 1.0, (rows, 3))
    change = np.vstack([np.zeros(3), np.diff(x_TF, axis=0)])
    wanted = []
    for t in range(rows):
        own = slice(max(0, t + 1 - window), t + 1)
        x, moved = x_TF[own], np.abs(change[own])
        parts = (x_TF[t], change[t], x.mean(0), x.std(0), x.min(0), x.max(0), moved.mean(0))
        wanted.append(np.concatenate(parts))
    np.testing.assert_allclose(trailing_features(x_TF, window), wanted, rtol=1e-6, atol=1e-6)


def scored(
    kind: Kind, targets: Any, *, at_end: bool = False, changed: Any = None, labels: tuple[str, ...] = ("a", "b", "c")
) -> dict[str, dict[str, float]]:
    """Scores of the baselines for made-up recordings, whose targets are a function of the recording."""
    recordings = [changed(r) if changed else r for r in made_up(LENGTHS)]
    split = of(*(Recording(r.id, r.t_ns, r.features, targets(r)) for r in recordings))
    network = network_of("gru", "classification" if kind == "classification" else "regression")
    scale_to(network, split)
    object.__setattr__(network.facts, "labels", list(labels))
    return baseline_scores(network, split, kind, at_end=at_end)


def of(*recordings: Recording) -> Split:
    return Split(recordings[:TRAINED], recordings[TRAINED:KEPT], recordings[KEPT:])


def scale_to(network: Network, split: Split) -> None:
    y = np.concatenate([np.asarray(r.target) for r in split.train])
    if y.ndim == 2:
        scaling = Scaling(np.nanmean(y, axis=0).tolist(), np.nanstd(y, axis=0).tolist())
        object.__setattr__(network.facts, "targets", scaling)


def quadrant(r: Recording) -> np.ndarray[Any, Any]:
    return np.asarray((r.features[:, 0] > 0) + (r.features[:, 1] > 0), np.int64)


def test_a_class_that_a_line_parts_is_found_and_the_majority_is_counted() -> None:
    found = scored("classification", quadrant)
    truth = np.concatenate([quadrant(r) for r in made_up(LENGTHS)[KEPT:]])
    train = np.concatenate([quadrant(r) for r in made_up(LENGTHS)[:TRAINED]])
    assert found["majority"]["accuracy"] == np.mean(truth == np.bincount(train).argmax())
    assert found["logistic_regression"]["accuracy"] > max(0.8, found["majority"]["accuracy"])


def test_a_linear_target_is_found_by_ridge_and_the_mean_explains_nothing() -> None:
    found = scored("regression", lambda r: (r.features @ np.arange(FEATURES * 3).reshape(FEATURES, 3)).astype("f4"))
    assert found["ridge"]["r2"] > 0.999
    assert found["mean"]["r2"] < 0.1
    assert found["mean"]["r2"] < found["persistence"]["r2"] < found["ridge"]["r2"]


def next_row(r: Recording) -> np.ndarray[Any, Any]:
    return np.vstack([r.features[1:], r.features[-1:]])


ALL = tuple(f"f{k}" for k in range(FEATURES))


def test_persistence_repeats_the_row() -> None:
    found = scored("next_step", next_row, labels=ALL)
    moved = np.concatenate([next_row(r) - r.features for r in made_up(LENGTHS)[KEPT:]])
    assert found["persistence"]["mse"] == pytest.approx((moved.astype(float) ** 2).mean(), rel=1e-5)
    assert list(found) == ["persistence", "ridge"]


def test_persistence_repeats_what_is_predicted() -> None:
    found = scored("next_step", lambda r: next_row(r)[:, [2, 0]], labels=("f2", "f0"))
    moved = np.concatenate([(next_row(r) - r.features)[:, [2, 0]] for r in made_up(LENGTHS)[KEPT:]])
    assert found["persistence"]["mse"] == pytest.approx((moved.astype(float) ** 2).mean(), rel=1e-5)
    unseen = scored("next_step", lambda r: next_row(r)[:, [2, 0]], labels=("elsewhere", "f0"))
    assert unseen["persistence"]["mse"] == pytest.approx(found["persistence"]["mse"], rel=0.1)


def test_what_is_not_measured_is_held() -> None:
    def gappy(r: Recording) -> Recording:
        x = r.features.copy()
        x[np.random.default_rng(len(x)).random(x.shape) < 0.3] = np.nan
        return Recording(r.id, r.t_ns, x)

    found = scored("next_step", next_row, changed=gappy, labels=ALL)
    assert all(np.isfinite(list(its.values())).all() for its in found.values())
    assert found["persistence"]["mse"] < 1.0


def test_at_the_end_only_the_last_row_counts() -> None:
    found = scored("classification", lambda r: np.full(len(r), int(r.features[-1, 0] > 0)), at_end=True)
    assert found["majority"]["accuracy"] * (len(LENGTHS) - KEPT) % 1 == pytest.approx(0)
    regression = scored("regression", lambda r: np.full((len(r), 3), r.features.max()), at_end=True)
    assert list(regression) == ["mean", "ridge"]


def test_pictures_are_seen_as_a_grid_of_greys() -> None:
    def film(r: Recording) -> Recording:
        light = np.clip(128 + 60 * r.features[:, 0], 0, 255).astype(np.uint8)
        return Recording(r.id, r.t_ns, np.broadcast_to(light[:, None, None, None], (len(r), 30, 26, 3)))

    found = scored("regression", lambda r: np.repeat(r.features[:, 0, 0, :1].astype("f4"), 3, axis=1), changed=film)
    assert found["ridge"]["r2"] > 0.99


def test_what_is_better_is_named() -> None:
    baselines = {"mean": {"mse": 3.0}, "ridge": {"mse": 1.0}}
    assert lost_to({"mse": 2.0}, baselines, "regression") == ["the model loses to ridge (mse 2, 1)"]
    assert lost_to({"mse": 1.0}, baselines, "regression") == []
    majority = {"majority": {"accuracy": 0.5}}
    assert lost_to({"accuracy": 0.4}, majority, "classification") == ["the model loses to majority (accuracy 0.4, 0.5)"]
    (line,) = lost_to({"mse": 2.0}, {"persistence": {"mse": 1.0}}, "regression")
    assert "which knows the target of the row before" in line
    (line,) = lost_to({"mse": 2.0}, {"persistence": {"mse": 1.0}}, "next_step")
    assert "knows" not in line
