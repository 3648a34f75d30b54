"""Choice of bundles to load from the repository."""

from __future__ import annotations

import math

from statestream.models import bundle as bundles
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition, InvalidArgument


def models_to_load(config: ServerConfig) -> list[tuple[str, int]]:
    """Names and versions to load, 0 for the newest; of one name, the newest first.

    Raises:
        InvalidArgument: one is not written as `NAME` or `NAME:VERSION`.
        FailedPrecondition: the repository has no bundle.
    """
    wanted = [_name_and_version(text) for text in config.models] or list(bundles.models(config.repository))
    if not wanted:
        raise FailedPrecondition(
            f"{config.repository} holds no bundle (NAME/VERSION/manifest.json): see `statestream export`",
            field="repository",
        )
    return sorted(wanted, key=lambda model: (model[0], -(model[1] or math.inf)))


def _name_and_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition(":")
    if version and not version.isdigit():
        raise InvalidArgument(f"'{text}'; expected NAME or NAME:VERSION", field="models")
    return name, int(version or 0)
