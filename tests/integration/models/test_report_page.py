"""The page of a training: one file, nothing from elsewhere, everything that was measured on it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.training.report_page import confusion_table
from statestream.models.training.runs import Run
from statestream.models.training.trainer import train
from tests.integration.models.test_training import config_of, write

VOID = {"meta", "path", "use", "rect", "br"}


class Page(HTMLParser):
    """Texts and links of a page; raises where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("report")
    data = write(folder / "data.csv")
    tasks: dict[str, dict[str, Any]] = {
        "classification": {},
        "regression": {"target": ["next"]},
        "next_step": {"target": []},
    }
    return {
        kind: train(
            config_of(data, name=kind, task={"kind": kind}, data={"path": data, **columns}, training={"epochs": 2}),
            folder,
            progress=False,
            command="statestream train <tiny>.toml",
        )
        for kind, columns in tasks.items()
    }


@pytest.mark.parametrize("kind", ["classification", "regression", "next_step"])
def test_the_page_has_scores_baselines_plots_and_the_command(runs: dict[str, Run], kind: str) -> None:
    run = runs[kind]
    text = (run.path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    for its in (run.scores, *run.baselines.values()):
        assert {f"{value:.4g}" for value in its.values()} <= set(page.texts)
    assert {name.replace("_", " ") for name in run.baselines} < set(page.texts)
    assert "statestream train <tiny>.toml" in page.texts
    assert set(run.metrics["recordings"]["test"]) & set(page.texts), "the worst are named"
    assert any("optimiser steps hardly train a network" in each for each in page.texts)
    assert "val_loss" in text


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_page_needs_nothing_from_elsewhere_and_has_two_schemes(runs: dict[str, Run], kind: str) -> None:
    text = (runs[kind].path / "report.html").read_text(encoding="utf-8")
    assert all(link.startswith("#") for link in Page(text).links)
    assert not re.search(r"<script|@import|url\(http", text)
    assert "prefers-color-scheme: dark" in text
    assert "#000000" not in text, "what is black is in the colour of text"


def test_a_confusion_matrix_is_true_by_predicted_and_escapes_names() -> None:
    page = Page(confusion_table(np.array([[3, 1], [0, 0]]), ["<a>", "b"]))
    assert [each for each in page.texts if each.strip()] == [
        "true, predicted",
        "<a>",
        "b",
        "<a>",
        "3",
        "1",
        "b",
        "0",
        "0",
    ]


def test_the_file_is_written_whole(runs: dict[str, Run]) -> None:
    assert not list(Path(runs["regression"].path).glob(".report*"))
