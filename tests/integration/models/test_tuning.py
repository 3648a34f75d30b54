"""A search for settings: kept in a folder, judged by the validation split alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from optuna.trial import FixedTrial  # noqa: E402

from statestream.models.config import Config, ConfigError, load_config, parse_config  # noqa: E402
from statestream.models.data.recordings import Dataset, Recording  # noqa: E402
from statestream.models.training import learner, tuning  # noqa: E402
from statestream.models.training.dataset import load_dataset  # noqa: E402
from statestream.models.training.runs import RunError  # noqa: E402
from statestream.models.training.search_space import AS_GIVEN, AUGMENTATIONS, CELLS, SearchSpace  # noqa: E402
from statestream.models.training.splits import split_dataset  # noqa: E402
from statestream.models.training.trainer import Interrupted, train  # noqa: E402
from statestream.models.training.tuning import Tuning, tune  # noqa: E402
from tests.integration.models.test_report_page import Page  # noqa: E402
from tests.integration.models.test_training import config_of, write  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.csv")


def quick(path: Path, **changes: Any) -> Config:
    return config_of(path, training={"epochs": 2, **changes.pop("training", {})}, **changes)


@pytest.fixture
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial of two epochs with a score, without a network and a page."""

    def fit(config: Config, dataset: Dataset, folder: Path, watch: Any) -> None:
        for epoch in range(2):
            watch.on_train_batch_end()
            metrics = {"val_loss": 0.5 - 0.1 * epoch, "val_accuracy": config.training.learning_rate}
            watch.on_validation_end(SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, max_epochs=2), None)

    monkeypatch.setattr(tuning, "fit_without_report", fit)
    monkeypatch.setattr(tuning, "tuning_page", lambda *_: "")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Tuning, set[str]]:
    """A search of three trials in a folder of an odd name, and the recordings that its trials were scored on."""
    folder = tmp_path_factory.mktemp("tuning")
    config, scored, rollout = quick(write(folder / "data.csv")), set[str](), learner.rollout

    def noted(network: Any, recordings: Sequence[Recording], *args: Any, **options: Any) -> Any:
        scored.update(r.id for r in recordings)
        return rollout(network, recordings, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "rollout", noted)
        found = tune(config, folder / "100%{x}?#", trials=3, command="statestream tune <tiny>.toml")
    return config, found, scored


def test_the_first_trial_is_the_file_as_it_is_and_others_differ(searched: tuple[Config, Tuning, set[str]]) -> None:
    _, found, _ = searched
    first, *others = found.tried
    assert first.settings == {"cell": AS_GIVEN, "segment": AS_GIVEN, "augmentation": AS_GIVEN, "learning rate": 0.02}
    assert [each.number for each in found.tried] == [1, 2, 3]
    assert all(each.settings != first.settings and each.epochs == 2 for each in others)


def test_the_best_file_trains_to_the_score_of_its_trial(
    searched: tuple[Config, Tuning, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found, _ = searched
    best = found.best
    assert best is not None
    assert best.score == max(each.score for each in found.tried)
    monkeypatch.chdir(tmp_path)  # Paths in the file are relative to it.
    run = train(load_config(found.folder / "best.toml"), tmp_path / "runs", progress=False)
    assert run.metrics["validation"]["accuracy"] == pytest.approx(best.score, abs=1e-6)


def test_no_trial_sees_the_test_split(searched: tuple[Config, Tuning, set[str]]) -> None:
    config, _, scored = searched
    split = split_dataset(load_dataset(config), config.split, classes=True)
    assert scored == {r.id for r in split.validation}


def test_the_page_has_every_trial_and_needs_nothing_from_elsewhere(
    searched: tuple[Config, Tuning, set[str]],
) -> None:
    _, found, _ = searched
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert {f"{each.score:.4g}" for each in found.tried} <= set(page.texts)
    assert {"statestream tune <tiny>.toml", "as given", "learning rate", "best"} <= set(page.texts)
    assert all(link.startswith("#") for link in page.links)
    assert "<script" not in text
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "best.toml",
        "config.json",
        "report.html",
        "study.db",
    ], "nothing of the trials is left"


@pytest.mark.usefixtures("_no_training")
def test_a_study_goes_on_and_another_one_gets_a_number(data: Path, tmp_path: Path) -> None:
    config = quick(data)
    before = tune(config, tmp_path, trials=1)
    first = before.tried
    after = tune(config, tmp_path, trials=2, resume=True)
    assert after.folder == before.folder
    assert after.tried[:1] == first
    assert len(after.tried) == 2
    assert tune(config, tmp_path, trials=1).folder == tmp_path / "tiny-2"
    assert tune(config, tmp_path, trials=1, overwrite=True).folder == tmp_path / "tiny"
    with pytest.raises(RunError, match=r"training\.epochs was 2, now 3"):
        tune(quick(data, training={"epochs": 3}), tmp_path, trials=2, resume=True)
    dataset = load_dataset(config)
    fewer = replace(dataset, recordings=dataset.recordings[:-1])
    with pytest.raises(RunError, match=r"12 recordings of 546 rows, now there are 11 of 495"):
        tune(config, tmp_path, trials=2, resume=True, dataset=fewer)


@pytest.mark.usefixtures("_no_training")
def test_ctrl_c_keeps_the_study_and_its_trial_is_tried_again(data: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupt(trial: int, *_: object) -> None:
        seen.append(trial)
        if trial == 2:
            raise KeyboardInterrupt

    config = quick(data)
    with pytest.raises(Interrupted, match=r"interrupted after 1 trials.*--resume; the best so far: .*best\.toml"):
        tune(config, tmp_path, trials=3, on_epoch=interrupt)
    assert seen == [1, 1, 2]
    assert (tmp_path / "tiny" / "report.html").is_file()
    assert not list((tmp_path / "tiny").glob(".trial-*"))
    (cut,) = optuna_trials(tmp_path / "tiny", "FAIL")
    found = tune(config, tmp_path, trials=2, resume=True)
    assert found.tried[1].settings == cut.params


@pytest.mark.usefixtures("_no_training")
def test_a_trial_whose_process_was_killed_is_tried_again(data: Path, tmp_path: Path) -> None:
    config = quick(data)
    before = tune(config, tmp_path, trials=1)
    killed = before._study.ask({"cell": optuna.distributions.CategoricalDistribution([AS_GIVEN, *CELLS])})
    found = tune(config, tmp_path, trials=2, resume=True)
    assert found.tried[1].settings["cell"] == killed.params["cell"]


def optuna_trials(folder: Path, state: str) -> list[Any]:
    study = tuning._opened(folder, load_config(folder / "config.json"), None, "maximize")  # type: ignore[arg-type]
    return [trial for trial in study.get_trials() if trial.state.name == state]


@pytest.mark.usefixtures("_no_training")
def test_a_trial_that_is_pruned_is_not_the_best(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    found = tune(quick(data), tmp_path, trials=2)
    assert [(each.pruned, each.epochs) for each in found.tried] == [(False, 2), (True, 1)]
    assert found.best == found.tried[0]


@pytest.mark.parametrize(("keep_by", "score"), [("loss", 0.6), ("score", 0.8)])
def test_a_trial_has_the_score_of_the_epoch_that_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_by: str, score: float
) -> None:
    def fit(config: Config, dataset: Dataset, folder: Path, watch: Any) -> None:
        for epoch, (loss, accuracy) in enumerate([(0.5, 0.8), (0.4, 0.6)]):
            metrics = {"val_loss": loss, "val_accuracy": accuracy}
            watch.on_validation_end(SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, max_epochs=2), None)

    monkeypatch.setattr(tuning, "fit_without_report", fit)
    found = tune(quick(data, training={"keep_by": keep_by}), tmp_path, trials=1)
    assert [each.score for each in found.tried] == [score]


@pytest.mark.usefixtures("_no_training")
def test_minutes_end_a_trial_that_is_tried_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 61.0])
    monkeypatch.setattr(tuning, "clock", SimpleNamespace(monotonic=lambda: next(now)))
    found = tune(quick(data), tmp_path, trials=2, minutes=1)
    assert (found.tried, found.best) == ([], None)
    assert not (found.folder / "best.toml").exists()
    monkeypatch.setattr(tuning, "clock", time)
    assert tune(quick(data), tmp_path, trials=1, resume=True).tried[0].settings["cell"] == AS_GIVEN


def test_a_search_needs_a_validation_split(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"split\.validation is 0"):
        tune(quick(data, split={"validation": 0.0}), tmp_path, trials=1)


def space_of(config: Config) -> SearchSpace:
    dataset = load_dataset(config)
    return SearchSpace(config, dataset, split_dataset(dataset, config.split).train)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("level", AUGMENTATIONS)
def test_every_choice_is_a_configuration(data: Path, kind: str, level: str) -> None:
    config = quick(data, data={"path": data, "features": ["a", "b"], "target": ["next"]}, task={"kind": "regression"})
    settings = {"cell": kind, "size": 16, "learning rate": 0.01, "segment": "whole", "augmentation": level}
    found = space_of(config).configuration(FixedTrial(settings))
    assert (found.training.segment, found.training.passes) == (0, None)
    assert found.training.learning_rate == 0.01
    assert set(found.training.augment.shift) == {"a", "b"}
    assert found.training.augment.keep_rows[0] < 1
    assert found.cell != config.cell
    coarse = quick(data, cell={"kind": "cfc"}, training={"precision": "bf16"})
    precision = space_of(coarse).configuration(FixedTrial(settings)).training.precision
    assert precision == ("bf16" if kind.startswith("cfc") else "float32")
    assert found.model_copy(update={"cell": config.cell, "training": config.training}) == config


def test_the_ends_of_recordings_have_no_segments_and_the_next_row_no_offsets(data: Path) -> None:
    at_end = space_of(quick(data, task={"at": "end"}))
    assert "segment" not in at_end.first
    following = space_of(
        quick(data, task={"kind": "next_step"}, data={"path": data, "features": ["a", "b"], "target": []})
    )
    settings = {**following.first, "augmentation": "strong"}
    assert following.configuration(FixedTrial(settings)).training.augment.shift == {}


def test_of_a_camera_the_network_behind_its_encoder_is_searched() -> None:
    encoder = {"kind": "frames", "frame": [24, 32], "size": [12, 16], "units": 4}
    config = parse_config(
        {
            "name": "lane",
            "data": {"path": "tub"},
            "task": {"kind": "regression"},
            "cell": {"kind": "encoded", "encoder": encoder},
        },
        "test",
    )
    pictures = Recording("a", np.arange(9), np.zeros((9, 24, 32, 3), np.uint8))
    space = SearchSpace(config, Dataset((pictures,), ("red", "green", "blue")), (pictures,))
    found = space.configuration(FixedTrial({**space.first, "cell": "gru", "size": 32, "augmentation": "strong"}))
    assert found.cell.model_dump(exclude={"cell"}) == config.cell.model_dump(exclude={"cell"})
    assert found.cell.cell.units == 32
    assert (found.training.augment.shift_pixels, found.training.augment.brightness) == ((2, 2), 0.3)
