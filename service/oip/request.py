"""Parameters of an inference request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from statestream.models.spec import NO_TIME
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.auth.identity import Identity
from statestream.service.errors import InvalidArgument

Parameters = Mapping[str, pb.InferParameter]
_INTEGERS = ("int64_param", "uint64_param")


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


def parse_request(request: pb.ModelInferRequest, who: Identity) -> SequenceRequest:
    """Read the parameters of a request. Raises InvalidArgument, naming the parameter and its value."""
    parameters = request.parameters
    sequence = _sequence(parameters)
    if not sequence:
        raise InvalidArgument(
            f"inference request to model '{request.model_name}' must specify a non-zero or non-empty correlation ID "
            "(parameter 'sequence_id')"
        )
    return SequenceRequest(
        who=who,
        model=request.model_name,
        version=version_of(request.model_version),
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
    if given.WhichOneof("parameter_choice") == "string_param":
        return given.string_param
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
    kind = parameters[name].WhichOneof("parameter_choice")
    if kind not in _INTEGERS:
        raise InvalidArgument(f"parameter '{name}' is a {kind}; expected one of {', '.join(_INTEGERS)}")
    return int(getattr(parameters[name], kind))


def _flag(parameters: Parameters, name: str) -> bool:
    if name not in parameters:
        return False
    kind = parameters[name].WhichOneof("parameter_choice")
    if kind != "bool_param":
        raise InvalidArgument(f"parameter '{name}' is a {kind}; expected a bool_param")
    return parameters[name].bool_param
