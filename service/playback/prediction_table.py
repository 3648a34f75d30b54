"""Prediction table: results of recordings as a Parquet file, with a type per column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.files import replacing
from statestream.models.spec import Array, Manifest, OutputSpec
from statestream.service.extras import need
from statestream.service.playback.play import Played
from statestream.service.playback.score import output_names
from statestream.service.protocol.verdict import Verdict


def write_prediction_table(path: Path, played: Sequence[Played], manifest: Manifest) -> None:
    """Write one row per row, the recordings one after another.

    Columns: recording, row, timestamp_ns, verdict, dt_s, each element of the output (null where a row has none), class,
    target; targets that are numbers are `target_NAME`, as outputs.

    Raises:
        FailedPrecondition: pyarrow is not installed.
    """
    pyarrow, parquet = need("pyarrow", "train"), need("pyarrow.parquet", "train")
    tables = [pyarrow.table(_columns(pyarrow, one, manifest.outputs[0])) for one in played]
    with replacing(path) as temporary:
        parquet.write_table(pyarrow.concat_tables(tables), temporary)


def _columns(pyarrow: Any, played: Played, spec: OutputSpec) -> dict[str, Any]:
    recording, rows = played.recording, len(played.recording)
    without = np.asarray(~np.isfinite(played.output).all(axis=1))
    found = {
        "recording": pyarrow.array([recording.id] * rows, pyarrow.string()),
        "row": np.arange(rows),
        "timestamp_ns": recording.t_ns,
        "verdict": [Verdict(number).name for number in played.verdict.tolist()],
        "dt_s": played.dt_s.astype(np.float32),
    }
    found |= {
        name: pyarrow.array(y.astype(np.float32), mask=without)
        for name, y in zip(output_names(spec), played.output.T, strict=True)
    }
    if spec.task == "classification":
        found["class"] = _classes(pyarrow, spec, played.output.argmax(axis=1), without)
        if recording.target is not None:
            found["target"] = _classes(pyarrow, spec, recording.target, np.zeros(rows, np.bool_))
    elif recording.target is not None:
        numbers = recording.target.reshape(rows, -1)
        found |= {f"target_{label}": y for label, y in zip(_labels(spec), numbers.T, strict=True)}
    return found


def _classes(pyarrow: Any, spec: OutputSpec, numbers: Array, without: Array) -> Any:
    """Names of classes; null where there is none."""
    names = [None if none else spec.class_name(k) for k, none in zip(numbers.tolist(), without.tolist(), strict=True)]
    return pyarrow.array(names, pyarrow.string())


def _labels(spec: OutputSpec) -> Sequence[object]:
    return spec.labels or range(spec.size)
