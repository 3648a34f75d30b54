"""Reads recordings from files in a model's form: features by name, classes by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.formats import columns_among, picture_column
from statestream.models.data.merge_sensors import merged
from statestream.models.data.next_row import next_rows
from statestream.models.data.recordings import Columns, Dataset, read_dataset
from statestream.models.data.tables import word
from statestream.models.spec import InputSpec, Manifest
from statestream.service.errors import InvalidArgument


def read(
    file: Path, columns: Columns, manifest: Manifest, only: Sequence[str] = (), merge: Sequence[Path] = ()
) -> Dataset:
    """Read a file's recordings with the model's features, in its order, and its class numbers.

    Args:
        only: ids of the recordings to keep; empty: all.
        merge: files of other sensors of the same recordings.

    Raises:
        DataError: a file cannot be read; the text names file, row and column.
        InvalidArgument: the files do not fit the model, or have no recording of an id in `only`.
    """
    if len(manifest.inputs) > 1:
        raise InvalidArgument(f"{manifest.ref} has {len(manifest.inputs)} inputs; a file can feed one", field="--model")
    spec, output = manifest.inputs[0], manifest.outputs[0]
    if not columns.features and len(spec.labels) == spec.size:
        columns = columns.model_copy(update={"features": spec.labels})
    frame = spec.frame
    if spec.relative and frame is None and len(columns.features) == spec.size:
        relative = [columns.features[spec.labels.index(name)] for name in spec.relative]
        columns = columns.model_copy(update={"relative": tuple(relative)})
    if spec.picture_range is not None:
        columns = columns.model_copy(update={"picture_range": spec.picture_range})
    if spec.nan == "not_measured":
        columns = columns.model_copy(update={"missing": "hold"})
    following = frame is None and not columns.target and _predicts_the_next_row(manifest)
    if following and not set(output.labels) <= set(spec.labels):
        following = len(columns_among(file, output.labels)) == output.size
        columns = columns.model_copy(update={"target": output.labels if following else ()})
    classes = bool(columns.target) and output.task == "classification"
    if frame is not None and not columns.features and (picture := picture_column(file)):
        columns = columns.model_copy(update={"features": (picture,)})
    if merge:
        dataset = _merged([file, *merge], columns, spec, classes=classes)
    else:
        dataset = read_dataset(file, columns, classes=classes, frame=frame, encoded=spec.encoding != "raw")
    if frame is None and len(dataset.features) != spec.size:
        raise InvalidArgument(
            f"{len(dataset.features)} columns ({', '.join(dataset.features)}), {manifest.ref} takes {spec.size}",
            field="--features",
        )
    if columns.target and not classes and len(columns.target) != output.size:
        raise InvalidArgument(
            f"{len(columns.target)} columns, output '{output.name}' of {manifest.ref} has {output.size} elements",
            field="--target-column",
        )
    if classes:
        dataset = _with_classes_of(dataset, output.labels)
    if following:
        places = [] if columns.target else [spec.labels.index(name) for name in output.labels]
        dataset = _following(dataset, columns.target, places)
    return kept(dataset, only)


def _predicts_the_next_row(manifest: Manifest) -> bool:
    """Whether a model was trained to predict the next row."""
    task = manifest.training.get("config", {}).get("task", {})
    return bool(task.get("kind") == "next_step" and manifest.outputs[0].labels)


def _following(dataset: Dataset, named: Sequence[str], places: Sequence[int]) -> Dataset:
    """Set each row's target to the next row: the columns `named`, or features by their places."""
    columns = slice(None) if named else list(places)
    recordings = tuple(replace(r, target=next_rows(r, named)[:, columns]) for r in dataset.recordings)
    return replace(dataset, recordings=recordings)


def _merged(files: Sequence[Path], columns: Columns, spec: InputSpec, *, classes: bool) -> Dataset:
    """Merge several sensors' files to events, each feature from the file that has it."""
    if spec.nan != "not_measured":
        raise InvalidArgument(f"the model's input '{spec.name}' takes no NaN, which merged rows have", field="--merge")
    found = []
    for k, file in enumerate(files):
        own: dict[str, Any] = {"features": columns_among(file, columns.features)}
        if not own["features"]:
            raise InvalidArgument(f"{file} has none of {', '.join(columns.features)}", field="--merge")
        own["relative"] = tuple(name for name in columns.relative if name in own["features"])
        own |= {} if k == 0 else {"target": (), "group": ""}
        found.append(read_dataset(file, columns.model_copy(update=own), classes=classes and k == 0))
    return merged(found).with_features(columns.features)


def _with_classes_of(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """Renumber targets as the model's classes.

    -1: the model has no such class.
    """
    number = {word(label): index for index, label in enumerate(labels)}
    numbers = np.array([number.get(label, -1) for label in dataset.labels], np.int64)
    recordings = tuple(r if r.target is None else replace(r, target=numbers[r.target]) for r in dataset.recordings)
    return replace(dataset, recordings=recordings, labels=tuple(labels))


def kept(dataset: Dataset, only: Sequence[str]) -> Dataset:
    """Keep the recordings of these ids; none: all.

    Raises:
        InvalidArgument: there is no recording of an id.
    """
    known = {recording.id for recording in dataset.recordings}
    for each in only:
        if each not in known:
            raise InvalidArgument(f"'{each}', the file has {', '.join(sorted(known)[:20])}", field="--only")
    return replace(dataset, recordings=tuple(r for r in dataset.recordings if not only or r.id in only))
