"""The whole configuration of a training, frozen, from one TOML file or a named preset. No torch here.

Every field can be overridden as `section.key=value`, the value as TOML writes it (text needs no quotes).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from statestream.models.bundle import first_problem
from statestream.models.cells.options import CellOptions
from statestream.models.data.recordings import Columns
from statestream.models.files import read_text
from statestream.models.spec import ModelName, Spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and the value it got."""


class TaskOptions(Spec):
    """What is learned: a class, numbers, or the next row; from every row, or from a recording's last."""

    kind: Literal["classification", "regression", "next_step"] = "classification"
    at: Literal["every", "end"] = "every"


class Source(Columns):
    """A file, or a folder of files, with its columns."""

    path: Path


class DataOptions(Columns):
    """Where recordings come from: a known `dataset`, or a file or folder at `path` (see `Columns`)."""

    dataset: str = ""
    path: Path | None = None
    merge: tuple[Source, ...] = ()
    """Other sensors of the same recordings, at rates of their own: their rows become events among those of `path`,
    which alone has targets and groups."""
    common_scale: tuple[Literal["features", "targets"], ...] = ()
    """What is standardised by one mean and deviation for all columns, as pixels are; else each column by its own.
    Targets of a common scale count in the loss as they do in the mean squared error."""
    running_s: Positive | None = None
    """Features are standardised once more, each by its own mean and deviation of about the last so many seconds, so
    that offsets and gains that drift are followed; a client's session holds them."""

    @model_validator(mode="after")
    def _one_source(self) -> DataOptions:
        if bool(self.dataset) == (self.path is not None):
            raise ValueError("give either data.dataset or data.path")
        if self.merge and (self.path is None or self.missing != "hold"):
            raise ValueError('data.merge needs data.path, and missing = "hold": no event has every feature')
        return self


class SplitOptions(Spec):
    """Which recordings train, validate and test. Parts of a recording are never split; groups aren't, `by` group."""

    by: Literal["recording", "group", "standard"] = "recording"
    """"standard": as the data set itself is split."""
    test: Fraction = 0.2
    validation: Fraction = 0.2
    """Of what the test leaves over; 0: none, so no early stopping."""
    test_groups: tuple[str | int, ...] = ()
    """Exactly these groups are the test."""
    validation_groups: tuple[str | int, ...] = ()
    folds: Annotated[int, Field(ge=0)] = 0
    """Instead of a fraction: this many parts, of which `fold` is the test."""
    fold: Annotated[int, Field(ge=0)] = 0
    seed: int = 0


class AugmentOptions(Spec):
    """What is changed in a training recording, anew in each epoch."""

    keep_rows: tuple[Positive, Positive] = (1.0, 1.0)
    """A part of the rows between these, drawn for each recording, is kept; the cells see the longer dt. Where both are
    equal, recordings of one length stay of one length, which trains faster."""
    rotate_deg: Annotated[float, Field(ge=0)] = 0.0
    """Largest turn of each triple of `rotate` about a random axis, the same for all triples of a recording."""
    rotate: tuple[tuple[str, str, str], ...] = ()
    """Features that are vectors in space."""
    mirror: tuple[str, ...] = ()
    """Features that change sign in every second recording, as when a sensor moves to the body's other side."""
    shift: dict[str, Positive] = Field(default_factory=dict)
    """Features by whose amount, up or down, a recording is off throughout, as another sensor or another room is."""
    stretch: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Time runs faster or slower by up to this part."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Pictures are lighter or darker by up to this part."""
    shift_pixels: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 0)
    """Pictures are moved by up to so many pixels, down or up and sideways, as when a camera is mounted anew."""
    blur: Annotated[int, Field(ge=0)] = 0
    """Pictures are blurred by up to so many passes over neighbouring pixels."""
    mirror_pictures: tuple[str, ...] = ()
    """Pictures are mirrored, left for right, in every second recording, and these targets change sign with them."""


class TrainingOptions(Spec):
    """How it is learned."""

    epochs: Count = 100
    batch: Count = 32
    """Recordings, or segments of them, in a batch, over all devices."""
    segment: Annotated[int, Field(ge=0)] = 0
    """Rows of one random piece of each recording in an epoch; 0: whole recordings."""
    window: Count = 256
    """Rows between optimiser steps (truncated back-propagation); state is carried from window to window."""
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    gradient_clip: Positive = 1.0
    patience: Count = 20
    """Epochs without a better validation loss before it stops."""
    validate_every: Count = 1
    seed: int = 0
    accelerator: str = "cpu"
    devices: Count = 1
    threads: Annotated[int, Field(ge=0)] = 1
    """Of torch; 0 leaves its own choice. Small cells are fastest with one."""
    augment: AugmentOptions = AugmentOptions()


class Config(Spec):
    """One training."""

    name: ModelName
    description: str = ""
    task: TaskOptions = TaskOptions()
    data: DataOptions
    split: SplitOptions = SplitOptions()
    cell: CellOptions
    training: TrainingOptions = TrainingOptions()


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name, a TOML file or a run's JSON, with `section.key=value` overrides.

    Raises:
        ConfigError: naming the field and the value it got.
    """
    values = _read(source)
    for override in overrides:
        _override(values, override)
    return parse_config(values, str(source))


def parse_config(values: dict[str, Any], source: str) -> Config:
    """The configuration of plain values; raises `ConfigError`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(error)}") from error


def preset_names() -> list[str]:
    """Every preset that comes with the package."""
    folder = resources.files("statestream.models.presets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in (".toml", ".json"):
        if str(source) not in preset_names():
            raise ConfigError(f"no preset '{source}' (a file ends in .toml); presets: {', '.join(preset_names())}")
        return tomllib.loads(resources.files("statestream.models.presets").joinpath(f"{source}.toml").read_text())
    try:
        text = read_text(path)
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"override '{override}': expected section.key=value")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override '{override}': '{section}' is a value, not a section")
    values[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
