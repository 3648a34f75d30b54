"""Plan of a training: what it learns from, how long, and what about it is likely to go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.spec import Array
from statestream.models.training.dataset import still
from statestream.models.training.learner import Learner
from statestream.models.training.splits import Split

FEW_STEPS = 300
"""Optimiser steps below which a network has hardly learned."""
MOST_NAMES = 8
"""Most columns that are named."""
_COUNTED = "; times are rows counted, not measured"


@dataclass(frozen=True)
class Plan:
    """Summary of a training before its first step."""

    facts: dict[str, str]
    """A line each: recordings, columns, period, split, network, training."""
    warnings: tuple[str, ...]


def plan_of(config: Config, dataset: Dataset, split: Split, learner: Learner) -> Plan:
    """Summarise a training."""
    epochs, steps = config.training.epochs, learner.steps_per_epoch
    facts = {
        "recordings": f"{len(dataset.recordings):,} of {_rows(dataset.recordings):,} rows",
        "features": _listed(dataset.features),
        "target": _target(config, dataset),
        "period": _period(split.train, learner.network.facts.nominal_s) + (_COUNTED if dataset.counted else ""),
        "split": _split(config, split),
        "network": f"{config.cell.kind}, {learner.network.parameter_count:,} parameters",
        "training": f"{epochs} epochs of {steps} optimiser steps, {epochs * steps:,} in all",
    }
    return Plan(facts, tuple(_warnings(config, dataset, split, epochs * steps)))


def still_columns(values: Sequence[Array], names: Sequence[str]) -> list[str]:
    """Names of the columns of `[T, F]` arrays that hardly vary."""
    if values[0].ndim != 2 or values[0].dtype.kind != "f":
        return []
    return [name for name, is_still in zip(names, still(np.concatenate(values)), strict=True) if is_still]


def _warnings(config: Config, dataset: Dataset, split: Split, steps: int) -> Iterator[str]:
    if steps < FEW_STEPS:
        yield (
            f"{steps} optimiser steps hardly train a network: give it more training.epochs or training.passes, "
            "a smaller training.batch, or a shorter training.segment"
        )
    if len(split.validation) == 1 and config.split.by != "time":
        yield (
            f"one recording ('{split.validation[0].id}') is the validation, which chooses the weights to keep: "
            "record more, or set split.by = 'time'"
        )
    yield from _still(split, dataset, config)


def _still(split: Split, dataset: Dataset, config: Config) -> Iterator[str]:
    if found := still_columns([r.features for r in split.train], dataset.features):
        yield (
            f"data.features: {_hardly_vary(found)}, so that the rare rows that differ count for much: "
            "leave out what is not needed"
        )
    weighed = config.task.kind != "classification" and "targets" not in config.data.common_scale
    if weighed and (found := still_columns([np.asarray(r.target) for r in split.train], dataset.labels)):
        yield (
            f"data.target: {_hardly_vary(found)}: the loss takes a tenth of the range as the unit of the error, "
            "not the standard deviation, so that the rare rows that differ do not dominate it"
        )


def _hardly_vary(names: Sequence[str]) -> str:
    return f"{_listed(names)} hardly var{'y' if len(names) > 1 else 'ies'} in the training split"


def _target(config: Config, dataset: Dataset) -> str:
    if config.task.kind == "next_step":
        return f"the next row, {_listed(dataset.labels)}"
    what = f"{len(dataset.labels)} classes: " if config.task.kind == "classification" else ""
    where = " at the end of each recording" if config.task.at == "end" else ""
    return f"{what}{_listed(dataset.labels)}{where}"


def _period(recordings: Sequence[Recording], nominal_s: float) -> str:
    steps_ns = np.concatenate([np.diff(r.t_ns) for r in recordings])
    least, most = np.percentile(1e-9 * steps_ns, (1, 99)) if steps_ns.size else (nominal_s, nominal_s)
    if f"{least:.4g}" == f"{most:.4g}":
        return f"{nominal_s:.4g} s, regular"
    return f"{nominal_s:.4g} s; 98 % of rows come {least:.4g} to {most:.4g} s after the one before"


def _split(config: Config, split: Split) -> str:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    counts = ", ".join(f"{name} {len(part)} ({_rows(part):,} rows)" for name, part in parts.items())
    return f"by {config.split.by}: {counts}"


def _rows(recordings: Sequence[Recording]) -> int:
    return sum(map(len, recordings))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
