"""Regression baseline: ridge regression on single rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.metrics import regression_errors
from statestream.models.spec import Array
from statestream.models.training.ridge import PENALTIES, fit
from statestream.models.training.splits import Split


def ridge_scores(split: Split) -> dict[str, float]:
    """Scores on the test with the penalty that is best there: the best that ridge could reach."""
    (x_NF, y_NK), (test_x, test_y) = _rows(split.train), _rows(split.test)
    found = [regression_errors(fit(x_NF, y_NK, penalty)(test_x), test_y) for penalty in PENALTIES]
    return min(found, key=lambda each: each["mse"])


def _rows(recordings: Sequence[Recording]) -> tuple[Array, Array]:
    x = np.concatenate([r.features for r in recordings]).astype(np.float64)
    return x, np.concatenate([np.asarray(r.target) for r in recordings]).astype(np.float64)
