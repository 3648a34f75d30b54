"""Manifest of a model: its named inputs, outputs, states, and time.

A `Manifest` is the whole contract between training and serving. Nothing here imports torch, so an edge device
can read it with only numpy and pydantic.

Time (see `TimeSpec.elapsed`)
    t_ns    int64   timestamp of a row, nanoseconds, any fixed origin
    dt_s    float32 seconds since the row that last advanced the session
    d       float   dt_s / nominal_s, the cells' input
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

if TYPE_CHECKING:
    from typing_extensions import Self

NO_TIME = int(np.iinfo(np.int64).min)
"""Timestamp of a row or session that has none."""
_FAR = 2**62
"""Nanoseconds beyond which a difference of two timestamps may overflow."""
_LEAST_PICTURE_BYTES = 4096
"""Least limit for an encoded picture: a JPEG has some hundred bytes of tables at any size."""

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

Dtype = Literal["float32", "uint8", "bool"]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
LOG_PROBABILITY, PROBABILITY = "log-probability", "probability"
"""Units of a classification's outputs."""
_NEWER = ("relative", "picture_range")
"""Fields of an input that readers of version 0.1 refuse."""


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] >= span[1]:
        raise ValueError(f"{list(span)}, expected [LOW, HIGH]")
    return span


PictureRange = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ascending)]
"""Values of a picture of more than 8 bits that become the levels 0 and 255."""
Shape = tuple[Annotated[int, Field(gt=0, lt=2**32)], ...]


class Spec(BaseModel):
    """A frozen pydantic model that validates its fields and rejects unknown ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy as pydantic does, without the original's cached properties."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[cached]
        return copy


class TensorSpec(Spec):
    """A named tensor.

    `shape` is that of one row, without the batch axis.
    """

    name: Identifier
    shape: Shape
    dtype: Dtype = "float32"

    @property
    def size(self) -> int:
        """Elements in one row."""
        return math.prod(self.shape)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row: contiguous, little-endian."""
        return self.size * self.np_dtype.itemsize

    @cached_property
    def np_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")


class InputSpec(TensorSpec):
    """An input that clients send.

    `labels` and `units` name the elements of its last axis.

    A picture is uint8 `[height, width, 3]`, or `[height, width, 1]` in grey, for the graph; clients may send a JPEG.
    """

    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    encoding: Literal["raw", "jpeg"] = "raw"
    """"jpeg": each row is an encoded picture of exactly this size, which the server decodes."""
    colours: Literal["rgb", "bgr", "grey"] | None = None
    """Order of a picture's channels; None: not stated."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """Most bytes of an encoded picture; None: its decoded size, but at least 4 KiB."""
    nan: Literal["invalid", "not_measured"] = "invalid"
    """Meaning of a NaN: the row is invalid, or this element was not measured at this time."""
    relative: tuple[str, ...] = ()
    """Labels of elements that are the difference to the row before; see `models.relative`."""
    picture_range: PictureRange | None = None
    """Values of pictures of more than 8 bits that clients make 0 and 255; see `models.levels`. None: they have 8."""

    @model_validator(mode="after")
    def _is_a_picture(self) -> InputSpec:
        if self.encoding == "raw" and self.max_bytes is not None:
            raise ValueError(f"max_bytes is {self.max_bytes}, but '{self.name}' is not encoded")
        if self.encoding == "jpeg" and self.colours is None:
            raise ValueError(f"encoding is 'jpeg', but colours is not set: expected rgb, bgr or grey for '{self.name}'")
        if self.colours is not None:
            channels = 1 if self.colours == "grey" else 3
            if self.dtype != "uint8" or len(self.shape) != 3 or self.shape[2] != channels:
                raise ValueError(
                    f"'{self.name}' is {self.dtype} {list(self.shape)}; a picture in {self.colours} is uint8 "
                    f"[height, width, {channels}]"
                )
        return self

    @model_validator(mode="after")
    def _range_is_of_pictures(self) -> InputSpec:
        if self.picture_range is not None and self.frame is None:
            raise ValueError(f"picture_range is {list(self.picture_range)}, but '{self.name}' takes no pictures")
        return self

    @cached_property
    def wire_bytes(self) -> int:
        """Most bytes of one row on the wire."""
        if self.encoding == "raw":
            return self.row_bytes
        return self.max_bytes or max(self.row_bytes, _LEAST_PICTURE_BYTES)

    @property
    def frame(self) -> tuple[int, int] | None:
        """Height and width of the input's pictures; None: it takes numbers."""
        return (self.shape[0], self.shape[1]) if self.dtype == "uint8" and len(self.shape) == 3 else None

    @model_validator(mode="after")
    def _relative_exists(self) -> InputSpec:
        for name in self.relative:
            if name not in self.labels or self.dtype != "float32" or len(self.shape) != 1:
                raise ValueError(f"relative: '{name}' is no element of '{self.name}', which is {self.dtype}")
        return self

    @model_validator(mode="after")
    def _nan_exists(self) -> InputSpec:
        if self.nan == "not_measured" and self.dtype != "float32":
            raise ValueError(f"nan is 'not_measured', but '{self.name}' is {self.dtype}, which has no NaN")
        return self


def split_inputs(specs: Sequence[InputSpec], rows: Array) -> dict[str, Array]:
    """Split rows with all inputs' elements on the last axis to `[..., *shape]` by input name.

    A model's only input is `rows` unchanged.
    """
    if len(specs) == 1:
        return {specs[0].name: rows}
    parts = np.split(rows, np.cumsum([spec.size for spec in specs])[:-1], axis=-1)
    return {
        spec.name: np.ascontiguousarray(part.reshape(*rows.shape[:-1], *spec.shape), spec.np_dtype)
        for spec, part in zip(specs, parts, strict=True)
    }


class OutputSpec(TensorSpec):
    """An output that clients get.

    `std` is the standard deviation of each element (flattened) over the training data: the unit of every tolerance.
    """

    labels: tuple[str, ...] = ()
    unit: str = ""
    """What the numbers are: `LOG_PROBABILITY` or `PROBABILITY` of a classification, or a unit; empty: not stated."""
    task: Literal["classification", "regression", "other"] = "other"
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]

    @model_validator(mode="after")
    def _std_covers_every_element(self) -> OutputSpec:
        if len(self.std) not in (1, self.size):
            raise ValueError(
                f"std has {len(self.std)} values; expected 1 or {self.size}, one per element of '{self.name}'"
            )
        return self

    @property
    def std_array(self) -> Float32Array:
        """`std`, broadcastable against `[..., *shape]`."""
        std = np.asarray(self.std, np.float32)
        return std if std.size == 1 else std.reshape(self.shape)

    def class_name(self, index: int) -> str:
        """Name of a class, or its number if it has no name."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)


class StateSpec(TensorSpec):
    """A recurrent state of a session.

    `initial` is one value, or one per element (flattened).
    """

    initial: tuple[float, ...] = (0.0,)

    @model_validator(mode="after")
    def _initial_covers_every_element(self) -> StateSpec:
        if len(self.initial) not in (1, self.size):
            raise ValueError(
                f"initial has {len(self.initial)} values; expected 1 or {self.size}, one per element of '{self.name}'"
            )
        return self

    @property
    def initial_array(self) -> Array:
        """The state of a new session, `[*shape]`."""
        initial = np.asarray(self.initial, np.dtype(self.dtype))
        return np.broadcast_to(initial.reshape(()), self.shape) if initial.size == 1 else initial.reshape(self.shape)


class Elapsed(NamedTuple):
    """Result of `TimeSpec.elapsed`: `last_ns` is `[sessions]`, the others `[sessions, time]`."""

    dt_s: Float32Array
    backwards: BoolArray
    clamped: BoolArray
    raised: BoolArray
    last_ns: Int64Array


class TimeSpec(Spec):
    """Sampling period and its bounds; cells get time in units of `nominal_s`."""

    nominal_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    min_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _ordered(self) -> TimeSpec:
        if not self.min_s <= self.nominal_s <= self.max_s:
            raise ValueError(f"expected min_s <= nominal_s <= max_s, got {self.min_s}, {self.nominal_s}, {self.max_s}")
        return self

    @classmethod
    def around(cls, nominal_s: float) -> TimeSpec:
        """Build default bounds: a thousandth to a thousand times the sampling period."""
        return cls(nominal_s=nominal_s, min_s=nominal_s / 1000, max_s=nominal_s * 1000)

    def elapsed(
        self,
        t_ns: Int64Array,
        last_ns: Int64Array,
        *,
        counts: BoolArray | None = None,
        new_clock: BoolArray | None = None,
    ) -> Elapsed:
        """Convert timestamps to dt; training, offline rollout and server all use this.

        Args:
            t_ns: `[sessions, time]` timestamps; `NO_TIME` where a row has none.
            last_ns: `[sessions]` timestamp of the row that last advanced each session; `NO_TIME` before the first.
            counts: `[sessions, time]` rows that would advance their session; the others are ignored.
            new_clock: `[sessions, time]` rows where a new clock starts; they take the nominal dt.

        Returns:
            `dt_s`: nominal without an earlier time, at least `min_s`, at most `max_s`.
            `raised`: rows whose elapsed time was below `min_s`.
            `clamped`: rows whose elapsed time was above `max_s`.
            `backwards`: rows earlier than a row that advanced before them; they must not advance the session.
            `last_ns`: each session's timestamp after these rows.
        """
        if counts is None and new_clock is None and t_ns.shape[1] == 1:
            delta_ns = self._regular(t_ns[:, 0], last_ns)
            if delta_ns is not None:
                nothing = np.zeros(t_ns.shape, np.bool_)
                return Elapsed((delta_ns * 1e-9).astype(np.float32)[:, None], nothing, nothing, nothing, t_ns[:, 0])
        timed = t_ns != NO_TIME
        if counts is not None:
            timed &= counts
        restarts = new_clock if counts is None or new_clock is None else new_clock & counts
        previous, last_ns = _previous_times(t_ns, last_ns, timed, restarts)
        measured = timed & (previous != NO_TIME)
        # The difference of two int64 fits uint64 wherever it is positive, so that no pair of timestamps overflows.
        delta_s = np.where(measured, t_ns - previous, 0).view(np.uint64) * 1e-9
        dt_s = np.where(measured, np.minimum(np.maximum(delta_s, self.min_s), self.max_s), self.nominal_s)
        return Elapsed(
            dt_s=dt_s.astype(np.float32),
            backwards=measured & (t_ns < previous),
            clamped=measured & (delta_s > self.max_s) & (t_ns >= previous),
            raised=measured & (delta_s < self.min_s) & (t_ns >= previous),
            last_ns=last_ns,
        )

    def since(self, t_ns: int, last_ns: int) -> tuple[float, bool, bool] | None:
        """Like `elapsed` for one row: `dt_s`, whether it was clamped, whether it was raised.

        None: time runs backwards.
        """
        if t_ns == NO_TIME or last_ns == NO_TIME:
            return self.nominal_s, False, False
        if t_ns < last_ns:
            return None
        delta_s = (t_ns - last_ns) * 1e-9
        return min(max(delta_s, self.min_s), self.max_s), delta_s > self.max_s, delta_s < self.min_s

    def _regular(self, t_ns: Int64Array, last_ns: Int64Array) -> Int64Array | None:
        """Differences if all times exist and lie `min_s` to `max_s` apart.

        None: some do not.

        This is the most common case; the check costs few passes over the columns.
        """
        if np.minimum.reduce(last_ns) < -_FAR or np.minimum.reduce(t_ns) < -_FAR or np.maximum.reduce(t_ns) > _FAR:
            return None
        delta_ns = t_ns - last_ns  # A wrapped difference is above _FAR.
        least, most = int(np.minimum.reduce(delta_ns)), int(np.maximum.reduce(delta_ns))
        regular = self.min_s <= least * 1e-9 and most * 1e-9 <= self.max_s and most < _FAR
        return delta_ns if regular else None


def _previous_times(
    t_ns: Int64Array, last_ns: Int64Array, timed: BoolArray, restarts: BoolArray | None
) -> tuple[Int64Array, Int64Array]:
    """Time of the last advancing row before each row, and after all rows.

    A row that runs backwards is below the running maximum, so the maximum is that of the advancing rows. `NO_TIME` is
    below every time.
    """
    if restarts is None or not restarts.any():
        known = np.where(timed, t_ns, NO_TIME)
        if t_ns.shape[1] == 1:
            return last_ns[:, None], np.maximum(last_ns, known[:, 0])
        latest = np.maximum.accumulate(np.concatenate([last_ns[:, None], known], axis=1), axis=1)
        return latest[:, :-1], latest[:, -1]
    previous = np.empty_like(t_ns)
    for k in range(t_ns.shape[1]):
        previous[:, k] = np.where(restarts[:, k], NO_TIME, last_ns)
        last_ns = np.where(timed[:, k], np.maximum(previous[:, k], t_ns[:, k]), previous[:, k])
    return previous, last_ns


LayerName = Literal["sensory", "inter", "command", "motor"]


class WiringSpec(Spec):
    """Neurons and synapses of a neural circuit policy, as trained.

    Neurons are numbered through the layers: 0 is the first sensory one.
    """

    layers: dict[LayerName, Annotated[int, Field(gt=0)]]
    """Number of neurons in each layer, from the first to the last."""
    synapses: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Literal[-1, 1]], ...]
    """Source, target, and 1 for an exciting synapse or -1 for an inhibiting one."""

    @model_validator(mode="after")
    def _synapses_join_neurons(self) -> WiringSpec:
        neurons = sum(self.layers.values())
        for source, target, _ in self.synapses:
            if max(source, target) >= neurons:
                raise ValueError(f"synapse from {source} to {target}: there are {neurons} neurons")
        return self


MAX_DROP = 0.01
"""Default of the largest loss of score by quantized weights."""


class Quantization(Spec):
    """Quantized weights and their cost on recordings that were not trained on."""

    weights: Literal["int8", "fp16"]
    split: Literal["validation", "test"]
    score: str
    """Name of the score by which models are ranked."""
    before: float
    """Score with float32 weights."""
    after: float
    """Score with quantized weights."""
    weight_bytes: int = 0
    """Bytes of weights, biases and scales in step.onnx."""
    float32_bytes: int = 0
    """Bytes of the same in float32."""


class Manifest(Spec):
    """Description of a model for the server.

    The files beside it are described in docs/bundles.md.

    Graph tensor names follow from it: each input by its name, `dt`, `state_<name>`; each output by its name,
    `aux_<name>`, `state_<name>_out`.
    """

    format_version: Literal[1] = 1
    name: ModelName
    version: Annotated[int, Field(gt=0, lt=2**63)]
    description: str = ""
    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    aux: tuple[TensorSpec, ...] = ()
    states: tuple[StateSpec, ...] = ()
    time: TimeSpec
    wiring: WiringSpec | None = None
    """Wiring of a neural circuit policy, for display only; None: the model is none."""
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """Largest error against `golden.npz`, in units of each output's `std`."""
    max_batch: Annotated[int, Field(gt=0)] | None = None
    """Sessions that the graphs may be given at once; None: any number. 1 for a model that would mix them."""
    allow_tf32: bool = False
    """Whether CUDA and TensorRT may round products to TF32; the tolerance must allow for it."""
    scores: dict[str, float] = {}
    quantization: Quantization | None = None
    """None: weights are float32."""
    training: dict[str, Any] = {}
    """Provenance of the weights: data, configuration, seed, commit, library versions."""
    files: dict[str, str] = {}
    """sha256 of each file of the bundle, except the manifest."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """See pydantic."""
        return super().model_dump(**self._for_older_readers(options))

    def model_dump_json(self, **options: Any) -> str:
        """See pydantic."""
        return super().model_dump_json(**self._for_older_readers(options))

    def _for_older_readers(self, options: dict[str, Any]) -> dict[str, Any]:
        """Leave out the fields that readers of version 0.1 refuse, unless they say something."""
        left_out: dict[str, Any] = {} if self.max_batch is not None else {"max_batch": True}
        if unused := {name for name in _NEWER if not any(getattr(each, name) for each in self.inputs)}:
            left_out["inputs"] = {"__all__": unused}
        given = options.get("exclude") or {}
        return {
            **options,
            "exclude": {**left_out, **(given if isinstance(given, dict) else dict.fromkeys(given, True))},
        }

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        names = [t.name for t in self.inputs] + [name for name, _ in self._results()]
        names += [f"state_{s.name}" for s in self.states]
        taken: set[str] = {"dt", "valid"}
        for name in names:
            if name in taken:
                raise ValueError(f"tensor name '{name}' is used twice or reserved")
            taken.add(name)
        return self

    @cached_property
    def results(self) -> Mapping[str, TensorSpec]:
        """All results of a row by name on the wire and in the graph: outputs, then `aux_<name>`."""
        return dict(self._results())

    def _results(self) -> Iterator[tuple[str, TensorSpec]]:
        yield from ((t.name, t) for t in self.outputs)
        yield from ((f"aux_{t.name}", t) for t in self.aux)

    @cached_property
    def gappy_inputs(self) -> frozenset[str]:
        """Names of inputs whose elements may be NaN: not measured at this time."""
        return frozenset(t.name for t in self.inputs if t.nan == "not_measured")

    @property
    def ref(self) -> str:
        """`name:version`, for people and logs."""
        return f"{self.name}:{self.version}"

    @property
    def state_hash(self) -> str:
        """Hash of the state schema.

        Sessions can move between bundles with the same one.
        """
        schema = [[s.name, list(s.shape), s.dtype] for s in sorted(self.states, key=lambda s: s.name)]
        return hashlib.sha256(json.dumps(schema).encode()).hexdigest()[:16]

    @cached_property
    def encoded_inputs(self) -> Mapping[str, InputSpec]:
        """Inputs whose rows are encoded pictures, by name."""
        return {t.name: t for t in self.inputs if t.encoding != "raw"}

    @property
    def row_bytes(self) -> int:
        """Most bytes of one row of all inputs on the wire."""
        return sum(t.wire_bytes for t in self.inputs)

    @property
    def state_bytes(self) -> int:
        """Bytes of one session's state."""
        return sum(s.row_bytes for s in self.states)
