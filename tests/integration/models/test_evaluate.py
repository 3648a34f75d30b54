"""Runs beside each other: one line a model, only what was tested alike; the Transformer they are held against."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from statestream.models.evaluation.evaluate import Line, compare, names_apart, networks, row, write_report
from statestream.models.evaluation.latency import step_cost
from statestream.models.evaluation.stream_cost import stream_costs
from statestream.models.evaluation.transformer import Transformer, cache_bytes
from statestream.models.training.runs import Run, RunError
from statestream.models.training.trainer import train
from statestream.service.cli import main
from tests.integration.models.conftest import network_of
from tests.integration.models.test_training import config_of, write


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    data = write(folder / "data.csv")
    models = {"gru-0": ("gru", 0), "gru-1": ("gru", 1), "lstm": ("lstm", 0)}
    configs = [
        config_of(data, name=name, cell={"kind": kind, "units": 6}, training={"epochs": 1, "seed": seed})
        for name, (kind, seed) in models.items()
    ]
    return [train(config, folder, progress=False) for config in configs]


@pytest.fixture(scope="module")
def lines(runs: list[Run]) -> list[Line]:
    return compare(runs)


def test_runs_that_differ_by_seed_alone_are_one_model(runs: list[Run], lines: list[Line]) -> None:
    assert {(line.model, line.runs) for line in lines} == {("gru-0", 2), ("lstm", 1)}
    gru = next(line for line in lines if line.runs == 2)
    accuracies = [run.scores["accuracy"] for run in runs[:2]]
    assert gru.scores["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert gru.spread["accuracy"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2)
    assert gru.parameters == sum(p.numel() for p in runs[0].network.parameters())
    assert gru.state_bytes == 4 * 6
    assert lines[0].scores["accuracy"] >= lines[1].scores["accuracy"]


def test_runs_of_other_recordings_are_refused(runs: list[Run], tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv")
    other = train(config_of(data, training={"epochs": 1}), tmp_path, progress=False)
    with pytest.raises(RunError, match="not tested on the same recordings"):
        compare([runs[0], other])


def test_the_report_has_a_row_a_model(runs: list[Run], lines: list[Line], tmp_path: Path) -> None:
    costs = stream_costs(networks(runs), lengths=(1, 8))
    for path in write_report(tmp_path, lines, costs):
        assert path.stat().st_size > 0
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["model"] for r in rows] == [line.model for line in lines]
    assert list(rows[0]) == list(row(lines[0]))
    with (tmp_path / "streams.csv").open() as file:
        assert {r["model"] for r in csv.DictReader(file)} == {"gru-0", "lstm", "transformer"}


def test_the_command_prints_the_table(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(runs[0].path), str(runs[2].path), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "gru-0" in shown
    assert "lstm" in shown
    assert (tmp_path / "streams.png").exists()


def test_a_step_is_timed_at_both_batches() -> None:
    cost = step_cost(network_of("cfc"))
    assert 0 < cost.batch_1_us < 1e6
    assert 0 < cost.batch_64_us < 1e6


def test_stepped_with_a_cache_is_the_whole_sequence_at_once() -> None:
    torch.manual_seed(0)
    transformer = Transformer(5, 3, width=16, heads=2, layers=2).eval()
    x_BTF = torch.randn(4, 20, 5)
    with torch.no_grad():
        whole = transformer(x_BTF)
        cache, stepped = transformer.empty_cache(4), []
        for x_BF in x_BTF.unbind(1):
            y_BK, cache = transformer.step(x_BF, cache)
            stepped.append(y_BK)
    torch.testing.assert_close(torch.stack(stepped, dim=1), whole, atol=1e-5, rtol=0)


def test_a_row_sees_only_those_before_it() -> None:
    torch.manual_seed(0)
    transformer = Transformer(5, 3, width=16, heads=2).eval()
    x_BTF = torch.randn(1, 20, 5)
    changed = x_BTF.clone()
    changed[:, 12:] += 1
    with torch.no_grad():
        one, other = transformer(x_BTF), transformer(changed)
    torch.testing.assert_close(one[:, :12], other[:, :12], atol=1e-6, rtol=0)
    assert (one[:, 12:] - other[:, 12:]).abs().max() > 0.01


def test_a_session_grows_with_the_stream_for_a_transformer_alone() -> None:
    costs = {(c.model, c.rows): c.session_bytes for c in stream_costs({"cfc": network_of("cfc")}, lengths=(1, 64))}
    assert costs["cfc", 1] == costs["cfc", 64] == 4 * 8
    assert costs["transformer", 64] == 64 * costs["transformer", 1]
    assert cache_bytes(Transformer(2, 2, width=64, layers=2).empty_cache(1, 1)) == 2 * 2 * 64 * 4


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    assert names_apart([Path("/a/gait"), Path("/a/gait-2")]) == ["gait", "gait-2"]
    assert names_apart([Path("/a/x/gait"), Path("/a/y/gait"), Path("/a/y/other")]) == ["x/gait", "y/gait", "y/other"]


def test_models_of_one_name_are_two(runs: list[Run]) -> None:
    renamed = [replace(run, path=Path(f"/{k}/same")) for k, run in enumerate((runs[0], runs[2]))]
    assert {line.model for line in compare(renamed)} == set(networks(renamed)) == {"0/same", "1/same"}
