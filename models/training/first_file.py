"""First training file for recordings: roles of the columns, a split, a cell and settings that fit the amount of data.

It is a start to be read and changed: what was chosen has its reason beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.config import ConfigError
from statestream.models.data.survey import ColumnSurvey, Survey
from statestream.models.toml import value_to_toml

_LABELS = re.compile(r"label|class|target|activity|terrain|gesture|phase|exercise|state|mode|kind|y", re.IGNORECASE)
"""Names of columns that someone has labelled."""
_GROUPS = re.compile(r"person|subject|user|participant|driver|patient|vehicle|robot|machine|site|group|session|fold")
MOST_CLASSES = 20
"""Most whole numbers that count as classes."""
FEW_RECORDINGS = 5
"""Recordings below which each is cut by time, as too few are left to test on."""
WINDOWS = 40
"""Windows that few recordings of classes are cut to: the end alone would seldom have every class."""
TRAILING_S = 3.0
"""Seconds of a window: what most movements take."""
TRAINED_ROWS, MOST_EPOCHS, LEAST_EPOCHS = 30_000_000, 60, 10
"""Rows that all epochs together train on, and bounds of their number."""
LITTLE_ROWS = 50_000
"""Rows below which a classification needs more than the usual weight decay, and smaller steps."""
PICTURE_ROWS = 30
"""Rows of pixels that a network sees of a picture."""


@dataclass(frozen=True)
class Roles:
    """Roles of the columns of recordings."""

    features: tuple[str, ...]
    target: tuple[str, ...]
    group: str
    others: tuple[str, ...]
    """Further columns that could be the target."""
    classes: bool

    @property
    def task(self) -> str:
        """Kind of the task."""
        if not self.target:
            return "next_step"
        return "classification" if self.classes else "regression"


def roles_of(found: Survey, target: Sequence[str] = ()) -> Roles:
    """Choose the roles of columns.

    Args:
        target: columns to predict; empty: the one that looks like labels, if there is one.

    Raises:
        DataError: a column of `target` does not exist.
        ConfigError: no column is left as a feature, or a target is always one text.
    """
    group = next((c.name for c in found.columns if _is_group(c, found)), "")
    candidates = [c.name for c in found.columns if c.name != group and _is_class(c)]
    named = tuple(target) or _labelled(found, candidates)
    chosen = [found.column(name) for name in named]
    for column in chosen:
        if column.kind == "text" and len(column.values) == 1:
            raise ConfigError(f"{found.path}: column '{column.name}' is always {column.values[0]!r}: it is no target")
    pictures = [c.name for c in found.columns if c.kind == "picture"]
    numbers = [c.name for c in found.columns if c.kind == "number" and not c.is_still and c.name not in (*named, group)]
    features = tuple(pictures[:1] or numbers)
    if not features:
        raise ConfigError(f"{found.path}: no column of numbers or pictures is left as a feature")
    others = tuple(name for name in dict.fromkeys((*candidates, *numbers)) if name not in named)
    return Roles(features, named, group, others, classes=len(chosen) == 1 and _is_class(chosen[0]))


def first_file(found: Survey, roles: Roles, file: Path) -> str:
    """Write a training file for `file`'s place.

    Raises:
        ConfigError: recordings of pictures have no target.
    """
    if found.picture is not None and not roles.target:
        there = ", ".join(roles.others) or "no other columns in what was looked at"
        raise ConfigError(f"{found.path}: pictures need a target: --target NAME; there are {there}")
    lines = [
        f"# Written by `statestream init`: {len(found.lengths)} recordings of {sum(found.lengths):,} rows.",
        "# Every field, with what it is good for: docs/training-file.md",
        f"name = {value_to_toml(_name(file))}",
        *_task(roles),
        *_data(found, roles, file),
        *_split(found, roles),
        *_cell(found, roles),
        *_training(found, roles),
    ]
    return "\n".join(lines) + "\n"


def _labelled(found: Survey, candidates: Sequence[str]) -> tuple[str, ...]:
    """The column that is called like labels, else the only one of texts."""
    called = [name for name in candidates if _LABELS.fullmatch(name)]
    texts = [name for name in candidates if found.column(name).kind == "text"]
    return tuple(called[:1] or (texts if len(texts) == 1 else ()))


def _is_class(column: ColumnSurvey) -> bool:
    most = np.inf if column.kind == "text" else MOST_CLASSES
    return 2 <= len(column.values) <= most


def _is_group(column: ColumnSurvey, found: Survey) -> bool:
    """Whether a column names who or what was recorded, of fewer than there are recordings."""
    named = _GROUPS.search(column.name.lower()) is not None
    return named and column.steady and FEW_RECORDINGS <= len(column.values) < len(found.lengths)


def _name(file: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "model"


def _task(roles: Roles) -> Iterator[str]:
    others = [name for name in roles.others if name not in roles.features] or roles.others[:8]
    yield from ("", "[task]", _field("kind", roles.task, '"classification", "regression" or "next_step"'))
    yield _field("at", "every", '"end": only the last row of a recording counts')
    if not roles.target:
        yield f"# To predict a column, name it in data.target; candidates: {_line(', '.join(others))}"


def _data(found: Survey, roles: Roles, file: Path) -> Iterator[str]:
    path = os.path.relpath(found.path, file.parent)
    yield from ("", "[data]", _field("path", path, "relative to this file"))
    yield _field("features", list(roles.features))
    if roles.target:
        yield _field("target", list(roles.target), f"others: {', '.join(roles.others)[:60]}" if roles.others else "")
    if roles.group:
        yield _field("group", roles.group, "never torn apart by the split")
    if found.time:
        yield _field("time", found.time)
    if found.unit is not None:
        yield _field("time_unit", found.unit[0], found.unit[1])
    if not found.time:
        yield _field("period_s", 0.01, "CHANGE THIS: seconds between rows; no column of times was found")
    if found.picture_range is not None:
        why = "CHECK THIS: values that become the levels 0 and 255; those of the first picture"
        yield _field("picture_range", list(found.picture_range), why)
    gaps = [name for name in roles.features if found.column(name).missing > 0]
    if gaps:
        yield _field("missing", "hold", f"not always measured: {', '.join(gaps)[:60]}")


def _split(found: Survey, roles: Roles) -> Iterator[str]:
    yield from ("", "[split]")
    if len(found.lengths) < FEW_RECORDINGS and roles.classes and found.steps_s is not None:
        seconds = sum(found.lengths) * found.steps_s[1] / WINDOWS
        yield _field("by", "time", "few recordings: windows of each are the test; with more, split by recording")
        yield _field("window_s", float(f"{seconds:.2g}"), "seconds of a window; each class should be in several")
    elif len(found.lengths) < FEW_RECORDINGS:
        yield _field("by", "time", "few recordings: the end of each is the test; with more, split by recording")
    elif roles.group:
        yield _field("by", "group", f"the test is of a {roles.group} that was not trained on")
    else:
        yield _field("by", "recording", "the test is of recordings that were not trained on")


def _cell(found: Survey, roles: Roles) -> Iterator[str]:
    yield from ("", "[cell]")
    if found.picture is not None:
        height, width = found.picture
        part = max(1, round(height / PICTURE_ROWS))
        frames = {"kind": "frames", "frame": [height, width], "size": [height // part, width // part], "units": 32}
        yield _field("kind", "encoded")
        yield _field("encoder", frames)
        yield _field("cell", {"kind": "cfc", "units": 32, "backbone_units": 32})
        return
    units = 32 if len(roles.features) <= 8 else 64 if len(roles.features) <= 32 else 128
    yield _field("kind", "cfc", "docs/cells.md has the others; gru and a stack of s5 are worth a try")
    yield _field("units", units)
    yield _field("backbone_units", units)


def _training(found: Survey, roles: Roles) -> Iterator[str]:
    pictures, rows = found.picture is not None, sum(found.lengths)
    window = 16 if pictures else _window(found)
    epochs = int(np.clip(TRAINED_ROWS / rows, LEAST_EPOCHS, MOST_EPOCHS))
    yield from ("", "[training]", _field("epochs", epochs, "at most: patience ends it earlier"))
    yield _field("batch", 4 if pictures else 32)
    yield _field("window", window, "rows per optimiser step" + ("" if pictures else f", about {TRAILING_S:g} s"))
    if roles.target and all(found.column(name).steady for name in roles.target):
        yield _field("segment", window, "one value in each recording: short pieces of them are examples enough")
    little = roles.classes and not pictures and rows < LITTLE_ROWS
    yield _field("learning_rate", 0.002 if pictures or little else 0.005)
    yield _field("weight_decay", 0.3 if little else 0.05, "few rows: else they are learned by heart" if little else "")


def _window(found: Survey) -> int:
    """Rows of `TRAILING_S`, as a power of two, in bounds."""
    if found.steps_s is None:
        return 128
    return int(np.clip(2 ** round(np.log2(TRAILING_S / found.steps_s[1])), 32, 256))


def _field(name: str, value: object, why: str = "") -> str:
    text = f"{name} = {value_to_toml(value)}"
    return f"{text:30} # {_line(why)}" if why else text


def _line(text: str) -> str:
    """Text of a comment; names of columns may have any characters."""
    return " ".join(text.split())
