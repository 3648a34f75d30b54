"""A model as its server describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from statestream.models.bundle import first_problem
from statestream.models.spec import Manifest, TensorSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import Internal


@dataclass(frozen=True)
class Divergence:
    """How far a shadow is from the active version in one output, in standard deviations of the latter."""

    output: str
    rows: int
    max: float
    mean: float
    unusable: int
    """Rows for which the shadow had no finite output or state; they count for nothing else."""


@dataclass(frozen=True)
class ModelInfo:
    """A model being served."""

    manifest: Manifest
    sessions: int
    """Sessions that the server held of this version when asked."""
    role: str
    """What the server does with it: active, open, retired or shadow; see `ModelRole` in `inference.proto`."""
    divergence: tuple[Divergence, ...]
    """For a shadow: how far it is from the active version, by output."""
    decode_cpu_s: float
    """CPU time that decoding pictures took since it was loaded, in the worker that answered."""
    engine_cpu_s: float
    """CPU time that running its graphs took, likewise."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Outputs by their names on the wire, `aux_<name>` among them."""
        return self.manifest.results

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row of all inputs on the wire, at most."""
        return self.manifest.row_bytes


def model_info(model: pb.Model) -> ModelInfo:
    """Read a `Model` message; raises Internal when its manifest is not one that this client knows."""
    try:
        manifest = Manifest.model_validate_json(model.manifest_json)
    except ValidationError as error:
        raise Internal(f"{model.name}:{model.version}: {first_problem(error)}", field="model.manifest_json") from error
    role = pb.ModelRole.Name(model.role).removeprefix("MODEL_ROLE_").lower()
    divergence = tuple(Divergence(d.output, d.rows, d.max, d.mean, d.unusable) for d in model.divergence)
    return ModelInfo(manifest, model.sessions, role, divergence, model.decode_cpu_s, model.engine_cpu_s)
