"""Scores of played recordings (accuracy or error, latency, verdicts) and their predictions file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.files import replacing
from statestream.models.metrics import regression_errors
from statestream.models.spec import Array, OutputSpec
from statestream.service.playback.play import Played
from statestream.service.protocol.verdict import Verdict


@dataclass(frozen=True)
class Score:
    """Scores over all recordings; None: there are no targets to compare with."""

    recordings: int
    rows: int
    verdicts: dict[str, int]
    p50_ms: float
    p99_ms: float
    row_accuracy: float | None = None
    """Fraction of rows whose likeliest class is the target."""
    accuracy: float | None = None
    """Fraction of recordings whose likeliest class, log-probabilities summed over all rows, is the target; only if
    each recording has the same class in all its rows."""
    mse: float | None = None
    r2: float | None = None
    """Over all rows with an output, as in offline evaluation; None also if the target is constant."""


def score(played: Sequence[Played], spec: OutputSpec) -> Score:
    """Score recordings against their targets, if any: int64 classes `[T]`, or float32 `[T, K]`."""
    latency_ms = np.concatenate([np.asarray(p.latency_s) for p in played]) * 1e3
    verdicts, counts = np.unique(np.concatenate([p.verdict for p in played]), return_counts=True)
    totals = Score(
        recordings=len(played),
        rows=sum(len(p.recording) for p in played),
        verdicts={Verdict(v).name: n for v, n in zip(verdicts.tolist(), counts.tolist(), strict=True)},
        p50_ms=float(np.percentile(latency_ms, 50)),
        p99_ms=float(np.percentile(latency_ms, 99)),
    )
    judged = [p for p in played if p.recording.target is not None]
    if not judged:
        return totals
    if spec.task == "classification":
        right = np.concatenate([_right(p) for p in judged])
        whole = [_right_as_a_whole(p) for p in judged if _has_one_class(p)]
        accuracy = float(np.mean(whole)) if len(whole) == len(judged) else None
        return replace(totals, row_accuracy=float(right.mean()), accuracy=accuracy)
    errors = regression_errors(*(np.concatenate(parts) for parts in zip(*map(_numbers, judged), strict=True)))
    return replace(totals, mse=errors["mse"], r2=errors.get("r2"))


def _right(played: Played) -> Array:
    """`[rows with output]` whether the likeliest class is the target."""
    has, target = _judged(played)
    return np.asarray(played.output[has].argmax(axis=1) == target[has])


def _has_one_class(played: Played) -> bool:
    _, target = _judged(played)
    return bool((target == target[0]).all())


def _right_as_a_whole(played: Played) -> bool:
    has, target = _judged(played)
    return bool(_log_softmax(played.output[has].astype(np.float64)).sum(axis=0).argmax() == target[0])


def _numbers(played: Played) -> tuple[Array, Array]:
    """Predictions and targets, each `[rows with output, K]`."""
    has, target = _judged(played)
    return played.output[has], target[has].reshape(int(has.sum()), -1)


def _judged(played: Played) -> tuple[Array, Array]:
    """`[T]` whether each row has an output, and the target."""
    assert played.recording.target is not None
    return np.asarray(np.isfinite(played.output).all(axis=1)), played.recording.target


def _log_softmax(x: Array) -> Array:
    """Log-probabilities of logits; log-probabilities are returned unchanged."""
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def output_names(spec: OutputSpec) -> list[str]:
    """Names of an output's elements as columns of predictions."""
    return [f"{spec.name}_{label}" for label in spec.labels or range(spec.size)]


def write_predictions(path: Path, played: Sequence[Played], spec: OutputSpec) -> None:
    """Write a CSV file with one line per row.

    Columns: recording, row, timestamp_ns, verdict, dt_s, each element of the output, class, target.
    """
    names = output_names(spec)
    classes = spec.task == "classification"
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["recording", "row", "timestamp_ns", "verdict", "dt_s", *names, *(["class"] if classes else []), "target"]
        )
        for one in played:
            _write_rows(writer, one, spec, classes=classes)


def _write_rows(writer: Any, played: Played, spec: OutputSpec, *, classes: bool) -> None:
    recording = played.recording
    for row in range(len(recording)):
        y = played.output[row]
        known = bool(np.isfinite(y).all())
        line = [recording.id, row, int(recording.t_ns[row]), Verdict(int(played.verdict[row])).name]
        line += [f"{played.dt_s[row]:.9g}", *(f"{v:.9g}" if known else "" for v in y.tolist())]
        if classes:
            line.append(spec.class_name(int(y.argmax())) if known else "")
        if recording.target is None:
            line.append("")
        elif classes:
            line.append(spec.class_name(int(recording.target[row])))
        else:
            true = np.ravel(recording.target[row])
            line.append("" if np.isnan(true).all() else " ".join(f"{v:.9g}" for v in true.tolist()))
        writer.writerow(line)
