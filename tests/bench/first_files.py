"""What `init` and `train` reach on a user's files, beside the preset of the same data: into docs/results.md.

`python -m tests.bench.first_files [NAME]… [--seeds N] [--write]`

A user has files and the name of a column, nothing else: the recordings are written as such files, `init` makes the
training file without a look at those to test on, and `train` is told which these are, so that both networks are scored
on the preset's test rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.config import Config, load_config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.registry import loader
from statestream.models.files import write_json
from statestream.models.spec import TimeSpec
from statestream.models.training.dataset import load_dataset
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import Run, load_checkpoint
from statestream.models.training.splits import Split, split_dataset
from statestream.models.training.tasks import scores
from statestream.models.training.trainer import train
from statestream.service.cli import main as command
from tests.bench.pages import DOCS, show

OUT = Path("build/first_files")
ENOUGH = 0.95
"""Fraction of the preset's accuracy or R², or of its reach in squared error."""
KNOWING = ("persistence",)
"""Baselines of a regression that know the target of the row before."""


@dataclass(frozen=True)
class Case:
    """A data set as a user has it, and the preset for it."""

    preset: str
    overrides: tuple[str, ...]
    files: str
    """What the user has."""
    write: Callable[[Path], list[str]]
    """Writes the files; returns the columns to predict."""
    metric: str
    known: str = ""
    """Model of docs/results.json that is the preset, tested on the same rows; empty: the preset is trained here."""
    folds: int = 0
    """Folds that are each tested once, in place of seeds."""


@dataclass(frozen=True)
class Prepared:
    """A case's files with the training file of `init`, and the preset's test rows."""

    file: Path
    test: list[str]
    """Overrides that name the recordings to test on; empty: `init` tests on the same part of the only one."""
    preset: Config
    dataset: Dataset
    split: Split


@dataclass(frozen=True)
class Outcome:
    """One training from a first file, beside the preset."""

    name: str
    run: int
    """Seed, or fold."""
    found: float
    preset: float
    baselines: dict[str, float]
    """Of the files' own test recordings, as is `own`."""
    own: float
    seconds: float
    cpu_seconds: float


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


def write_drive(folder: Path) -> list[str]:
    """A JPEG file a frame, and the time and the angle of each in `labels.csv`."""
    from statestream.models.data.readers import labelled_frames
    from statestream.models.data.set_files import locate
    from statestream.models.data.sets import tubs

    source = locate("donkeycar_test_tub", tubs.DONKEYCAR.files[0])
    assert source is not None
    table = labelled_frames.READER.read(source.parent, ())
    lines = ["image,t_ms,angle"]
    for k, (jpeg, angle) in enumerate(zip(table.cells("image"), table.numbers("angle").tolist(), strict=True)):
        (folder / f"{k:05d}.jpg").write_bytes(jpeg)
        lines.append(f"{k:05d}.jpg,{tubs.PERIOD_MS * k},{angle}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return ["angle"]


def _write_csv(folder: Path, recording: Recording, names: Sequence[str], targets: Sequence[object]) -> None:
    lines = [",".join(("t", *names))]
    for t_ns, x_F, target in zip(recording.t_ns.tolist(), recording.features, targets, strict=True):
        last = target if isinstance(target, list) else [target]
        lines.append(",".join([f"{t_ns * 1e-9:.6f}", *(f"{v:.9g}" for v in x_F.tolist()), *map(_text, last)]))
    (folder / f"{recording.id.replace('/', '-')}.csv").write_text("\n".join(lines) + "\n")


def _text(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


CASES = {
    "gesture_sessions": Case(
        *("gesture_sessions", (), "a CSV file a session, with its labels"),
        *(lambda folder: write_labelled(folder, "gesture_phase"), "accuracy", "gesture_sessions.cfc", 7),
    ),
    "donkeycar": Case(
        *("donkeycar", (), "frames in a folder, with labels.csv", write_drive, "r2", "donkeycar.cfc"),
    ),
    "borealtc": Case(
        *("borealtc_raw", ("split.fold=0",), "a CSV file a run, with its label"),
        *(lambda folder: write_labelled(folder, "borealtc/runs"), "accuracy"),
    ),
    "walker2d": Case("walker2d", (), "a CSV file a rollout", write_walks, "mse", "walker2d.cfc"),
}


def prepared(name: str, fold: int = 0, out: Path = OUT) -> Prepared:
    """Write a case's files, and let `init` write the training file while those to test on are away."""
    case, folder, away = CASES[name], out / name / "recordings", out / name / "tested"
    config = load_config(case.preset, (*case.overrides, *([f"split.fold={fold}"] if case.folds else [])))
    dataset = load_dataset(config)
    split = split_dataset(dataset, config.split)
    for each in (folder, away):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    named = [word for target in case.write(folder) for word in ("--target", target)]
    tested = [path for path in sorted(folder.glob("*.csv")) if path.stem in _tested(split)]
    for path in tested:
        path.rename(away / path.name)
    file = out / name / f"{name}.toml"
    assert command(["init", str(folder), *named, "--out", str(file), "--overwrite"]) == 0
    for path in tested:
        (away / path.name).rename(path)
    names = json.dumps([path.stem for path in tested])
    test = [f"split.test_recordings={names}", "split.by=recording"] if tested else []
    return Prepared(file, test, config, dataset, split)


def _tested(split: Split) -> set[str]:
    """Recordings of the preset's test, of which it may have pieces."""
    return {r.group for r in split.test} | {r.id.partition("/")[0] for r in split.test}


def trained(files: Prepared, seed: int, *overrides: str, file: Path | None = None, out: str = "runs") -> Run:
    """Train from the first file, or from another one."""
    arguments = [str(file or files.file), *files.test, *overrides, f"training.seed={seed}"]
    assert command(["train", *arguments, "--out", str(OUT / out), "--overwrite"]) == 0
    return load_checkpoint(OUT / out / load_config(file or files.file).name)


def score(run: Run, files: Prepared, metric: str) -> float:
    """Score on the preset's test rows; classes go by name, as files have them in another order."""
    facts, labels, test = run.network.facts, files.dataset.labels, files.split.test
    assert list(facts.features) == list(files.dataset.features), "the preset's columns, in their order"
    outputs = [r.outputs for r in rollout(run.network, test, TimeSpec.around(facts.nominal_s))]
    if files.preset.task.kind == "classification":
        outputs = [y_TK[:, [list(facts.labels).index(name) for name in labels]] for y_TK in outputs]
    return scores(run.network, outputs, test, at_end=files.preset.task.at == "end")[metric]


def outcomes(name: str, seeds: int) -> Iterator[Outcome]:
    """Train a case for each seed, or fold."""
    if CASES[name].folds:
        for fold in range(CASES[name].folds):
            yield outcome(name, prepared(name, fold), fold, seed=0)
    else:
        files = prepared(name)
        for seed in range(seeds):
            yield outcome(name, files, seed, seed)


def outcome(name: str, files: Prepared, number: int, seed: int) -> Outcome:
    """Train from the files, and score beside the preset on its test rows."""
    metric, started, cpu = CASES[name].metric, time.monotonic(), time.process_time()
    run = trained(files, seed)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    return Outcome(
        name,
        number,
        score(run, files, metric),
        preset_score(name, files, seed),
        {each: its[metric] for each, its in run.baselines.items()},
        run.scores[metric],
        round(seconds, 1),
        round(cpu_seconds, 1),
    )


def preset_score(name: str, files: Prepared, seed: int) -> float:
    """The preset's score, as docs/results.json has it or by a training."""
    case = CASES[name]
    if case.known:
        known = json.loads((DOCS / "results.json").read_text())
        return float(known[f"{case.known}.{case.metric}"]["value"])
    options = files.preset.training.model_copy(update={"seed": seed})
    config = files.preset.model_copy(update={"training": options})
    return train(config, OUT / "presets", overwrite=True, progress=False, dataset=files.dataset).scores[case.metric]


def share(metric: str, found: float, preset: float) -> float:
    """A score as a fraction of the preset's; for an error, the preset's as a fraction of it."""
    return float(preset / found if metric == "mse" else found / preset)


def rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A line of the table for each case."""
    found = []
    for name in [name for name in CASES if any(each.name == name for each in outcomes)]:
        case, own = CASES[name], [each for each in outcomes if each.name == name]
        values, preset = [each.found for each in own], np.mean([each.preset for each in own])
        fair = {key: np.mean([each.baselines[key] for each in own]) for key in own[0].baselines if key not in KNOWING}
        best = (min if case.metric == "mse" else max)(fair, key=lambda key: fair[key])
        cells = [
            *(name, case.files, case.metric, spread(values), f"{preset:.3f}"),
            *(f"{share(case.metric, np.mean(values), preset):.2f}", f"{np.mean([each.own for each in own]):.3f}"),
            f"{best.replace('_', ' ')} {fair[best]:.3f}",
            *(f"{max(each.seconds for each in own) / 60:.1f}", f"{max(each.cpu_seconds for each in own) / 60:.1f}"),
        ]
        found.append([*cells, f"{len(own)} {'folds' if case.folds else 'seeds' if len(own) > 1 else 'seed'}"])
    return found


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the runs, if there are several."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


HEADER = [
    *("data", "files", "score", "init", "preset", "share", "own test", "best baseline"),
    *("minutes", "of a core", "runs"),
]


def main() -> None:
    """Train the cases that are named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.first_files", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/results.md")
    options = parser.parse_args()
    (OUT / "outcomes").mkdir(parents=True, exist_ok=True)
    for name in (options.names or CASES) if options.seeds else ():
        for found in outcomes(name, options.seeds):
            write_json(OUT / "outcomes" / f"{name}-{found.run}.json", vars(found))
            enough = share(CASES[name].metric, found.found, found.preset) >= ENOUGH
            print(json.dumps(vars(found)), "near the preset" if enough else "below the preset", flush=True)
    kept = [Outcome(**json.loads(path.read_text())) for path in sorted((OUT / "outcomes").glob("*.json"))]
    table = rows(kept)
    show("results.md", "first-files", HEADER, table, write=options.write)


if __name__ == "__main__":
    main()
