"""Choice of bundles to load from the repository."""

from __future__ import annotations

import math

from statestream.models import bundle as bundles
from statestream.models.spec import Manifest
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition, InvalidArgument

_ROW_BYTES = 64
"""What a message of one row takes without its columns, at most: channel, seq, timestamp, flags, deadline, lengths."""
_COLUMN_BYTES = 16
"""What a column takes beside its name and its data."""


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


def check_row_fits(manifest: Manifest, max_message_bytes: int) -> None:
    """Whether a message can carry a row of a model.

    Pictures that come encoded count for nothing: how large they are is the client's choice.

    Raises:
        FailedPrecondition: it cannot, naming the setting.
    """
    raw = [spec for spec in manifest.inputs if spec.encoding == "raw"]
    size = _ROW_BYTES + sum(_COLUMN_BYTES + len(spec.name) + spec.row_bytes for spec in raw)
    if size > max_message_bytes:
        raise FailedPrecondition(
            f"a row of {manifest.ref} takes a message of {size} bytes, max_message_bytes is {max_message_bytes}; raise "
            f"max_message_bytes, on the server and for its clients",
            field="bundle",
        )


def _name_and_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition(":")
    if version and not (version.isascii() and version.isdecimal()):
        raise InvalidArgument(f"'{text}'; expected NAME or NAME:VERSION", field="models")
    return name, int(version or 0)
