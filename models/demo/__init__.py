"""Files of `statestream demo`: a trained bundle, its test recordings and its score; `make demo-model` writes them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER / "repository"
MODEL = "rover"
RECORDINGS = FOLDER / "recordings.csv"
SCORE = FOLDER / "score.json"
"""`accuracy`: the fraction of rows of `RECORDINGS` for which the model is right."""
TARGET = "floor"
