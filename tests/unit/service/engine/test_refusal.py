"""The reason, not what stands before it."""

from __future__ import annotations

import pytest

from statestream.models.bundle import BundleError
from statestream.service.engine.refusal import reason, refusing
from statestream.service.errors import FailedPrecondition

MODEL = (
    "[ONNXRuntimeError] : 1 : FAIL : Load model from /srv/own/1/step.onnx failed:/onnxruntime_src/core/graph/"
    "model.cc:181 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&, const "
    "onnxruntime::IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, const "
    "onnxruntime::ModelOptions&) Unsupported model IR version: 14, max supported IR version: 13\n"
)
RESHAPE = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape node. Name:'r' "
    "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:47 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) "
    "input_shape_size == size was false. The tensor cannot be reshaped to the requested shape. Input shape:{1,2}, "
    "requested shape:{1,3}\n"
)
LAMBDA = (
    "[ONNXRuntimeError] : 1 : FAIL : /a/b.cc:7 auto onnxruntime::f(int)::<lambda(const T&)>::operator()(T) const "
    "[with T = float] It (the tensor) is wrong"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MODEL, "Unsupported model IR version: 14, max supported IR version: 13"),
        (
            RESHAPE,
            "Non-zero status code returned while running Reshape node. Name:'r' Status Message: input_shape_size == "
            "size was false. The tensor cannot be reshaped to the requested shape. Input shape:{1,2}, requested "
            "shape:{1,3}",
        ),
        ("one\n  two", "one two"),
        ("", "ValueError"),
        ("/a/b.cc:7 no signature", "no signature"),
        ("/a/b.cc:7 f(never closed", "f(never closed"),
    ],
)
def test_a_reason_is_one_line_without_cpp(text: str, expected: str) -> None:
    assert reason(ValueError(text)) == expected


def test_a_lambda_has_a_signature_too() -> None:
    assert reason(ValueError(LAMBDA)).endswith("It (the tensor) is wrong")


def test_a_long_reason_is_cut() -> None:
    assert len(reason(ValueError("x" * 10_000))) <= 400


def test_anything_becomes_a_refusal_and_refusals_stay_what_they_are() -> None:
    with pytest.raises(BundleError, match=r"step\.onnx: KeyError 'h'"), refusing("step.onnx"):
        raise KeyError("h")
    for error in (BundleError("said already"), FailedPrecondition("no onnxruntime")):
        with pytest.raises(type(error), match=r"^(said already|no onnxruntime)$"), refusing("step.onnx"):
            raise error
