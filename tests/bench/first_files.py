"""What `init` and `train` reach on a user's files, beside the preset of the same data: into docs/results.md.

`python -m tests.bench.first_files [NAME]… [--seeds N] [--write]`

A user has files and the name of a column, nothing else: the recordings are written as such files, `init` makes the
training file, and `train` is told which recordings to test on, so that both networks are scored on the preset's test
rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.config import Config, load_config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.registry import loader
from statestream.models.files import write_json
from statestream.models.spec import TimeSpec
from statestream.models.training.dataset import load_dataset
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import Run, load_checkpoint
from statestream.models.training.splits import Split, split_dataset
from statestream.models.training.tasks import ranked_by, scores
from statestream.models.training.trainer import train
from statestream.service.cli import main as command
from tests.bench.pages import put

OUT = Path("build/first_files")
ENOUGH = 0.95
"""Fraction of the preset's accuracy, or of its reach in squared error."""


@dataclass(frozen=True)
class Case:
    """A data set as a user has it, and the preset for it."""

    preset: str
    overrides: tuple[str, ...]
    files: str
    """What the user has."""
    write: Callable[[Path], list[str]]
    """Writes the files; returns the columns to predict."""
    source: str
    """Registered data set whose recordings the files are."""


@dataclass(frozen=True)
class Outcome:
    """One training from a first file, beside one of the preset."""

    name: str
    seed: int
    metric: str
    found: float
    preset: float
    baselines: dict[str, float]
    """Of the files' own test recordings, as is `own`."""
    own: float
    seconds: float

    @property
    def enough(self) -> bool:
        """Whether the score is near the preset's."""
        return self.preset / self.found >= ENOUGH if self.metric == "mse" else self.found / self.preset >= ENOUGH


def write_labelled(folder: Path, source: str) -> list[str]:
    """A CSV file a recording: times, features, and the class as a word."""
    dataset = loader(source)()
    for recording in dataset.recordings:
        classes = [dataset.labels[k] for k in np.asarray(recording.target)]
        _write_csv(folder, recording, (*dataset.features, "label"), classes)
    return ["label"]


def write_walks(folder: Path) -> list[str]:
    """A CSV file a rollout, with the observation one step later."""
    from statestream.models.data.sets import walker2d

    dataset = walker2d.rollouts()
    targets = [f"next_{name}" for name in dataset.features]
    for recording in dataset.recordings:
        _write_csv(folder, recording, (*dataset.features, *targets), np.asarray(recording.target).tolist())
    return targets


def _write_csv(folder: Path, recording: Recording, names: Sequence[str], targets: Sequence[object]) -> None:
    lines = [",".join(("t", *names))]
    for t_ns, x_F, target in zip(recording.t_ns.tolist(), recording.features, targets, strict=True):
        last = target if isinstance(target, list) else [target]
        lines.append(",".join([f"{t_ns * 1e-9:.6f}", *(f"{v:.9g}" for v in x_F.tolist()), *map(_text, last)]))
    (folder / f"{recording.id.replace('/', '-')}.csv").write_text("\n".join(lines) + "\n")


def _text(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


CASES = {
    "walker2d": Case("walker2d", (), "a CSV file a rollout", write_walks, "walker2d"),
    "borealtc": Case(
        *("borealtc", ("split.fold=0",), "a CSV file a run, with its label"),
        *(lambda folder: write_labelled(folder, "borealtc/runs"), "borealtc/runs"),
    ),
    "gesture_sessions": Case(
        *("gesture_sessions", ("split.fold=0",), "a CSV file a session, with its labels"),
        *(lambda folder: write_labelled(folder, "gesture_phase"), "gesture_phase"),
    ),
}


def outcome(name: str, case: Case, seed: int) -> Outcome:
    """Train from the files and from the preset, and score both on the preset's test rows."""
    config = load_config(case.preset, (*case.overrides, f"training.seed={seed}", f"name={name}-preset"))
    dataset = load_dataset(config)
    split = split_dataset(dataset, config.split)
    folder = OUT / name / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    targets = case.write(folder)
    started = time.monotonic()
    run = _from_files(name, folder, targets, _tested(split, folder), seed)
    seconds = time.monotonic() - started
    assert list(run.network.facts.features) == list(dataset.features), "the preset's columns, in their order"
    metric = ranked_by(run.scores)[0]
    preset = train(config, OUT / "presets", overwrite=True, progress=False, dataset=dataset)
    return Outcome(
        name,
        seed,
        metric,
        _score(run.network, config, dataset, split, metric),
        preset.scores[metric],
        {each: its[metric] for each, its in run.baselines.items()},
        run.scores[metric],
        round(seconds, 1),
    )


def _from_files(name: str, folder: Path, targets: Sequence[str], tested: Sequence[str], seed: int) -> Run:
    file = OUT / name / f"{name}.toml"
    named = [word for target in targets for word in ("--target", target)]
    assert command(["init", str(folder), *named, "--out", str(file), "--overwrite"]) == 0
    test = f"split.test_recordings={json.dumps(list(tested))}"
    arguments = [str(file), test, "split.by=recording", f"training.seed={seed}", "--out", str(OUT / "runs")]
    assert command(["train", *arguments, "--overwrite"]) == 0
    return load_checkpoint(OUT / "runs" / name)


def _tested(split: Split, folder: Path) -> list[str]:
    """Files of the preset's test recordings, which may be pieces of them."""
    names = {r.group for r in split.test} | {r.id.partition("/")[0] for r in split.test}
    return sorted(path.stem for path in folder.glob("*.csv") if path.stem in names)


def _score(network: Network, config: Config, dataset: Dataset, split: Split, metric: str) -> float:
    """Score on the preset's test rows; classes go by name, as files have them in another order."""
    outputs = [r.outputs for r in rollout(network, split.test, TimeSpec.around(network.facts.nominal_s))]
    if config.task.kind == "classification":
        places = [list(network.facts.labels).index(name) for name in dataset.labels]
        outputs = [y_TK[:, places] for y_TK in outputs]
    return scores(network, outputs, split.test, at_end=config.task.at == "end")[metric]


def rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A line of the table for each case."""
    found = []
    for name in dict.fromkeys(each.name for each in outcomes):
        own = [each for each in outcomes if each.name == name]
        mean, preset = np.mean([each.found for each in own]), np.mean([each.preset for each in own])
        best = (min if own[0].metric == "mse" else max)(own[0].baselines, key=lambda key: own[0].baselines[key])
        baseline = np.mean([each.baselines[best] for each in own])
        ratio = preset / mean if own[0].metric == "mse" else mean / preset
        found.append(
            [
                name,
                CASES[name].files,
                own[0].metric,
                f"{mean:.4g}",
                f"{preset:.4g}",
                f"{ratio:.2f}",
                f"{np.mean([each.own for each in own]):.4g}",
                f"{best.replace('_', ' ')} {baseline:.4g}",
                f"{max(each.seconds for each in own) / 60:.1f}",
                str(len(own)),
            ]
        )
    return found


HEADER = ["data", "files", "score", "init", "preset", "share", "own test", "best baseline", "minutes", "seeds"]


def main() -> None:
    """Train the cases that are named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.first_files", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/results.md")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in options.names or CASES:
        for seed in range(options.seeds):
            found = outcome(name, CASES[name], seed)
            write_json(OUT / f"{name}-{seed}.json", vars(found))
            print(json.dumps(vars(found)), "near the preset" if found.enough else "below the preset", flush=True)
    kept = [Outcome(**json.loads(path.read_text())) for path in sorted(OUT.glob("*.json"))]
    table = rows(kept)
    if options.write:
        put("results.md", "first-files", HEADER, table)
    for line in table:
        print(" | ".join(line))


if __name__ == "__main__":
    main()
