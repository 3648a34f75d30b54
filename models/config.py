"""Configuration of a training: frozen, from a TOML file or a named preset. No torch here.

Every field can be overridden as `section.key=value`, with the value in TOML's syntax (text needs no quotes).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from statestream.models.cells.options import CellOptions, EncodedOptions, FramesOptions
from statestream.models.data.recordings import Columns
from statestream.models.files import read_text
from statestream.models.problems import first_problem
from statestream.models.spec import ModelName, Spec
from statestream.models.toml import to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class ConfigError(ValueError):
    """A configuration that cannot be used.

    The message names the field and the value.
    """


class TaskOptions(Spec):
    """The task: predict a class, numbers, or the next row.

    At every row, or at a recording's end. Of the next row every feature is predicted, or the columns of `data.target`.
    """

    kind: Literal["classification", "regression", "next_step"] = "classification"
    """What is predicted: a class (`data.target` names one column of labels), numbers (`data.target` names one column
    or several), or the next row: of `data.target` if it names columns, else all of it."""
    at: Literal["every", "end"] = "every"
    """"every": each row has a prediction and counts. "end": only the last row of a recording counts, as for a
    gesture that is known when it is over."""


class Source(Columns):
    """A file, or a folder of files, with its columns."""

    path: Path
    """The file, or the folder of files."""


class DataOptions(Columns):
    """Source of recordings: a registered `dataset`, or a file or folder at `path`, and the roles of their columns."""

    dataset: str = ""
    """Name of a registered data set (`statestream data list`); empty: recordings of your own at `path`."""
    path: Path | None = None
    """File or folder of recordings of your own, relative to the TOML file; every format of docs/formats.md."""
    merge: tuple[Source, ...] = ()
    """Other sensors of the same recordings, each at its own rate. Their rows are merged as events with those of
    `path`, which alone has targets and groups."""
    common_scale: tuple[Literal["features", "targets"], ...] = ()
    """Columns standardised by one common mean and deviation, as pixels are; by default each column has its own.
    Targets of a common scale have the same weights in the loss as in the mean squared error."""
    running_s: Positive | None = None
    """Standardise each feature again by its running mean and deviation over about this many seconds, to follow
    drifting offsets and gains; they are part of a session's state. None: off."""
    whiten: bool = False
    """Remove the correlation between features by a fixed map from the training split. It follows a spectral encoder;
    without one it precedes the cell or its encoder."""

    @model_validator(mode="after")
    def _one_source(self) -> DataOptions:
        if bool(self.dataset) == (self.path is not None):
            raise ValueError("set either data.dataset or data.path")
        for name in ("relative", "picture_range"):
            if getattr(self, name) and self.path is None:
                raise ValueError(f"data.{name} needs data.path")
        if self.merge and (self.path is None or self.missing != "hold"):
            raise ValueError('data.merge needs data.path, and missing = "hold": no event has every feature')
        return self


class SplitOptions(Spec):
    """Split of recordings into training, validation and test.

    Recordings are cut with `by` = "time" alone; with "group", groups are never torn apart either.
    """

    by: Literal["recording", "group", "time", "standard"] = "recording"
    """"time": the beginning of each recording is for training, its end for the test, or windows of it where `window_s`
    is set. "standard": the data set's own split."""
    window_s: Positive | None = None
    """Seconds of the windows that `by` = "time" cuts each recording to, as recordings of their own: the parts, or
    `folds`, are drawn from them. For long recordings whose end is not like their beginning."""
    gap_s: Annotated[float, Field(ge=0)] | None = None
    """Seconds that are left out at the beginning of a later part, or of each window, of a recording; None: a hundredth
    of the recording, or of the window."""
    test: Fraction = 0.2
    """Fraction for the test."""
    validation: Fraction = 0.2
    """Fraction of the rest for validation; 0: none, so no early stopping."""
    test_groups: tuple[str | int, ...] = ()
    """Exactly these groups are the test."""
    validation_groups: tuple[str | int, ...] = ()
    """Exactly these groups are for validation."""
    test_recordings: tuple[str, ...] = ()
    """Exactly these recordings are the test."""
    validation_recordings: tuple[str, ...] = ()
    """Exactly these recordings are for validation."""
    folds: Annotated[int, Field(ge=0)] = 0
    """Number of parts, of which `fold` is the test, in place of `test`; 0: no folds."""
    fold: Annotated[int, Field(ge=0)] = 0
    """The part that is the test, from 0 up, where `folds` are set; train each in turn to use every recording as a
    test."""
    seed: int = 0
    """Another seed draws other recordings; trainings with one seed are tested on the same."""

    @model_validator(mode="after")
    def _one_way(self) -> SplitOptions:
        named = [name for name in ("test_groups", "validation_groups") if getattr(self, name)]
        by_name = [name for name in ("test_recordings", "validation_recordings") if getattr(self, name)]
        if named and by_name:
            raise ValueError(f"set either split.{named[0]} or split.{by_name[0]}")
        if self.by == "time":
            for name in (*named, *by_name):
                raise ValueError(f"split.by = 'time' cuts every recording, so split.{name} has no meaning")
            if self.folds and self.window_s is None:
                raise ValueError("split.folds of split.by = 'time' are of windows: set split.window_s")
        if by_name and self.by == "group":
            raise ValueError(f"split.{by_name[0]} names recordings, split.by = 'group' keeps groups together")
        for name in ("gap_s", "window_s"):
            if getattr(self, name) is not None and self.by != "time":
                raise ValueError(f"split.{name} is for split.by = 'time'")
        if self.window_s is not None and (self.gap_s or 0) >= self.window_s:
            raise ValueError(f"split.gap_s = {self.gap_s:g} leaves nothing of windows of {self.window_s:g} s")
        return self


class AugmentOptions(Spec):
    """Random changes of training recordings, drawn again in each epoch."""

    keep_rows: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of the fraction of rows to keep, drawn per recording; the cells get the longer dt. If both are equal,
    recordings of equal length stay so, which trains faster."""
    rotate_deg: Annotated[float, Field(ge=0)] = 0.0
    """Largest rotation of each triple of `rotate` about a random axis, the same for all triples of a recording."""
    rotate: tuple[tuple[str, str, str], ...] = ()
    """Triples of features that are vectors in space."""
    mirror: tuple[str, ...] = ()
    """Features that change sign in half of the recordings, like a sensor moved to the body's other side."""
    shift: dict[str, Positive] = Field(default_factory=dict)
    """Largest constant offset by feature, drawn per recording, like another sensor's or another room's."""
    stretch: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest fraction by which time is stretched or compressed."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest fraction by which pictures are brightened or darkened."""
    shift_pixels: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 0)
    """Largest shift of pictures in pixels, vertical and horizontal, like another mounting of the camera."""
    blur: Annotated[int, Field(ge=0)] = 0
    """Most passes of blurring over neighbouring pixels."""
    mirror_pictures: tuple[str, ...] = ()
    """Targets that change sign when pictures are mirrored, left to right, in half of the recordings; empty: they are
    never mirrored."""


class TrainingOptions(Spec):
    """Options of the optimisation."""

    epochs: Count = 100
    """Most epochs; `patience` may end the training earlier. `statestream train` prints how many optimiser steps they
    are: a few hundred at least, better some thousands."""
    batch: Count = 32
    """Recordings, or segments of them, per batch, over all devices."""
    segment: Annotated[int, Field(ge=0)] | None = None
    """Rows of the random segments that are trained on; 0: whole recordings. None: four windows where a recording is
    longer, else whole recordings; always whole ones for task.at = "end"."""
    passes: Count | None = None
    """Times that an epoch uses each recording, or a random segment of it. None: as many segments of each as cover it,
    and all of that again until the epoch has 20 optimiser steps."""
    window: Count = 256
    """Rows per optimiser step (truncated back-propagation); the state is carried between windows."""
    learning_rate: Positive = 3e-3
    """Of AdamW, at its highest. Lower it (1e-3) where the loss jumps, raise it (1e-2) for small networks that learn
    slowly."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW: 0.01 to 0.3 helps where the training loss falls and the validation loss rises."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """"cosine": the learning rate rises in the first tenth of all steps, then falls to a hundredth. "constant": it
    stays."""
    gradient_clip: Positive = 1.0
    """Largest norm of a gradient; keeps recurrent networks from jumping."""
    keep_by: Literal["loss", "score"] = "loss"
    """What chooses the epoch to keep: the least validation "loss", or the best validation "score", which is accuracy or
    mean squared error. The loss of a classification often rises while its accuracy does, too."""
    patience: Count = 20
    """Epochs without a better validation, by `keep_by`, before training stops."""
    validate_every: Count = 1
    """Epochs between validations."""
    seed: int = 0
    """Of the weights, the order and the augmentation: the same seed trains the same network on the same machine."""
    accelerator: str = "cpu"
    """Where the network is trained: "cpu", "gpu" or another accelerator of Lightning."""
    devices: Count = 1
    """Number of devices or processes that share every batch."""
    threads: Annotated[int, Field(ge=0)] = 1
    """Threads of torch; 0: torch's default. Small cells are fastest with one."""
    precision: Literal["float32", "bf16"] = "float32"
    """"bf16": gradients of CfC networks are multiplied in bfloat16, to two or three digits: about a tenth less time, on
    processors with instructions for it. What the network computes stays float32."""
    augment: AugmentOptions = AugmentOptions()
    """Random changes of training recordings, for networks that meet more than was recorded."""


class Config(Spec):
    """Configuration of one training."""

    name: ModelName
    """Name of the run, and of the exported model."""
    description: str = ""
    """What the model is for; part of the bundle."""
    task: TaskOptions = TaskOptions()
    """What is predicted."""
    data: DataOptions
    """Which recordings, and which of their columns."""
    split: SplitOptions = SplitOptions()
    """Which recordings are for validation and which for the test."""
    cell: CellOptions
    """The recurrent network; docs/cells.md compares the kinds."""
    training: TrainingOptions = TrainingOptions()
    """How it is trained."""

    @model_validator(mode="after")
    def _rows_are_whitened_and_pictures_not(self) -> Config:
        if self.data.whiten and isinstance(self.cell, EncodedOptions) and isinstance(self.cell.encoder, FramesOptions):
            raise ValueError("data.whiten needs rows of numbers; cell.encoder takes pictures")
        return self

    def to_toml(self) -> str:
        """Write all fields as a TOML file."""
        return to_toml(self.model_dump(mode="json"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration of a preset, a TOML file or a run's JSON.

    Args:
        source: name of a preset, or path of a file. Paths of recordings in a TOML file are relative to it.
        overrides: `section.key=value` each; paths in them are relative to the working directory.

    Raises:
        ConfigError: a value is invalid; the text names the field and the value.
    """
    values = _read(source)
    for override in overrides:
        _override(values, override)
    return parse_config(values, str(source))


def parse_config(values: dict[str, Any], source: str) -> Config:
    """Validate plain values as a configuration; raises `ConfigError`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(error, Config, values)}") from error


def preset_names() -> list[str]:
    """Names of the presets in the package."""
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
    return values if path.suffix == ".json" else _beside(path, values)


def _beside(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a TOML file, with paths of recordings relative to the working directory."""
    data = values.get("data")
    merged = data.get("merge") if isinstance(data, dict) else None
    for table in (data, *(merged if isinstance(merged, list) else ())):
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            table["path"] = str(path.parent / table["path"])
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
