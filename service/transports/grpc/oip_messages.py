"""Messages of the Open Inference Protocol: requests decoded to values, answers and descriptions encoded.

A model is described in Triton's terms: a sequence model whose state the server keeps.
"""

from __future__ import annotations

from collections.abc import Iterable

from statestream.models.spec import Manifest, StateSpec, TensorSpec
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.config import ServerConfig
from statestream.service.oip.request import InferRequest, InferResponse, InputTensor, Parameter, RequestedOutput
from statestream.service.oip.statistics import Duration, Statistics
from statestream.service.oip.tensors import form_of

_PLATFORM, _BACKEND = "onnxruntime_onnx", "onnxruntime"


def infer_request(message: pb.ModelInferRequest) -> InferRequest:
    """Decode a request."""
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters={name: _parameter(parameter) for name, parameter in message.parameters.items()},
        inputs=[_input(tensor) for tensor in message.inputs],
        outputs=[RequestedOutput(output.name, tuple(output.parameters)) for output in message.outputs],
        raw=message.raw_input_contents,
    )


def infer_response(response: InferResponse) -> pb.ModelInferResponse:
    """Encode an answer."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=str(response.version), id=response.id)
    for tensor in response.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_output_contents.append(tensor.data)
    return message


def _parameter(message: pb.InferParameter) -> Parameter:
    kind = message.WhichOneof("parameter_choice")
    return Parameter(kind, None if kind is None else getattr(message, kind))


def _input(message: pb.ModelInferRequest.InferInputTensor) -> InputTensor:
    contents = None
    if message.HasField("contents"):
        contents = {field.name: values for field, values in message.contents.ListFields()}
    return InputTensor(message.name, message.datatype, tuple(message.shape), contents, tuple(message.parameters))


def model_metadata(manifest: Manifest, versions: Iterable[int]) -> pb.ModelMetadataResponse:
    """Names and shapes of one version; `versions` are all that are served."""
    return pb.ModelMetadataResponse(
        name=manifest.name,
        versions=[str(version) for version in sorted(versions)],
        platform=_PLATFORM,
        inputs=map(_tensor_metadata, manifest.inputs),
        outputs=map(_tensor_metadata, manifest.outputs),
    )


def model_config(manifest: Manifest, config: ServerConfig) -> pb.ModelConfig:
    """The model's `config.pbtxt`, as Triton would have it."""
    return pb.ModelConfig(
        name=manifest.name,
        platform=_PLATFORM,
        backend=_BACKEND,
        max_batch_size=config.max_batch,
        input=[pb.ModelInput(name=t.name, data_type=_data_type(t), dims=form_of(t).shape) for t in manifest.inputs],
        output=[pb.ModelOutput(name=t.name, data_type=_data_type(t), dims=t.shape) for t in manifest.outputs],
        sequence_batching=pb.ModelSequenceBatching(
            max_sequence_idle_microseconds=round(config.idle_ttl_s * 1e6),
            oldest=pb.ModelSequenceBatching.StrategyOldest(
                max_candidate_sequences=config.max_sessions, preserve_ordering=True
            ),
            state=map(_state, manifest.states),
        ),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    datatype, shape = form_of(spec)
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=datatype, shape=(-1, *shape))


def _state(spec: StateSpec) -> pb.ModelSequenceBatching.State:
    return pb.ModelSequenceBatching.State(
        input_name=f"state_{spec.name}",
        output_name=f"state_{spec.name}_out",
        data_type=_data_type(spec),
        dims=spec.shape,
    )


def _data_type(spec: TensorSpec) -> str:
    return "TYPE_" + form_of(spec).datatype.replace("BYTES", "STRING")


def model_statistics(statistics: Statistics, manifest: Manifest) -> pb.ModelStatistics:
    """Request statistics of one version."""
    return pb.ModelStatistics(
        name=manifest.name,
        version=str(manifest.version),
        last_inference=statistics.last_ms,
        inference_count=statistics.success.count,
        execution_count=statistics.turns,
        inference_stats=pb.InferStatistics(
            success=_duration(statistics.success),
            fail=_duration(statistics.fail),
            queue=_duration(statistics.queue),
            compute_input=_duration(statistics.compute_input),
            compute_infer=_duration(statistics.compute_infer),
            compute_output=_duration(statistics.compute_output),
        ),
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
