"""Conversion of request tensors to rows, and of outputs to response tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from statestream.models.spec import InputSpec, Manifest, TensorSpec
from statestream.service.errors import InvalidArgument
from statestream.service.oip.request import InferRequest, InferResponse, InputTensor, OutputTensor

_DATATYPES = {"float32": "FP32", "uint8": "UINT8", "bool": "BOOL"}
_CONTENTS = {"FP32": "fp32_contents", "UINT8": "uint_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
_LENGTH = struct.Struct("<I")
"""Length before each element of raw BYTES."""
_SHARED_MEMORY = "shared_memory_region"


class Form(NamedTuple):
    """The protocol's datatype and shape of a tensor; an encoded image is an element of BYTES."""

    datatype: str
    shape: tuple[int, ...]
    """Shape of one row."""


def form_of(spec: TensorSpec) -> Form:
    """Datatype and shape in which a tensor is sent."""
    if isinstance(spec, InputSpec) and spec.encoding != "raw":
        return Form("BYTES", (1,))
    return Form(_DATATYPES[spec.dtype], spec.shape)


class Row(NamedTuple):
    """The only row of a request."""

    columns: list[tuple[str, bytes]]
    """Name and data of each input, in the manifest's order."""
    frames: dict[str, list[bytes]]
    """Images of encoded inputs."""


def row_of(request: InferRequest, manifest: Manifest) -> Row:
    """Read the tensors of a request.

    Raises:
        InvalidArgument: an input is missing, unknown, or does not fit the manifest; the message is Triton's.
    """
    raw = request.raw
    if raw and len(raw) != len(request.inputs):
        raise InvalidArgument(
            f"unexpected number of raw_input_contents for model '{manifest.name}': expected "
            f"{len(request.inputs)}, one for each input, got {len(raw)}"
        )
    given = {tensor.name: place for place, tensor in enumerate(request.inputs)}
    _check_names([tensor.name for tensor in request.inputs], manifest)
    row = Row([], {})
    for spec in manifest.inputs:
        place = given[spec.name]
        tensor = request.inputs[place]
        form = form_of(spec)
        _check(tensor, form, manifest.name)
        data = _raw(tensor, raw[place], spec, manifest.name) if raw else _typed(tensor, spec, manifest.name)
        if form.datatype == "BYTES":
            row.frames[spec.name] = [data]
        else:
            row.columns.append((spec.name, data))
    return row


def wanted_outputs(request: InferRequest, manifest: Manifest) -> list[TensorSpec]:
    """The outputs that a request asks for, which may include `aux_<name>`; if none, all of the manifest's.

    Raises:
        InvalidArgument: an output does not exist, or has an unsupported parameter.
    """
    if not request.outputs:
        return list(manifest.outputs)
    specs = output_specs(manifest)
    for output in request.outputs:
        if output.name not in specs:
            raise InvalidArgument(f"unexpected inference output '{output.name}' for model '{manifest.name}'")
        for name in ("classification", _SHARED_MEMORY):
            if name in output.parameters:
                raise InvalidArgument(f"output '{output.name}': parameter '{name}' is not supported")
    return [specs[output.name] for output in request.outputs]


def output_specs(manifest: Manifest) -> dict[str, TensorSpec]:
    """Specs of all outputs that may be requested, by name."""
    return {name: spec.model_copy(update={"name": name}) for name, spec in manifest.results.items()}


def response_of(
    request: InferRequest, manifest: Manifest, wanted: Sequence[TensorSpec], outputs: Mapping[str, bytes]
) -> InferResponse:
    """Build a request's response, with the outputs `wanted` as raw bytes."""
    tensors = [OutputTensor(t.name, _DATATYPES[t.dtype], (1, *t.shape), outputs[t.name]) for t in wanted]
    return InferResponse(manifest.name, manifest.version, request.id, tensors)


def _check_names(names: Sequence[str], manifest: Manifest) -> None:
    expected = [spec.name for spec in manifest.inputs]
    for place, name in enumerate(names):
        if name not in expected:
            raise InvalidArgument(f"unexpected inference input '{name}' for model '{manifest.name}'")
        if name in names[:place]:
            raise InvalidArgument(f"input '{name}' already exists in request to model '{manifest.name}'")
    if missing := [name for name in expected if name not in names]:
        raise InvalidArgument(
            f"expected {len(expected)} inputs but got {len(names)} inputs for model '{manifest.name}'. Got inputs "
            f"{_listed(names)}, but missing required inputs {_listed(missing)}. Please provide all required inputs."
        )


def _check(tensor: InputTensor, form: Form, model: str) -> None:
    if _SHARED_MEMORY in tensor.parameters:
        raise InvalidArgument(f"input '{tensor.name}': parameter '{_SHARED_MEMORY}' is not supported")
    if tensor.datatype != form.datatype:
        raise InvalidArgument(
            f"inference input '{tensor.name}' data-type is '{tensor.datatype}', but model '{model}' expects "
            f"'{form.datatype}'"
        )
    shape = tensor.shape
    if shape[1:] != form.shape or not shape:
        raise InvalidArgument(
            f"unexpected shape for input '{tensor.name}' for model '{model}'. "
            f"Expected [{_dims((-1, *form.shape))}], got [{_dims(shape)}]."
        )
    if shape[0] != 1:
        raise InvalidArgument(
            f"inference request to model '{model}' must specify batch-size 1 due to requirements of sequence batcher, "
            f"got {shape[0]} in the shape of input '{tensor.name}'"
        )


def _raw(tensor: InputTensor, data: bytes, spec: InputSpec, model: str) -> bytes:
    if tensor.contents is not None:
        raise InvalidArgument(
            f"contents field must not be specified when using raw_input_contents for '{spec.name}' for model '{model}'"
        )
    size, skipped = spec.row_bytes, 0
    if spec.encoding != "raw":
        skipped = _LENGTH.size
        size = skipped + (_LENGTH.unpack_from(data)[0] if len(data) >= skipped else 0)
    if len(data) != size:
        raise InvalidArgument(
            f"input byte size mismatch for input '{spec.name}' for model '{model}'. Expected {size}, got {len(data)}"
        )
    return data[skipped:]


def _typed(tensor: InputTensor, spec: InputSpec, model: str) -> bytes:
    form = form_of(spec)
    field = _CONTENTS[form.datatype]
    values, expected = (tensor.contents or {}).get(field, ()), math.prod(form.shape)
    if len(values) != expected:
        raise InvalidArgument(
            f"unexpected number of explicit tensor values for input '{spec.name}' for model '{model}'. "
            f"Expected {expected} in {field}, got {len(values)}"
        )
    if form.datatype == "BYTES":
        return bytes(values[0])
    if spec.dtype == "uint8" and max(values) > np.iinfo(np.uint8).max:
        raise InvalidArgument(f"input '{spec.name}': {max(values)} in uint_contents exceeds UINT8")
    return np.asarray(values, spec.np_dtype).tobytes()


def _dims(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _listed(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"
