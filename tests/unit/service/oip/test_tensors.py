"""Tensors of requests and responses, raw and typed, of every type that a manifest knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from statestream.models.spec import InputSpec, Manifest, OutputSpec, TensorSpec, TimeSpec
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.errors import InvalidArgument
from statestream.service.oip.tensors import Row, response_of, row_of, wanted_outputs
from statestream.service.transports.grpc.oip_messages import infer_request, infer_response

MANIFEST = Manifest(
    name="m",
    version=4,
    inputs=(
        InputSpec(name="x", shape=(3,)),
        InputSpec(name="pixels", shape=(2, 2), dtype="uint8"),
        InputSpec(name="mask", shape=(2,), dtype="bool"),
        InputSpec(name="eye", shape=(4, 6, 3), dtype="uint8", encoding="jpeg", colours="rgb"),
    ),
    outputs=(OutputSpec(name="y", shape=(2,), std=(1.0,)), OutputSpec(name="z", shape=(1,), std=(1.0,))),
    aux=(TensorSpec(name="tau", shape=(2,)),),
    time=TimeSpec.around(0.1),
)
VALUES = {
    "mask": np.array([[True, False]]),
    "x": np.array([[1.5, -2, 3]], np.float32),
    "pixels": np.array([[[0, 255], [7, 8]]], np.uint8),
}
JPEG = b"as its encoder made it"
DATATYPES = {"x": "FP32", "pixels": "UINT8", "mask": "BOOL"}
CONTENTS = {"x": "fp32_contents", "pixels": "uint_contents", "mask": "bool_contents"}


def request(*, typed: bool = False) -> pb.ModelInferRequest:
    """In another order than the manifest's."""
    asked = pb.ModelInferRequest(model_name="m", id="42")
    for name, value in VALUES.items():
        tensor = asked.inputs.add(name=name, datatype=DATATYPES[name], shape=value.shape)
        if typed:
            getattr(tensor.contents, CONTENTS[name]).extend(value.ravel().tolist())
        else:
            asked.raw_input_contents.append(value.tobytes())
    picture = asked.inputs.add(name="eye", datatype="BYTES", shape=(1, 1))
    if typed:
        picture.contents.bytes_contents.append(JPEG)
    else:
        asked.raw_input_contents.append(len(JPEG).to_bytes(4, "little") + JPEG)
    return asked


def answered(asked: pb.ModelInferRequest, outputs: dict[str, bytes]) -> pb.ModelInferResponse:
    given = infer_request(asked)
    return infer_response(response_of(given, MANIFEST, wanted_outputs(given, MANIFEST), outputs))


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
def test_inputs_become_columns_in_the_manifests_order(typed: bool) -> None:
    columns = [(t.name, VALUES[t.name].tobytes()) for t in MANIFEST.inputs if t.name != "eye"]
    assert row_of(infer_request(request(typed=typed)), MANIFEST) == Row(columns, {"eye": [JPEG]})


def test_outputs_are_raw_in_the_order_asked_for() -> None:
    asked = request()
    outputs = {"y": b"8 bytes!", "z": b"four", "aux_tau": b"16 bytes"}
    response = answered(asked, outputs)
    assert (response.model_name, response.model_version, response.id) == ("m", "4", "42")
    assert [(t.name, t.datatype, list(t.shape)) for t in response.outputs] == [
        ("y", "FP32", [1, 2]),
        ("z", "FP32", [1, 1]),
    ]
    assert list(response.raw_output_contents) == [b"8 bytes!", b"four"]
    for name in ("aux_tau", "y"):
        asked.outputs.add(name=name)
    response = answered(asked, outputs)
    assert [t.name for t in response.outputs] == ["aux_tau", "y"]
    assert list(response.raw_output_contents) == [b"16 bytes", b"8 bytes!"]


def lose_raw(asked: pb.ModelInferRequest) -> None:
    del asked.raw_input_contents[2]


def shorten_raw(asked: pb.ModelInferRequest) -> None:
    asked.raw_input_contents[1] = b"four"


def add_contents(asked: pb.ModelInferRequest) -> None:
    asked.inputs[1].contents.fp32_contents.append(1.0)


def repeat(asked: pb.ModelInferRequest) -> None:
    asked.inputs.add().CopyFrom(asked.inputs[0])
    asked.raw_input_contents.append(asked.raw_input_contents[0])


def lose_an_input(asked: pb.ModelInferRequest) -> None:
    del asked.inputs[0]
    del asked.raw_input_contents[0]


def cut_the_picture(asked: pb.ModelInferRequest) -> None:
    asked.raw_input_contents[3] = asked.raw_input_contents[3][:-2]


def lose_the_pictures_length(asked: pb.ModelInferRequest) -> None:
    asked.raw_input_contents[3] = b"abc"


def share_memory(asked: pb.ModelInferRequest) -> None:
    asked.inputs[1].parameters["shared_memory_region"].string_param = "region"


def shape(*dims: int) -> Any:
    def change(asked: pb.ModelInferRequest) -> None:
        asked.inputs[1].shape[:] = dims

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_raw, "unexpected number of raw_input_contents for model 'm': expected 4, one for each input, got 3"),
        (shorten_raw, "input byte size mismatch for input 'x' for model 'm'. Expected 12, got 4"),
        (add_contents, "contents field must not be specified when using raw_input_contents for 'x' for model 'm'"),
        (repeat, "input 'mask' already exists in request"),
        (lose_an_input, "Got inputs ['x','pixels','eye'], but missing required inputs ['mask']"),
        (cut_the_picture, "input byte size mismatch for input 'eye' for model 'm'. Expected 26, got 24"),
        (lose_the_pictures_length, "input byte size mismatch for input 'eye' for model 'm'. Expected 4, got 3"),
        (share_memory, "input 'x': parameter 'shared_memory_region' is not supported"),
        (shape(), "unexpected shape for input 'x' for model 'm'. Expected [-1,3], got []"),
        (shape(1), "Expected [-1,3], got [1]"),
        (shape(1, 3, 1), "Expected [-1,3], got [1,3,1]"),
        (shape(0, 3), "must specify batch-size 1 due to requirements of sequence batcher, got 0"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_the_manifests_are_named(damage: Any, words: str) -> None:
    asked = request()
    damage(asked)
    with pytest.raises(InvalidArgument) as error:
        row_of(infer_request(asked), MANIFEST)
    assert words in error.value.text


def test_typed_values_must_be_as_many_and_in_range() -> None:
    asked = request(typed=True)
    asked.inputs[2].contents.uint_contents[0] = 256
    with pytest.raises(InvalidArgument, match="input 'pixels': 256 in uint_contents exceeds UINT8"):
        row_of(infer_request(asked), MANIFEST)
    del asked.inputs[2].contents.uint_contents[0]
    with pytest.raises(InvalidArgument, match=r"values for input 'pixels' .* Expected 4 in uint_contents, got 3"):
        row_of(infer_request(asked), MANIFEST)


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
def test_outputs_are_values_and_nothing_else(parameter: str) -> None:
    asked = request()
    asked.outputs.add(name="y").parameters[parameter].int64_param = 3
    with pytest.raises(InvalidArgument, match=f"output 'y': parameter '{parameter}' is not supported"):
        wanted_outputs(infer_request(asked), MANIFEST)
