"""Arrays are read although threads of Python 3.11 disturb each other while numpy parses headers."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.bundle import Bundle
from statestream.models.data.readers.npz import Npz
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.npy import unhindered
from statestream.service.recording.replay import read_segment
from tests.support.bundles import write_leaky
from tests.support.cameras import HEIGHT, WIDTH
from tests.support.films import write_folder

MET = "AST constructor recursion depth mismatch (before=66, after=65)"
"""What Python says of it."""


class Threads:
    """Other threads, which disturb every second parse."""

    def __init__(self) -> None:
        self.calls = 0
        self._parse = ast.literal_eval

    def parse(self, text: Any) -> Any:
        self.calls += 1
        if self.calls % 2:
            raise SystemError(MET)
        return self._parse(text)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()
    monkeypatch.setattr(ast, "literal_eval", threads.parse)
    return threads


def archive(folder: Path) -> Path:
    np.savez(folder / "a.npz", x=np.arange(3.0), y=np.ones(3))
    return folder / "a.npz"


def golden(folder: Path) -> Any:
    return Bundle.open(write_leaky(folder).path).golden().inputs["x"]


def table(folder: Path) -> Any:
    return Npz().read(archive(folder), ()).columns["x"]


def segment(folder: Path) -> Any:
    return read_segment(archive(folder))["x"]


def film(folder: Path) -> Any:
    path = write_folder(folder / "film")
    (recording,) = read_dataset(path, Columns(features=("image",), period_s=0.1), frame=(HEIGHT, WIDTH)).recordings
    return recording.features


@pytest.mark.parametrize("read", [golden, table, segment, film])
def test_what_others_hinder_is_read_again(tmp_path: Path, threads: Threads, read: Callable[[Path], Any]) -> None:
    assert len(read(tmp_path))
    assert threads.calls >= 2


def test_an_error_that_stays_is_raised() -> None:
    def damaged() -> Any:
        raise SystemError(MET)

    with pytest.raises(SystemError, match="depth mismatch"):
        unhindered(damaged)
