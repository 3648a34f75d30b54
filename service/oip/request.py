"""Inference request and its answer as values, and the parameters of a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from statestream.models.spec import NO_TIME
from statestream.service.auth.identity import Identity
from statestream.service.errors import InvalidArgument

_INTEGERS = ("int64_param", "uint64_param")


class Parameter(NamedTuple):
    """Parameter of a request."""

    kind: str | None
    """The protocol's field that has the value, such as `int64_param`; None: no field has one."""
    value: bool | int | float | str | None


Parameters = Mapping[str, Parameter]


class InputTensor(NamedTuple):
    """Tensor of a request, without its raw data."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: Mapping[str, Sequence[Any]] | None
    """Typed values by field, such as `fp32_contents`; None: the tensor has no contents."""
    parameters: Collection[str]
    """Names of the tensor's parameters."""


class RequestedOutput(NamedTuple):
    """Output that a request asks for."""

    name: str
    parameters: Collection[str]


class InferRequest(NamedTuple):
    """Request for one step of one sequence, as the client wrote it."""

    model: str
    version: str
    id: str
    parameters: Parameters
    inputs: Sequence[InputTensor]
    outputs: Sequence[RequestedOutput]
    raw: Sequence[bytes]
    """Data of each input, or empty where the inputs have typed contents."""


class OutputTensor(NamedTuple):
    """Tensor of an answer, with its raw data."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class InferResponse(NamedTuple):
    """Answer to an `InferRequest`."""

    model: str
    version: int
    id: str
    outputs: Sequence[OutputTensor]


class SequenceRequest(NamedTuple):
    """Request for one step of one sequence."""

    who: Identity
    model: str
    version: int
    """0: the active one."""
    sequence: str
    """An integer and its decimal digits are the same sequence."""
    start: bool
    end: bool
    timeout_us: int
    """How long the step may wait for its turn; 0: without limit."""
    t_ns: int
    """When the row was measured; `NO_TIME`: the nominal dt after the previous row."""

    @property
    def session_id(self) -> str:
        """Id of the session; it includes the model, as sequences of different models may have the same id."""
        return f"{self.model}/{self.sequence}"


def parse_request(request: InferRequest, who: Identity) -> SequenceRequest:
    """Read the parameters of a request. Raises InvalidArgument, naming the parameter and its value."""
    parameters = request.parameters
    sequence = _sequence(parameters)
    if not sequence:
        raise InvalidArgument(
            f"inference request to model '{request.model}' must specify a non-zero or non-empty correlation ID "
            "(parameter 'sequence_id')"
        )
    return SequenceRequest(
        who=who,
        model=request.model,
        version=version_of(request.version),
        sequence=sequence,
        start=_flag(parameters, "sequence_start"),
        end=_flag(parameters, "sequence_end"),
        timeout_us=_timeout_us(parameters),
        t_ns=_integer(parameters, "timestamp_ns", NO_TIME),
    )


def version_of(text: str) -> int:
    """Parse a model version; empty stands for the active one, 0."""
    if text and not (text.isdecimal() and int(text) > 0):
        raise InvalidArgument(
            f"failed to get model version from specified version string '{text}', "
            "version should be an integral value > 0"
        )
    return int(text or 0)


def _sequence(parameters: Parameters) -> str:
    if "sequence_id" not in parameters:
        return ""
    given = parameters["sequence_id"]
    if given.kind == "string_param":
        return str(given.value)
    # Clients put an unsigned number into the signed field.
    number = _integer(parameters, "sequence_id", 0) % 2**64
    return str(number) if number else ""


def _timeout_us(parameters: Parameters) -> int:
    timeout_us = _integer(parameters, "timeout", 0)
    if not 0 <= timeout_us < 2**32:
        raise InvalidArgument(f"parameter 'timeout': {timeout_us}; expected 0 to {2**32 - 1} microseconds")
    return timeout_us


def _integer(parameters: Parameters, name: str, default: int) -> int:
    if name not in parameters:
        return default
    kind, value = parameters[name]
    if kind not in _INTEGERS or not isinstance(value, int):
        raise InvalidArgument(f"parameter '{name}' is a {kind}; expected one of {', '.join(_INTEGERS)}")
    return value


def _flag(parameters: Parameters, name: str) -> bool:
    if name not in parameters:
        return False
    kind, value = parameters[name]
    if kind != "bool_param":
        raise InvalidArgument(f"parameter '{name}' is a {kind}; expected a bool_param")
    return bool(value)
