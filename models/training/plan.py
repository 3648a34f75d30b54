"""Plan of a training: what it learns from, how long, and what about it is likely to go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.spec import Array
from statestream.models.training.learner import Learner
from statestream.models.training.splits import Split

FEW_STEPS = 300
"""Optimiser steps below which a network has hardly learned."""
STILL_ROWS, STILL_RANGE = 0.99, 0.01
"""A column hardly varies if this fraction of its rows lies within this fraction of its range around the median."""
MOST_NAMES = 8
"""Most columns that are named."""


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
        "period": _period(split.train, learner.network.facts.nominal_s),
        "split": _split(config, split),
        "network": f"{config.cell.kind}, {learner.network.parameter_count:,} parameters",
        "training": f"{epochs} epochs of {steps} optimiser steps, {epochs * steps:,} in all",
    }
    return Plan(facts, tuple(_warnings(config, dataset, split, epochs * steps)))


def still_columns(values: Sequence[Array], names: Sequence[str]) -> list[str]:
    """Names of the columns of `[T, F]` arrays that hardly vary; NaN are ignored."""
    x_NF = np.concatenate(values)
    if x_NF.ndim != 2 or x_NF.dtype.kind != "f":
        return []
    range_F = np.nanmax(x_NF, axis=0) - np.nanmin(x_NF, axis=0)
    off_NF = np.abs(x_NF - np.nanmedian(x_NF, axis=0))
    near = (off_NF <= STILL_RANGE * range_F).sum(axis=0) / np.isfinite(x_NF).sum(axis=0)
    return [name for name, share in zip(names, near, strict=True) if share > STILL_ROWS]


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
    for field, values, names in (
        ("features", [r.features for r in split.train], dataset.features),
        ("target", [np.asarray(r.target) for r in split.train], dataset.labels),
    ):
        still = still_columns(values, names) if values[0].ndim == 2 else []
        if still and not (field == "target" and config.task.kind == "next_step"):
            yield (
                f"data.{field}: {_listed(still)} hardly var{'y' if len(still) > 1 else 'ies'} in the training split, "
                "so that the rare rows that differ count for much: leave out what is not needed"
            )


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
