"""Search space of `statestream tune`: cell, size, learning rate, segment and augmentation.

The first trial is the configuration as it is given, so that the best is never worse on the validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from statestream.models.cells.options import EncodedOptions, FramesOptions
from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.training.dataset import channel_statistics

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

AS_GIVEN, WHOLE = "as given", "whole"
CELLS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "cfc": lambda size: {"kind": "cfc", "units": size, "backbone_units": size},
    "cfc, mixed memory": lambda size: {"kind": "cfc", "units": size, "backbone_units": size, "mixed_memory": True},
    "gru": lambda size: {"kind": "gru", "units": size},
    "two of s5": lambda size: {"kind": "stack", "width": size, "layers": ["s5", "s5"]},
}
SIZES = (16, 32, 64, 128)
LEARNING_RATES = (3e-4, 3e-2)
SEGMENTS = (64, 256, 1024)
"""Rows; only those below the longest recording's."""
AUGMENTATIONS = {"light": (0.85, 0.1), "strong": (0.6, 0.3)}
"""Fraction of rows that is kept at least, and how far sensors are off, in their standard deviations. Of pictures:
how far they are brightened or darkened, and shifted, in quarters of the picture."""


@dataclass(frozen=True)
class Tried:
    """A trial of a study."""

    number: int
    settings: Mapping[str, Any]
    """Value of each setting by its name."""
    score: float
    """Validation score of the epoch that is kept; NaN: its loss was never a number."""
    epochs: int
    seconds: float
    pruned: bool
    """Ended early, as it was worse than the median of the others."""


class SearchSpace:
    """Configurations to try in place of the one that is given."""

    def __init__(self, config: Config, dataset: Dataset, train: Sequence[Recording]) -> None:
        self._given = config
        self._frame = _frame(config)
        self._segments = _segments(config, max(map(len, train)))
        with_offsets = self._frame is None and config.task.kind != "next_step"
        self._std = _deviations(dataset, train) if with_offsets else {}

    @property
    def first(self) -> dict[str, Any]:
        """Settings of the configuration that is given."""
        names = ["cell", "augmentation", *(["segment"] if self._segments else [])]
        return {**dict.fromkeys(names, AS_GIVEN), "learning rate": self._given.training.learning_rate}

    def configuration(self, trial: BaseTrial) -> Config:
        """Choose a trial's settings."""
        values = self._given.model_dump()
        cell = self._cell(trial)
        if cell is not None:
            values["cell"] = {**values["cell"], "cell": cell} if "encoder" in values["cell"] else cell
            if cell["kind"] != "cfc":
                values["training"]["precision"] = "float32"
        values["training"] |= {"learning_rate": self._learning_rate(trial), **self._segment(trial)}
        values["training"]["augment"] |= self._augmentation(trial)
        return Config.model_validate(values)

    def _cell(self, trial: BaseTrial) -> dict[str, Any] | None:
        kind = trial.suggest_categorical("cell", [AS_GIVEN, *CELLS])
        return None if kind == AS_GIVEN else CELLS[kind](trial.suggest_categorical("size", SIZES))

    def _learning_rate(self, trial: BaseTrial) -> float:
        given, (least, most) = self._given.training.learning_rate, LEARNING_RATES
        return trial.suggest_float("learning rate", min(least, given), max(most, given), log=True)

    def _segment(self, trial: BaseTrial) -> dict[str, Any]:
        segment = trial.suggest_categorical("segment", self._segments) if self._segments else AS_GIVEN
        if segment == AS_GIVEN:
            return {}
        # As many as cover the recordings, whatever number of others was given.
        return {"segment": 0 if segment == WHOLE else int(segment), "passes": None}

    def _augmentation(self, trial: BaseTrial) -> dict[str, Any]:
        level = trial.suggest_categorical("augmentation", [AS_GIVEN, *AUGMENTATIONS])
        if level == AS_GIVEN:
            return {}
        kept, off = AUGMENTATIONS[level]
        if self._frame is not None:
            return {"brightness": off, "shift_pixels": tuple(round(off * size / 4) for size in self._frame)}
        return {"keep_rows": (kept, 1.0), "shift": {name: off * std for name, std in self._std.items()}}


def _frame(config: Config) -> tuple[int, int] | None:
    """Height and width of the pictures that a configuration takes; None: it takes numbers."""
    cell = config.cell
    return cell.encoder.frame if isinstance(cell, EncodedOptions) and isinstance(cell.encoder, FramesOptions) else None


def _segments(config: Config, longest: int) -> list[str]:
    """Choices of a segment; none where only the end of a recording counts."""
    if config.task.at == "end":
        return []
    given = config.training.segment
    others = [str(rows) for rows in SEGMENTS if rows < longest and rows != given]
    return [AS_GIVEN, *others, *([WHOLE] if given != 0 else [])]


def _deviations(dataset: Dataset, train: Sequence[Recording]) -> dict[str, float]:
    """Standard deviation of each feature that is no difference to the row before."""
    _, std = channel_statistics([r.features for r in train])
    return {name: value for name, value in zip(dataset.features, std, strict=True) if name not in dataset.relative}


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings in a line: `cell gru, size 32, learning rate 0.0041`."""
    return ", ".join(f"{name} {setting_text(value)}" for name, value in settings.items())


def setting_text(value: Any) -> str:
    """Value of a setting."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)
