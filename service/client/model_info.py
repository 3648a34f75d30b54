"""Model description, as returned by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from statestream.models.problems import first_problem
from statestream.models.spec import Manifest, TensorSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import Internal


@dataclass(frozen=True)
class Divergence:
    """Distance of a shadow from the active version in one output.

    In standard deviations of the active version's output.
    """

    output: str
    rows: int
    max: float
    mean: float
    unusable: int
    """Rows without a finite output or state of the shadow; not counted in the other figures."""


@dataclass(frozen=True)
class ModelInfo:
    """A model being served."""

    manifest: Manifest
    sessions: int
    """Sessions of this version on the server."""
    role: str
    """active, open, retired or shadow; see `ModelRole` in `inference.proto`."""
    divergence: tuple[Divergence, ...]
    """A shadow's distance from the active version, by output; empty for other roles."""
    decode_cpu_s: float
    """CPU seconds spent decoding pictures since it was loaded, in the worker that answered."""
    engine_cpu_s: float
    """CPU seconds spent running its graphs since it was loaded, in the worker that answered."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Outputs by name on the wire, including `aux_<name>`."""
        return self.manifest.results

    @cached_property
    def row_bytes(self) -> int:
        """Most bytes of one row of all inputs on the wire."""
        return self.manifest.row_bytes


def model_info(model: pb.Model) -> ModelInfo:
    """Decode a `Model` message.

    Raises:
        Internal: this client cannot read its manifest.
    """
    try:
        manifest = Manifest.model_validate_json(model.manifest_json)
    except ValidationError as error:
        raise Internal(f"{model.name}:{model.version}: {first_problem(error)}", field="model.manifest_json") from error
    role = pb.ModelRole.Name(model.role).removeprefix("MODEL_ROLE_").lower()
    divergence = tuple(Divergence(d.output, d.rows, d.max, d.mean, d.unusable) for d in model.divergence)
    return ModelInfo(manifest, model.sessions, role, divergence, model.decode_cpu_s, model.engine_cpu_s)
