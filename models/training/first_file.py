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
from statestream.models.training.log_spectra import VIBRATION_S
from statestream.models.training.separation import Separation

_LABELS = re.compile(r"label|class|target|activity|terrain|gesture|phase|exercise|state|mode|kind|y", re.IGNORECASE)
"""Names of columns that someone has labelled."""
_GROUPS = re.compile(r"person|subject|user|participant|driver|patient|vehicle|robot|machine|site|group|session|fold")
_TURNS = re.compile(r"steer|angle|angular|yaw|turn|curvature")
"""Names of columns that change sign where left and right change places."""
MOST_CLASSES = 20
"""Most whole numbers that count as classes."""
FEW_RECORDINGS = 5
"""Recordings below which each is cut by time, as too few are left to test on."""
WINDOWS = 40
"""Windows that few recordings of classes are cut to: the end alone would seldom have every class."""
TRAILING_S = 3.0
"""Seconds of a window: what most movements take."""
LEAST_EPOCHS = 10
"""Fewest epochs, even of many rows."""
LITTLE_ROWS = 50_000
"""Rows below which a classification needs more than the usual weight decay, and smaller steps."""
PIECE_WINDOWS = 4
"""Windows of the random pieces that a few long recordings are trained on."""
MANY_ROWS = 100_000
"""Rows that a larger network learns from."""
MANY_TARGETS = 8
"""Fewest numbers to predict that are weighed alike."""
ALIKE = 30.0
"""Largest ratio of their ranges."""
MISSING_STEPS = 1.5
"""Periods between rows from which one is missing."""
PICTURE_ROWS = 30
"""Rows of pixels that a network sees of a picture."""


@dataclass(frozen=True)
class Recipe:
    """Training settings that fit a kind of recordings."""

    learning_rate: float
    weight_decay: float = 0.05
    why: str = ""
    """Why so much weight decay."""
    batch: int = 32
    """Recordings, or pieces of them."""
    rows: int = 30_000_000
    """Rows that all epochs together train on."""
    most_epochs: int = 60


PICTURES = Recipe(0.002, batch=4)
VIBRATION = Recipe(0.01, 1.0, "few recordings: else each is known by its own spectrum", rows=4_000_000)
"""An encoder leaves less to learn."""
FEW = Recipe(0.003, 0.3, "few rows: else they are learned by heart", batch=2)
"""Few rows of classes, in a few long recordings."""
LITTLE = Recipe(0.002, 0.3, "few rows: else they are learned by heart")
MANY = Recipe(0.008, most_epochs=80)
"""Many numbers to predict: they take longer."""
USUAL = Recipe(0.005)


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


def may_vibrate(found: Survey, roles: Roles) -> bool:
    """Whether classes may differ by frequencies: rows of numbers come fast enough."""
    return roles.classes and found.picture is None and found.steps_s is not None and found.steps_s[1] <= VIBRATION_S


def first_file(found: Survey, roles: Roles, file: Path, separation: Separation | None = None) -> str:
    """Write a training file for `file`'s place.

    Args:
        separation: what tells the classes apart; None: levels.

    Raises:
        ConfigError: recordings of pictures have no target.
    """
    if found.picture is not None and not roles.target:
        there = ", ".join(roles.others) or "no other columns in what was looked at"
        raise ConfigError(f"{found.path}: pictures need a target: --target NAME; there are {there}")
    vibration = separation if separation is not None and separation.vibrates else None
    recipe = _recipe(found, roles, vibration)
    lines = [
        f"# Written by `statestream init`: {len(found.lengths)} recordings of {sum(found.lengths):,} rows.",
        "# Every field, with what it is good for: docs/training-file.md",
        f"name = {value_to_toml(_name(file))}",
        *_task(roles),
        *_data(found, roles, file, recipe),
        *_split(found, roles),
        *_cell(found, roles, vibration),
        *_training(found, roles, recipe),
        *_augment(found, roles, recipe),
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


def _data(found: Survey, roles: Roles, file: Path, recipe: Recipe) -> Iterator[str]:
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
    if recipe is MANY:
        yield _field("common_scale", ["targets"], "many targets of like size: the loss weighs them as mse does")
    if recipe is VIBRATION:
        yield _field("whiten", True, "energies of neighbouring frequencies go together")


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


def _cell(found: Survey, roles: Roles, vibration: Separation | None) -> Iterator[str]:
    yield from ("", "[cell]")
    if found.picture is not None:
        yield _field("kind", "encoded")
        yield _field("encoder", _frames(*found.picture))
        yield _field("cell", {"kind": "cfc", "units": 32, "backbone_units": 32})
        return
    if vibration:
        right = f"{vibration.frequencies:.0%} of the validation windows, by levels {vibration.levels:.0%}"
        yield f"# By frequencies a linear fit gets {right}: an encoder of vibration."
        yield _field("kind", "encoded")
        yield _field("encoder", {"kind": "spectral"})
        yield _field("cell", {"kind": "cfc", "units": 24, "backbone_units": 24})
        return
    units = _units(len(roles.features), sum(found.lengths))
    yield _field("kind", "cfc", "docs/cells.md has the others; gru and a stack of s5 are worth a try")
    yield _field("units", units)
    yield _field("backbone_units", units)


def _frames(height: int, width: int) -> dict[str, object]:
    """Encoder of pictures; what changes between two of them tells how a camera moves."""
    part = max(1, round(height / PICTURE_ROWS))
    size = [height // part, width // part]
    return {"kind": "frames", "frame": [height, width], "size": size, "units": 32, "motion": True}


def _units(features: int, rows: int) -> int:
    if features <= 8:
        return 32
    return 64 if features <= 32 and rows < MANY_ROWS else 128


def _recipe(found: Survey, roles: Roles, vibration: Separation | None) -> Recipe:
    """Choose training settings by what is there to learn from."""
    if found.picture is not None:
        return PICTURES
    if vibration:
        return VIBRATION
    if roles.classes and sum(found.lengths) < LITTLE_ROWS:
        return FEW if _are_few(found, roles) else LITTLE
    return MANY if _are_many(found, roles) else USUAL


def _training(found: Survey, roles: Roles, recipe: Recipe) -> Iterator[str]:
    window = 16 if recipe is PICTURES else _window(found, roles)
    epochs = int(np.clip(recipe.rows / sum(found.lengths), LEAST_EPOCHS, recipe.most_epochs))
    yield from ("", "[training]", _field("epochs", epochs, "at most: patience ends it earlier"))
    yield _field("batch", recipe.batch)
    yield _field("window", window, "rows per optimiser step")
    if recipe is FEW:
        yield _field("segment", PIECE_WINDOWS * window, "few recordings: an epoch has a random piece of each, once;")
        yield _field("passes", 1, "with more they are learned by heart")
    elif _is_steady(found, roles):
        yield _field("segment", window, "one value in each recording: short pieces of them are examples enough")
    yield _field("learning_rate", recipe.learning_rate)
    yield _field("weight_decay", recipe.weight_decay, recipe.why)
    if roles.classes:
        yield _field("keep_by", "score", "the epoch that is most often right; its loss may be worse")


def _augment(found: Survey, roles: Roles, recipe: Recipe) -> Iterator[str]:
    """Random changes that do no harm, whatever was recorded."""
    if found.picture is not None:
        height, width = found.picture
        yield from ("", "[training.augment]", _field("brightness", 0.3, "other light"))
        yield _field("shift_pixels", [height // 10, width // 10], "another mounting of the camera")
        turns = [name for name in roles.target if _is_turn(found.column(name))]
        if turns and len(turns) == len(roles.target):
            yield _field("mirror_pictures", turns, "CHECK THIS: left and right change places, and with them the sign")
    elif recipe is FEW:
        yield from ("", "[training.augment]", _field("keep_rows", [0.6, 1.0], "few recordings: other rows of each,"))
        yield _field("stretch", 0.15, "slower or faster, in every epoch")
    elif found.steps_s is not None and found.steps_s[2] > MISSING_STEPS * found.steps_s[1]:
        yield from ("", "[training.augment]", _field("keep_rows", [0.85, 0.85], "rows are missing, and more may be"))


def _is_steady(found: Survey, roles: Roles) -> bool:
    """Whether each recording has one value of the target."""
    return bool(roles.target) and all(found.column(name).steady for name in roles.target)


def _are_few(found: Survey, roles: Roles) -> bool:
    """Whether recordings of changing classes are long, and too few for a batch."""
    few = FEW_RECORDINGS <= len(found.lengths) < LITTLE.batch
    long = max(found.lengths) > PIECE_WINDOWS * _window(found, roles)
    return few and long and not _is_steady(found, roles)


def _are_many(found: Survey, roles: Roles) -> bool:
    """Whether the numbers to predict are many, and none is lost in the mean squared error of all."""
    names = roles.target or roles.features
    if roles.classes or len(names) < MANY_TARGETS:
        return False
    ranges = [found.column(name).range or (0.0, 0.0) for name in names]
    spans = [most - least for least, most in ranges]
    return max(spans) <= ALIKE * min(spans)


def _is_turn(column: ColumnSurvey) -> bool:
    """Whether a column is called like a turn, and has both signs."""
    both = column.range is not None and column.range[0] < 0 < column.range[1]
    return both and _TURNS.search(column.name.lower()) is not None


def _window(found: Survey, roles: Roles) -> int:
    """Rows of `TRAILING_S`, as a power of two, in bounds; numbers follow sooner than classes."""
    most = 256 if roles.classes else 64
    if found.steps_s is None:
        return min(most, 128)
    return int(np.clip(2 ** round(np.log2(TRAILING_S / found.steps_s[1])), 32, most))


def _field(name: str, value: object, why: str = "") -> str:
    text = f"{name} = {value_to_toml(value)}"
    return f"{text:30} # {_line(why)}" if why else text


def _line(text: str) -> str:
    """Text of a comment; names of columns may have any characters."""
    return " ".join(text.split())
