"""What the parameters of a request ask for."""

from __future__ import annotations

from typing import Any

import pytest

from statestream.models.spec import NO_TIME
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.auth.identity import SERVER
from statestream.service.errors import InvalidArgument
from statestream.service.oip.request import SequenceRequest, parse_request
from statestream.service.transports.grpc.oip_messages import infer_request


def read(request: pb.ModelInferRequest) -> SequenceRequest:
    return parse_request(infer_request(request), SERVER)


def request(version: str = "", **parameters: tuple[str, Any]) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name="m",
        model_version=version,
        parameters={name: pb.InferParameter(**{kind: value}) for name, (kind, value) in parameters.items()},
    )


def test_parameters_are_read_and_others_passed_over() -> None:
    assert read(request(sequence_id=("int64_param", 7))) == SequenceRequest(
        SERVER, "m", 0, "7", False, False, 0, NO_TIME
    )
    everything = request(
        "3",
        sequence_id=("string_param", "left arm"),
        sequence_start=("bool_param", True),
        sequence_end=("bool_param", True),
        timeout=("int64_param", 5000),
        timestamp_ns=("int64_param", -1),
        priority=("uint64_param", 2),
        colour=("string_param", "blue"),
    )
    assert read(everything) == SequenceRequest(SERVER, "m", 3, "left arm", True, True, 5000, -1)
    assert read(everything).session_id == "m/left arm"


@pytest.mark.parametrize(
    ("kind", "value", "sequence"),
    [("int64_param", -1, str(2**64 - 1)), ("uint64_param", 2**64 - 1, str(2**64 - 1)), ("string_param", "12", "12")],
)
def test_ids_are_unsigned_numbers_or_words(kind: str, value: Any, sequence: str) -> None:
    assert read(request(sequence_id=(kind, value))).sequence == sequence


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sequence_id": ("int64_param", 0)}, "to model 'm' must specify a non-zero or non-empty correlation ID"),
        ({"sequence_id": ("string_param", "")}, "must specify a non-zero or non-empty correlation ID"),
        ({"sequence_id": ("double_param", 1.5)}, "'sequence_id' is a double_param; expected one of int64_param"),
        ({"sequence_start": ("int64_param", 1)}, "'sequence_start' is a int64_param; expected a bool_param"),
        ({"timeout": ("int64_param", -1)}, "'timeout': -1; expected 0 to 4294967295 microseconds"),
        ({"timestamp_ns": ("double_param", 1.0)}, "'timestamp_ns' is a double_param"),
    ],
)
def test_parameters_that_make_no_sense_are_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        read(request(**({"sequence_id": ("int64_param", 1)} | parameters)))
    assert words in error.value.text


def test_a_request_without_a_sequence_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="must specify a non-zero or non-empty correlation ID"):
        read(request())


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "one", "²"])
def test_a_version_is_a_number_from_1(version: str) -> None:
    with pytest.raises(InvalidArgument, match=f"specified version string '{version}'"):
        read(request(version, sequence_id=("int64_param", 1)))
