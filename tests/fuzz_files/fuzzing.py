"""Harms seeds and reads what became of them, each in a child process."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from statestream.models.data.formats import READERS
from tests.fuzz_files.child import Child
from tests.fuzz_files.mutations import mutated
from tests.fuzz_files.outcomes import DIED, FAULT, SLOW, Outcome
from tests.fuzz_files.seeds import SEEDS, Seed


@dataclass
class Figures:
    """What a run came to."""

    outcomes: dict[str, Counter[str]] = field(
        default_factory=lambda: {reader.facts.title: Counter() for reader in READERS}
    )
    """By title of the format."""
    deaths: Counter[str] = field(default_factory=Counter)
    """Deaths and timeouts in outside libraries, by seed and place."""
    faults: list[str] = field(default_factory=list)

    def add(self, seed: Seed, outcome: Outcome) -> None:
        self.outcomes[seed.format][outcome.kind] += 1
        if outcome.kind in (DIED, SLOW):
            self.deaths[f"{seed.name}: {outcome.kind}, {outcome.text}"] += 1
        if outcome.kind == FAULT:
            self.faults.append(f"{seed.name}: {outcome.text}")


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write every seed into a folder of its own; paths by name."""
    found = {}
    for number, seed in enumerate(SEEDS):
        own = folder / f"{number:02d}"
        own.mkdir(parents=True)
        found[seed.name] = seed.write(own)
    return found


def cases(seeds: dict[str, Path], number: int) -> Iterator[tuple[Seed, str, bytes]]:
    """Seeds in turn, each with the file that is harmed and its new content, without end."""
    chance = random.Random(number)
    while True:
        for seed in SEEDS:
            path = seeds[seed.name]
            files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
            chosen = chance.choice(files)
            yield seed, str(chosen.relative_to(path.parent)), mutated(chance, chosen.read_bytes())


def fuzz(folder: Path, number: int, goes_on: Callable[[int], bool]) -> Figures:
    """Harm and read until `goes_on(cases)` says no; what is at fault stays in `folder / "failing"`."""
    seeds, figures = write_seeds(folder / "seeds"), Figures()
    child: Child | None = None
    for count, (seed, name, content) in enumerate(cases(seeds, number)):
        if not goes_on(count):
            break
        if child is None or not child.usable:
            if child is not None:
                child.close()
            child = Child(folder, seeds)
        place = _harmed(folder / "case", seeds[seed.name], name, content)
        outcome = child.read(seed, place)
        figures.add(seed, outcome)
        if outcome.kind in (FAULT, DIED, SLOW):
            kept = folder / "failing" / f"{count:06d}"
            shutil.copytree(folder / "case", kept)
            (kept / "outcome.txt").write_text(f"{seed.name}\n{outcome.kind}\n{outcome.text}\n")
    if child is not None:
        child.close()
    return figures


def _harmed(folder: Path, seed: Path, name: str, content: bytes) -> Path:
    """Copy a seed with one file's content replaced; labels beside a file come with it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seed.parent, folder)
    (folder / name).write_bytes(content)
    return folder / seed.name
