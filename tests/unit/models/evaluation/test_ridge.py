"""Ridge regression: it finds what is linear, and a penalty keeps it from what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.models.evaluation.ridge import ridge_scores
from statestream.models.training.ridge import fit
from statestream.models.training.splits import Split


def drive(rows: int, seed: int, noise: float = 0.0) -> Recording:
    random = np.random.default_rng(seed)
    x = random.normal(5, 3, (rows, 20)).astype(np.float32)
    y = x[:, :1] - 2 * x[:, 1:2] + 4 + noise * random.normal(size=(rows, 1))
    return Recording(str(seed), np.arange(rows), x, y.astype(np.float32))


def test_a_line_is_found() -> None:
    one = drive(200, 0)
    model = fit(one.features.astype(float), np.asarray(one.target).astype(float), 1e-9)
    np.testing.assert_allclose(model.weight_FK[:2, 0] / model.std_F[:2], [1, -2], atol=1e-4)
    assert np.abs(model.weight_FK[2:]).max() < 1e-4


def test_a_large_penalty_leaves_the_mean() -> None:
    one = drive(50, 0)
    model = fit(one.features, np.asarray(one.target), 1e12)
    np.testing.assert_allclose(model(one.features), np.broadcast_to(np.asarray(one.target).mean(), (50, 1)), atol=1e-6)


def test_it_is_scored_on_the_test_with_the_penalty_that_suits_it() -> None:
    train, test = drive(25, 0, noise=6.0), drive(400, 1)
    plain = fit(train.features.astype(float), np.asarray(train.target).astype(float), 1e-9)
    found = ridge_scores(Split((train,), (), (test,)))
    assert found["mse"] < 0.7 * float(((plain(test.features) - np.asarray(test.target)) ** 2).mean())
    variance = float(np.asarray(test.target).var())
    assert found["r2"] == pytest.approx(1 - found["mse"] / variance, rel=1e-5)
