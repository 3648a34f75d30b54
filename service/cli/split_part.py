"""Part of a model's split: the recordings that it was trained, validated or tested on, by its bundle's manifest."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from statestream.models.spec import Manifest
from statestream.service.errors import FailedPrecondition

if TYPE_CHECKING:
    from statestream.models.config import Config
    from statestream.models.data.recordings import Columns, Dataset


class Part(str, Enum):
    """Part of a split."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def trained_with(manifest: Manifest) -> Config:
    """The configuration of a model's training.

    Raises:
        FailedPrecondition: its manifest has none, or one of a registered data set.
    """
    from statestream.models.config import parse_config

    values = manifest.training.get("config")
    if not values:
        raise FailedPrecondition(f"{manifest.ref} does not say how it was trained: --split has no meaning")
    config = parse_config(values, manifest.ref)
    if config.data.path is None:
        raise FailedPrecondition(
            f"{manifest.ref} was trained on the data set '{config.data.dataset}': --split is for files of one's own"
        )
    return config


def columns_of(config: Config, given: Columns) -> Columns:
    """Columns of a training, but for those that are given."""
    from statestream.models.data.recordings import Columns

    own = {name: getattr(config.data, name) for name in Columns.model_fields}
    if config.task.kind == "next_step":
        own["target"] = ()  # The next row is read from the rows themselves.
    named = {name: value for name in given.model_fields_set if (value := getattr(given, name))}
    return Columns(**own | named)


def part_of(dataset: Dataset, config: Config, part: Part) -> Dataset:
    """Recordings of a part, split as in the training.

    Raises:
        DataError: the recordings cannot be split so.
        FailedPrecondition: the part is empty.
    """
    from statestream.models.training.splits import split_dataset

    if config.task.kind == "next_step":  # No row follows the last one, which was not trained on.
        rows = tuple(r.where(slice(0, -1)) for r in dataset.recordings if len(r) > 1)
        dataset = replace(dataset, recordings=rows)
    recordings = getattr(split_dataset(dataset, config.split), part.value)
    if not recordings:
        raise FailedPrecondition(f"the training had no {part.value} split")
    return replace(dataset, recordings=recordings)
