"""Training on a tiny made-up set: from CSV, Parquet or NPZ to a run, resumed or not, and on to a bundle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from statestream.models.bundle import Bundle
from statestream.models.config import Config, ConfigError, parse_config
from statestream.models.data.recordings import Columns
from statestream.models.data.tables import DataError
from statestream.models.export.exporter import export
from statestream.models.spec import TimeSpec
from statestream.models.training.batches import Window
from statestream.models.training.dataset import load_dataset
from statestream.models.training.learner import Learner
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import RunError, load_checkpoint
from statestream.models.training.trainer import Interrupted, train
from statestream.service.playback import dataset as playback

ROWS, PERIOD_NS = 40, 20_000_000


def made_up_columns() -> dict[str, np.ndarray[Any, Any]]:
    """Twelve recordings of four people: slow or fast sines, sampled irregularly; a class, and the phase's cosine."""
    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {name: [] for name in ("recording", "t_ns", "a", "b", "person", "pace", "next")}
    for k in range(12):
        rows = ROWS + k
        t = np.cumsum(random.uniform(0.5, 1.5, rows) * PERIOD_NS).astype(np.int64)
        phase = t * 1e-9 * (3 if k % 2 else 12) + k
        columns["recording"] += [f"r{k:02d}"] * rows
        columns["t_ns"] += t.tolist()
        columns["a"] += (5 + 2 * np.sin(phase) + 0.1 * random.normal(size=rows)).tolist()
        columns["b"] += random.normal(size=rows).tolist()
        columns["person"] += [f"p{k // 3}"] * rows
        columns["pace"] += ["slow" if k % 2 else "fast"] * rows
        columns["next"] += (100 * np.cos(phase)).tolist()
    return {name: np.array(values) for name, values in columns.items()}


def write(path: Path) -> Path:
    columns = made_up_columns()
    if path.suffix == ".csv":
        rows = zip(*(c.tolist() for c in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    elif path.suffix == ".npz":
        np.savez(path, **columns)  # type: ignore[arg-type]
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def config_of(path: Path, **changes: Any) -> Config:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"path": path, "features": ["a", "b"], "target": ["pace"], "group": "person"},
        "cell": {"kind": "gru", "units": 6},
        "training": {"epochs": 4, "passes": 1, "batch": 4, "window": 16, "segment": 30, "learning_rate": 0.02},
    }
    for name, value in changes.items():
        merged = isinstance(value, dict) and name != "cell"
        values[name] = {**values.get(name, {}), **value} if merged else value
    return parse_config(values, "test")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.csv")


def test_a_run_has_everything_and_loads_again(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data), tmp_path / "runs", progress=False)
    for name in (
        "config.json",
        "metrics.json",
        "weights.pt",
        "last.ckpt",
        "curves.png",
        "predictions.png",
        "report.html",
    ):
        assert (run.path / name).stat().st_size > 0, name
    assert list((run.path / "tensorboard").glob("events.*"))
    assert not list(run.path.glob(".*")), "unfinished files"
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert {"accuracy", "loss", "macro_f1", "recording_accuracy"} <= set(metrics["test"])
    assert {name: set(its) for name, its in run.baselines.items()} == {
        "majority": set(metrics["test"]),
        "logistic_regression": set(metrics["test"]),
        "log_spectra": set(metrics["test"]),
    }
    assert metrics["steps"] == 4 * 2 * 2, "epochs, batches, windows"
    assert [entry["epoch"] for entry in metrics["history"]] == [0, 1, 2, 3]
    assert all("val_loss" in entry for entry in metrics["history"])
    again = load_checkpoint(run.path)
    assert again.config == run.config
    assert not again.network.training


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_other_files_train_alike(data: Path, suffix: str, tmp_path: Path) -> None:
    from_csv = train(config_of(data, training={"epochs": 1}), tmp_path / "csv", progress=False)
    other = write(tmp_path / f"data{suffix}")
    run = train(config_of(other, training={"epochs": 1}), tmp_path / "other", progress=False)
    assert run.scores == from_csv.scores


def test_resumed_equals_uninterrupted(data: Path, tmp_path: Path) -> None:
    augment = {"keep_rows": [0.6, 1.0], "stretch": 0.1, "rotate_deg": 10.0}
    config = config_of(data, training={"augment": augment})
    whole = train(config, tmp_path / "whole", progress=False)
    train(config, tmp_path / "parts", stop_after=2, progress=False)
    torch.rand(5)  # whatever happens in between
    parts = train(config, tmp_path / "parts", resume=True, progress=False)
    for (name, one), other in zip(whole.network.state_dict().items(), parts.network.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert parts.metrics["history"] == whole.metrics["history"]
    assert parts.scores == whole.scores
    assert {path.name for path in parts.path.glob("*.ckpt")} == {"last.ckpt", "best.ckpt"}
    assert torch.load(parts.path / "last.ckpt", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99], ids=["empty", "half", "without its end"])
def test_half_a_checkpoint_is_named(data: Path, tmp_path: Path, part: float) -> None:
    config = config_of(data)
    run = train(config, tmp_path, stop_after=1, progress=False)
    for name in ("weights.pt", "last.ckpt"):
        whole = (run.path / name).read_bytes()
        (run.path / name).write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(RunError, match=r"tiny: cannot read the run: weights\.pt: ."):
        load_checkpoint(run.path)
    with pytest.raises(RunError, match=r"tiny: cannot read the run: last\.ckpt: ."):
        train(config, tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("lacking", ["config", "facts", "facts.inputs"])
def test_a_file_of_weights_that_lacks_something_is_named(data: Path, tmp_path: Path, lacking: str) -> None:
    run = train(config_of(data, training={"epochs": 1}), tmp_path, progress=False)
    content = torch.load(run.path / "weights.pt", weights_only=True)
    owner, _, name = lacking.rpartition(".")
    (content[owner] if owner else content).pop(name)
    torch.save(content, run.path / "weights.pt")
    with pytest.raises(RunError, match=rf"cannot read the run: weights\.pt: '{name}'"):
        load_checkpoint(run.path)


def test_resuming_with_another_configuration_is_refused(data: Path, tmp_path: Path) -> None:
    train(config_of(data), tmp_path, stop_after=1, progress=False)
    changed = r"another configuration: training\.learning_rate was 0\.02, now 0\.5"
    with pytest.raises(RunError, match=changed):
        train(config_of(data, training={"learning_rate": 0.5}), tmp_path, resume=True, progress=False)


def test_a_run_of_an_existing_name_gets_a_number(data: Path, tmp_path: Path) -> None:
    one, other = config_of(data, training={"epochs": 1}), config_of(data, training={"epochs": 1, "seed": 1})
    folders = [train(config, tmp_path, progress=False).path for config in (one, other)]
    assert [folder.name for folder in folders] == ["tiny", "tiny-2"]
    assert load_checkpoint(folders[0]).config == one
    replaced = train(other, tmp_path, overwrite=True, progress=False)
    assert (replaced.path, replaced.config) == (folders[0], other)
    assert load_checkpoint(folders[1]).config == other


def test_resuming_goes_past_the_first_goal_in_the_run_of_its_configuration(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(config_of(data, training={"epochs": 2, "seed": seed}), tmp_path, progress=False)
    run = train(config_of(data, training={"epochs": 5}), tmp_path, resume=True, progress=False)
    assert run.path.name == "tiny"
    assert [entry["epoch"] for entry in run.metrics["history"]] == [0, 1, 2, 3, 4]
    assert load_checkpoint(run.path).config.training.epochs == 5


def test_an_interrupted_run_is_exported_and_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real = config_of(data), Learner.training_step

    def interrupted(learner: Learner, batch: Window, batch_idx: int) -> torch.Tensor:
        if learner.current_epoch == interrupted_in:
            raise KeyboardInterrupt
        return real(learner, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    interrupted_in = 0
    with pytest.raises(Interrupted, match="interrupted in the first epoch: nothing was saved"):
        train(config, tmp_path, progress=False)
    assert not (tmp_path / "tiny").exists()
    interrupted_in = 2
    with pytest.raises(Interrupted, match=r"interrupted after epoch 2 of 4, .*tiny; go on: .*tiny/best\.ckpt"):
        train(config, tmp_path, progress=False)
    assert signal.getsignal(signal.SIGINT) == handler
    monkeypatch.undo()
    best = load_checkpoint(tmp_path / "tiny" / "best.ckpt")
    with pytest.raises(RunError, match="a checkpoint has no scores"):
        _ = best.scores
    manifest = export(best, tmp_path / "repository").manifest
    run = train(config, tmp_path, resume=True, progress=False)
    assert len(run.metrics["history"]) == 4
    assert set(manifest.scores) == set(run.scores)
    whole = train(config, tmp_path / "whole", progress=False)
    assert run.scores == whole.scores


def test_a_folder_that_is_no_run_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a run"):
        train(config_of(data), tmp_path, overwrite=True, progress=False)
    assert (tmp_path / "tiny" / "thesis.txt").exists()


@pytest.mark.parametrize("cell", [{"kind": "cfc", "units": 6, "backbone_units": 8}, {"kind": "ltc", "unfolds": 2}])
@pytest.mark.parametrize(
    ("task", "target", "metric"),
    [("classification", ["pace"], "accuracy"), ("regression", ["next"], "r2"), ("next_step", [], "mse")],
)
@pytest.mark.parametrize("at", ["every", "end"])
def test_every_task(
    data: Path, tmp_path: Path, cell: dict[str, Any], task: str, target: list[str], metric: str, at: str
) -> None:
    config = config_of(
        data, cell=cell, task={"kind": task, "at": at}, training={"epochs": 1}, data={"path": data, "target": target}
    )
    run = train(config, tmp_path, progress=False)
    assert np.isfinite(run.scores[metric])
    assert (run.path / "predictions.png").exists()


@pytest.mark.parametrize("augment", [{"mirror": ["zz"]}, {"rotate": [["a", "b", "zz"]]}, {"shift": {"zz": 1.0}}])
def test_augmenting_a_feature_that_is_not_there_is_an_error(data: Path, tmp_path: Path, augment: Any) -> None:
    with pytest.raises(DataError, match=r"training\.augment\.(mirror|rotate|shift): no feature 'zz'; there are a, b"):
        train(config_of(data, training={"augment": augment}), tmp_path, progress=False)


def test_a_class_has_no_sign_that_a_mirrored_picture_could_change(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training\.augment\.mirror_pictures: no target number 'x'; there are none"):
        train(config_of(data, training={"augment": {"mirror_pictures": ["x"]}}), tmp_path, progress=False)


@pytest.mark.parametrize("cell", [{"kind": "gru"}, {"kind": "cfc", "mode": "pure"}])
def test_bf16_needs_a_cell_with_gradients_by_hand(data: Path, tmp_path: Path, cell: dict[str, Any]) -> None:
    config = config_of(data, cell=cell, training={"precision": "bf16"})
    with pytest.raises(
        ConfigError, match=rf"training\.precision = 'bf16' needs a CfC .*; cell\.kind is '{cell['kind']}'"
    ):
        train(config, tmp_path, progress=False)


def test_bf16_trains_another_network(data: Path, tmp_path: Path) -> None:
    cell = {"kind": "cfc", "units": 6, "backbone_units": 8}
    losses = [
        train(
            config_of(data, name=name, cell=cell, training={"epochs": 3, "precision": name}), tmp_path, progress=False
        ).metrics["history"][-1]["loss"]
        for name in ("float32", "bf16")
    ]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.slow
def test_it_learns(data: Path, tmp_path: Path) -> None:
    run = train(
        config_of(data, training={"epochs": 40, "segment": 0}, split={"validation": 0.0}), tmp_path, progress=False
    )
    assert run.scores["recording_accuracy"] == 1.0
    assert run.metrics["history"][-1]["loss"] < 0.5 * run.metrics["history"][0]["loss"]


def test_a_run_is_exported_and_the_bundle_has_its_scores(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data), tmp_path / "runs", progress=False)
    bundle = export(run.path, tmp_path / "repository")
    assert Bundle.open(bundle.path).manifest.scores == run.scores
    assert bundle.manifest.outputs[0].labels == ("fast", "slow")
    assert bundle.manifest.time.nominal_s == pytest.approx(PERIOD_NS * 1e-9, rel=0.1)
    assert bundle.manifest.inputs[0].labels == ("a", "b")
    assert bundle.manifest.training["baselines"] == run.baselines
    written = [export(run, tmp_path / "repository", "other", 3, overwrite=again) for again in (False, False, True)]
    assert [each.path.parts[-2:] for each in written] == [("other", "3"), ("other", "4"), ("other", "3")]


def test_export_takes_every_keyword_that_it_has(data: Path, tmp_path: Path) -> None:
    config = config_of(data, cell={"kind": "cfc", "units": 6}, training={"epochs": 1})
    run = train(config, tmp_path / "runs", progress=False)
    keywords: dict[str, Any] = {
        "checkpoint": run,
        "repository": tmp_path / "repository",
        "name": "other",
        "version": 3,
        "overwrite": True,
        "dataset": load_dataset(config),
        "aux_tau": True,
        "probabilities": False,
        "jpeg": False,
        "quantize": "int8",
        "max_drop": 1.0,
        "adapt": None,
    }
    assert list(signature(export).parameters) == list(keywords)
    bundle = export(**keywords)
    assert bundle.path.parts[-2:] == ("other", "3")
    assert bundle.manifest.quantization is not None
    assert [aux.name for aux in bundle.manifest.aux] == ["tau"]


def test_normalisation_is_of_the_training_split_and_inside_the_network(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data, training={"epochs": 1}), tmp_path, progress=False)
    assert run.network.mean[0] == pytest.approx(5, abs=0.3)
    config = config_of(
        data, task={"kind": "regression"}, data={"path": data, "features": ["a", "b"], "target": ["next"]}
    )
    network = train(config, tmp_path, progress=False).network
    assert network.target_std.item() == pytest.approx(70, rel=0.1)


def test_a_regression_is_measured_by_the_spread_of_its_targets(data: Path, tmp_path: Path) -> None:
    """What a network that has learned nothing says hardly moves, and would be no unit."""
    config = config_of(
        data,
        task={"kind": "regression"},
        data={"path": data, "features": ["a", "b"], "target": ["next"]},
        training={"epochs": 1, "learning_rate": 1e-9},
    )
    run = train(config, tmp_path / "runs", progress=False)
    (output,) = export(run, tmp_path / "repository").manifest.outputs
    assert output.std == pytest.approx(run.network.facts.targets.std, rel=1e-5)


@pytest.mark.parametrize(("keep_by", "name", "sign"), [("loss", "loss", 1), ("score", "accuracy", -1)])
def test_early_stopping_keeps_the_best_epoch(data: Path, tmp_path: Path, keep_by: str, name: str, sign: int) -> None:
    options = {"epochs": 60, "patience": 2, "learning_rate": 0.1, "schedule": "constant", "seed": 3, "keep_by": keep_by}
    run = train(config_of(data, training=options), tmp_path, progress=False)
    found = {each: [entry[f"val_{each}"] for entry in run.metrics["history"]] for each in ("loss", "accuracy")}
    epochs, best = len(found[name]), int(np.argmin(sign * np.array(found[name])))
    assert epochs == best + 3 < 60, "two epochs later"
    assert f"stopped after epoch {epochs} of 60: the validation {name} was " in run.metrics["stopped"]
    assert f"best after epoch {1 + best}, which is kept" in run.metrics["stopped"]
    kept = run.metrics["validation"]
    assert kept == pytest.approx({**kept, "loss": found["loss"][best], "accuracy": found["accuracy"][best]}, rel=1e-4)
    assert np.argmin(found["loss"]) != np.argmax(found["accuracy"]), "both would keep the same epoch"


def test_a_run_shorter_than_its_validation_is_validated_once(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data, training={"epochs": 2, "validate_every": 5}), tmp_path, progress=False)
    assert [epoch for epoch, entry in enumerate(run.metrics["history"]) if "val_loss" in entry] == [1]


def test_without_validation_the_last_epoch_is_kept(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data, split={"validation": 0.0}), tmp_path, progress=False)
    assert "validation" not in run.metrics
    assert len(run.metrics["history"]) == 4


def test_a_reloaded_network_says_the_same(data: Path, tmp_path: Path) -> None:
    from statestream.models.data.recordings import read_dataset

    run = train(config_of(data, training={"epochs": 1}), tmp_path, progress=False)
    recordings = read_dataset(data, run.config.data, classes=True).recordings
    time = TimeSpec.around(run.network.facts.nominal_s)
    ours = rollout(run.network, recordings, time)
    theirs = rollout(load_checkpoint(run.path / "weights.pt").network, recordings, time)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.outputs, other.outputs)


def test_weights_of_another_layout_are_refused(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data, training={"epochs": 1}), tmp_path, progress=False)
    content = torch.load(run.path / "weights.pt", weights_only=True)
    content["weights"]["elsewhere"] = content["weights"].pop("readout.bias")
    torch.save(content, run.path / "weights.pt")
    with pytest.raises(RunError, match="another version of this cell"):
        load_checkpoint(run.path)


def test_a_run_of_another_layout_is_not_resumed(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data), tmp_path, stop_after=1, progress=False)
    content = torch.load(run.path / "last.ckpt", weights_only=True)
    content["state_dict"]["network.readout.bias"] = torch.zeros(7)
    torch.save(content, run.path / "last.ckpt")
    with pytest.raises(RunError, match=r"last\.ckpt: its weights are of another version of this cell; train it again"):
        train(config_of(data), tmp_path, resume=True, progress=False)


@pytest.mark.slow
def test_two_processes_train_one_network(data: Path, tmp_path: Path) -> None:
    config = config_of(data, training={"epochs": 2, "devices": 2})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    script = tmp_path / "script.py"
    script.write_text(
        "from statestream.models.config import load_config\n"
        "from statestream.models.training import train\n"
        f"run = train(load_config({str(tmp_path / 'config.json')!r}), {str(tmp_path / 'runs')!r}, progress=False)\n"
        "print('weight', run.network.readout.weight.sum().item())\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len({line for line in done.stdout.splitlines() if line.startswith("weight")}) == 1
    assert len(load_checkpoint(tmp_path / "runs" / "tiny").metrics["history"]) == 2


def write_arm(path: Path, rows: int = 40) -> Path:
    """Recordings of an encoder at 1e8 ticks and a current of nanoamperes that follows its speed."""
    random = np.random.default_rng(5)
    lines = ["recording,t,ticks,amperes,force"]
    for name in "abcdefgh":
        speed = random.integers(-9, 10, rows)
        ticks = 100_000_000 + np.cumsum(speed)
        amperes = (1e-9 * (speed + random.normal(size=rows))).tolist()
        lines += [f"{name},{0.1 * k},{ticks[k]},{amperes[k]!r},{3e-9 * int(speed[k])!r}" for k in range(rows)]
    path.write_text("\n".join(lines))
    return path


def test_columns_finer_than_float32_and_tiny_ones_train(tmp_path: Path) -> None:
    """The manifest says which are relative, and a played file is converted as in training."""
    path = write_arm(tmp_path / "arm.csv")
    columns = {"path": path, "features": ["ticks", "amperes"], "target": ["force"], "relative": ["ticks"], "group": ""}
    options = {"epochs": 12, "learning_rate": 0.05, "schedule": "constant"}
    config = config_of(
        path, cell={"kind": "gru", "units": 8}, task={"kind": "regression"}, data=columns, training=options
    )
    run = train(config, tmp_path / "runs", progress=False)
    assert run.network.facts.inputs.std[1] == pytest.approx(5.5e-9, rel=0.1)
    assert run.scores["r2"] > 0.5
    manifest = export(run, tmp_path / "repository").manifest
    assert manifest.inputs[0].relative == ("ticks",)
    (output,) = manifest.outputs
    assert output.std[0] < 3e-8, "the unit of its tolerance"
    played = playback.read(path, Columns(), manifest).recordings
    for mine, trained in zip(played, load_dataset(config).recordings, strict=True):
        np.testing.assert_array_equal(mine.features, trained.features)
    with pytest.raises(DataError, match=r"data\.features: 'ticks' changes by"):
        load_dataset(config_of(path, task={"kind": "regression"}, data={**columns, "relative": []}))


def test_a_constant_target_is_trained_and_has_no_r2(tmp_path: Path) -> None:
    path = tmp_path / "still.csv"
    path.write_text("recording,t,x,y\n" + "".join(f"{k % 8},{0.1 * (k // 8)},{k},3.3\n" for k in range(80)))
    columns = {"path": path, "features": ["x"], "target": ["y"], "group": ""}
    config = config_of(path, task={"kind": "regression"}, data=columns, training={"epochs": 1})
    scores = train(config, tmp_path / "runs", progress=False).scores
    assert "r2" not in scores
    assert np.isfinite(list(scores.values())).all()


def test_a_feature_that_was_never_measured_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("recording,t,x,y,z\n" + "".join(f"{k % 8},{0.1 * (k // 8)},{k},,{k}\n" for k in range(80)))
    columns = {"path": path, "features": ["x", "y"], "target": ["z"], "missing": "hold", "group": ""}
    with pytest.raises(DataError, match=r"data\.features: 'y' has no value in any recording of the training split"):
        train(config_of(path, task={"kind": "regression"}, data=columns), tmp_path / "runs", progress=False)
