"""Harmed files of every format, always the same few: each is read or refused by name; `make fuzz-files` has more."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import READERS, reader_of
from tests.fuzz_files.child import Child
from tests.fuzz_files.fuzzing import Figures, fuzz, write_seeds
from tests.fuzz_files.outcomes import DIED, READ, REFUSED, SLOW
from tests.fuzz_files.seeds import SEEDS, Seed

ROUNDS = 5
CSV = SEEDS[0]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_seeds(tmp_path_factory.mktemp("seeds"))


def seed_named(name: str) -> Seed:
    return next(seed for seed in SEEDS if seed.name == name)


def test_every_format_has_a_seed_that_it_reads(seeds: dict[str, Path]) -> None:
    assert {seed.format for seed in SEEDS} == {reader.facts.title for reader in READERS}
    for seed in SEEDS:
        assert reader_of(seeds[seed.name]).facts.title == seed.format


def test_harmed_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    figures: Figures = fuzz(tmp_path, 0, lambda count: count < ROUNDS * len(SEEDS))
    assert figures.faults == []
    counts = sum(figures.outcomes.values(), Counter())
    assert counts.total() == ROUNDS * len(SEEDS)
    assert min(counts[READ], counts[REFUSED]) > ROUNDS, counts


def test_a_child_has_no_more_memory_than_it_is_given(seeds: dict[str, Path], tmp_path: Path) -> None:
    """An array that says that it is larger is refused in the child, which reads on."""
    path = tmp_path / "a.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(80))
    child = Child(tmp_path, seeds)
    try:
        outcome = child.read(seed_named("NPZ"), path)
        assert outcome.kind == REFUSED
        assert "allocate" in outcome.text
        assert child.read(CSV, seeds[CSV.name]).kind == READ
    finally:
        child.close()


def test_a_child_that_hangs_or_dies_is_said_to_have(seeds: dict[str, Path], tmp_path: Path) -> None:
    """Reading a pipe that nobody writes stands for a library without an end, a signal for one that crashes."""
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    hanging = Child(tmp_path, seeds, seconds=0.2)
    outcome = hanging.read(CSV, pipe)
    assert outcome.kind == SLOW
    assert "open" in outcome.text
    assert not hanging.usable
    before = set(multiprocessing.active_children())
    dying = Child(tmp_path, seeds)
    (process,) = set(multiprocessing.active_children()) - before

    def kill() -> None:
        with pipe.open("w"):  # Opens once the child does.
            os.kill(process.pid or 0, signal.SIGSEGV)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome = dying.read(CSV, pipe)
    thread.join()
    assert outcome.kind == DIED
    assert "SIGSEGV" in outcome.text
