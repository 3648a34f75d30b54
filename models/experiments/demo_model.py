"""`make demo-model`: trains the model of `statestream demo` and writes its bundle, recordings and score."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from statestream.models.config import load_config
from statestream.models.data.sets import rover
from statestream.models.demo import MODEL, RECORDINGS, REPOSITORY, SCORE
from statestream.models.export import export
from statestream.models.files import write_json
from statestream.models.training import train
from statestream.models.training.dataset import load_dataset

MOST_OFF = 0.02
"""Largest difference of a new score from the stored one."""


def main(runs: Path = Path("build/demo-model")) -> None:
    """Train, compare with the stored score, and write the files."""
    config = load_config(MODEL)
    dataset = load_dataset(config)
    run = train(config, runs, overwrite=True, dataset=dataset)
    accuracy = run.scores["accuracy"]
    check(accuracy)
    export(run.path, REPOSITORY, MODEL, 1, overwrite=True, dataset=dataset, aux_tau=True)
    rover.write_csv(RECORDINGS, rover.recordings("test"))
    write_json(SCORE, {"accuracy": round(accuracy, 4)})
    sys.stdout.write(f"{MODEL}: {accuracy:.4f} of the rows right\n")


def check(accuracy: float) -> None:
    """End with an error if a score is far from the stored one; without a stored one, any will do."""
    if not SCORE.exists():
        return
    stored = json.loads(SCORE.read_text())["accuracy"]
    if abs(accuracy - stored) > MOST_OFF:
        sys.exit(f"{accuracy:.4f} is more than {MOST_OFF} off {stored}; delete {SCORE} if that is meant")


if __name__ == "__main__":
    main()
