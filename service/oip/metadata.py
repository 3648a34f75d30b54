"""Descriptions of models in Triton's terms: a sequence model whose state the server keeps."""

from __future__ import annotations

from collections.abc import Iterable

from statestream.models.spec import Manifest, StateSpec, TensorSpec
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.config import ServerConfig
from statestream.service.errors import NotFound
from statestream.service.oip.tensors import form_of
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner

SERVER = "statestream"
EXTENSIONS = ("sequence", "sequence(string_id)", "model_repository", "model_configuration", "statistics", "parameters")
_PLATFORM, _BACKEND = "onnxruntime_onnx", "onnxruntime"


def find(versions: ModelRegistry, name: str, version: int) -> ModelRunner:
    """A version that takes sequences, 0 for the active one. Raises NotFound, in Triton's words and ours."""
    try:
        return versions.find(name, version)
    except NotFound as error:
        which = f"'{name}' version {version}" if version else f"'{name}'"
        raise NotFound(f"Request for unknown model: {which} is not found ({error.text})") from error


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
