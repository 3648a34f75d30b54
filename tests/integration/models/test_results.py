"""`make results`: done once, done again when something changed, and a page with nothing in it but what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from statestream.models.config import preset_names
from statestream.models.data.registry import loader
from statestream.models.evaluation.latency import StepCost
from statestream.models.experiments import experiments, results, results_page
from statestream.models.experiments.experiments import BENCHMARKS, EXPERIMENTS, Benchmark, Experiment, Job, jobs
from statestream.models.experiments.results import run_job
from statestream.models.experiments.results_plot import PLOTS, plot_results, published
from tests.integration.models.test_training import config_of, write


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting and timing a graph has tests of its own."""
    monkeypatch.setattr(results, "step_cost", lambda network: StepCost(1.0, 2.0))


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr(experiments, "SEEDS", (0, 1))
    data = write(tmp_path / "data.csv")
    config = config_of(data, training={"epochs": 1})
    (tmp_path / "tiny.json").write_text(config.model_dump_json())
    return Experiment("tiny", "gru", str(tmp_path / "tiny.json"))


@pytest.fixture
def _only(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (experiment, Experiment("tiny", "logistic", experiment.preset, baseline="statistics"))
    for module in (experiments, results, results_page):
        monkeypatch.setattr(module, "EXPERIMENTS", listed)
    monkeypatch.setattr(results_page, "BENCHMARKS", (Benchmark("tiny", "recording_accuracy", "made up"),))


def test_every_experiment_is_of_a_benchmark_and_can_be_configured() -> None:
    names = {benchmark.name for benchmark in BENCHMARKS}
    assert len({e.name for e in EXPERIMENTS}) == len(EXPERIMENTS)
    for experiment in EXPERIMENTS:
        assert experiment.benchmark in names
        assert experiment.preset in preset_names()
        for job in jobs(experiment):
            assert job.config.name == job.name
            assert loader(job.config.data.dataset)
            trained_alone = job.command.startswith(f"statestream train {experiment.preset}")
            assert trained_alone or experiment.baseline or experiment.int8 or experiment.drifts


def test_seeds_and_folds_are_jobs_of_their_own(experiment: Experiment) -> None:
    assert [job.config.training.seed for job in jobs(experiment)] == [0, 1]
    folded = Experiment("tiny", "gru", experiment.preset, ("split.folds=3", "split.validation=0"))
    assert [job.config.split.fold for job in jobs(folded)] == [0, 1, 2]


def test_a_result_is_kept_until_its_configuration_changes(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    real = results.train
    monkeypatch.setattr(results, "train", lambda config, *a, **k: trained.append(config.name) or real(config, *a, **k))
    job: Job = next(jobs(experiment))
    first = run_job(job, tmp_path)
    assert run_job(job, tmp_path) == first
    assert trained == ["tiny-gru-seed0"]
    changed = next(jobs(Experiment("tiny", "gru", experiment.preset, ("cell.units=7",))))
    assert run_job(changed, tmp_path).parameters > first.parameters
    assert len(trained) == 2


@pytest.mark.usefixtures("_only")
def test_steps_are_measured_again_without_training(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = jobs(experiment)
    before = run_job(job, tmp_path)
    monkeypatch.setattr(results, "step_cost", lambda network: StepCost(0.5, 1.5))
    results.main(["--costs", "--folder", str(tmp_path), "--docs", str(tmp_path / "docs")])
    after = results.known(job, tmp_path)
    assert after is not None
    assert (after.step_us, after.scores, after.seconds) == ([0.5, 1.5], before.scores, before.seconds)
    assert results.known(other, tmp_path) is None


def test_a_damaged_result_is_made_again(experiment: Experiment, tmp_path: Path) -> None:
    job = next(jobs(experiment))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / f"{job.name}.json").write_text('{"half": ')
    assert run_job(job, tmp_path).scores["accuracy"] >= 0


@pytest.mark.usefixtures("_only")
def test_the_page_and_the_json_say_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, docs = tmp_path / "results", tmp_path / "docs"
    results.main(["--folder", str(folder), "--docs", str(docs)])
    assert "tiny-gru-seed1" in capsys.readouterr().err
    kept = [json.loads((folder / "jobs" / f"tiny-gru-seed{k}.json").read_text()) for k in range(2)]
    entry = json.loads((docs / "results.json").read_text())["tiny.gru.recording_accuracy"]
    assert entry["value"] == pytest.approx(sum(k["scores"]["recording_accuracy"] for k in kept) / 2, abs=1e-5)
    assert entry["seed"] == [0, 1]
    assert entry["wall_s"] == pytest.approx(sum(k["seconds"] for k in kept), abs=0.11)
    assert entry["command"].startswith("statestream train ")
    page = (docs / "results.md").read_text()
    for table in ("first-files", "tuned-files"):
        page = page.replace(f"<!-- /{table} -->", f"| {table} |\n<!-- /{table} -->")
    (docs / "results.md").write_text(page)
    assert "## tiny" in page
    assert f"{100 * entry['value']:.2f} %" in page
    assert "| logistic |" in page
    results.main(["tiny.logistic", "--folder", str(folder), "--docs", str(docs)])
    assert (docs / "results.md").read_text() == page, "a part renewed alone leaves the rest"


@pytest.mark.usefixtures("_only")
def test_a_part_renewed_from_a_fresh_checkout_leaves_the_rest_while_its_configuration_stays(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    results.main(["--folder", str(tmp_path / "old"), "--docs", str(docs)])
    before = json.loads((docs / "results.json").read_text())
    earlier = {key: {**entry, "command": "of a preset that has another name now"} for key, entry in before.items()}
    (docs / "results.json").write_text(json.dumps(earlier))
    results.main(["tiny.logistic", "--folder", str(tmp_path / "fresh"), "--docs", str(docs)])
    kept = json.loads((docs / "results.json").read_text())
    assert list(kept) == list(before)
    assert {k: e for k, e in kept.items() if ".gru." in k} == {k: e for k, e in before.items() if ".gru." in k}
    preset = tmp_path / "tiny.json"
    preset.write_text(json.dumps(json.loads(preset.read_text()) | {"description": "another"}))
    results.main(["tiny.logistic", "--folder", str(tmp_path / "fresh"), "--docs", str(docs)])
    assert {key.split(".")[1] for key in json.loads((docs / "results.json").read_text())} == {"logistic"}
    assert "| gru |" not in (docs / "results.md").read_text()


@pytest.mark.usefixtures("_only")
def test_an_unknown_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        results.main(["tiny.gur"])
    assert "no such experiment; there are tiny.gru" in capsys.readouterr().err


def test_plots_have_ours_and_what_was_published(tmp_path: Path) -> None:
    docs = Path(__file__).parents[3] / "docs"
    plot_results(tmp_path, json.loads((docs / "results.json").read_text()))
    for name in PLOTS:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in (docs / "results.md").read_text()
    seq_mnist = next(benchmark for benchmark in BENCHMARKS if benchmark.name == "seq_mnist")
    assert published(seq_mnist) == pytest.approx({"LSTM": 0.9841, "CT-GRU": 0.9827, "LTC": 0.9757})
