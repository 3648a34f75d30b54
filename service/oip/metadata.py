"""Models and the server, in Triton's words."""

from __future__ import annotations

from statestream.service.errors import NotFound
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner

SERVER = "statestream"
EXTENSIONS = ("sequence", "sequence(string_id)", "model_repository", "model_configuration", "statistics", "parameters")


def find(versions: ModelRegistry, name: str, version: int) -> ModelRunner:
    """A version that takes sequences, 0 for the active one. Raises NotFound, in Triton's words and ours."""
    try:
        return versions.find(name, version)
    except NotFound as error:
        which = f"'{name}' version {version}" if version else f"'{name}'"
        raise NotFound(f"Request for unknown model: {which} is not found ({error.text})") from error
