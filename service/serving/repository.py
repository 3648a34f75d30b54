"""Bundle repository: which bundles to load, and loads them."""

from __future__ import annotations

import logging
import math
import os
from functools import cached_property
from pathlib import Path

from statestream.models import bundle as bundles
from statestream.models.bundle import Bundle, BundleError
from statestream.models.spec import Manifest
from statestream.service.config import ServerConfig
from statestream.service.engine.choice import Kind, choose
from statestream.service.engine.onnx import Engine
from statestream.service.engine.providers import TensorRTCache
from statestream.service.engine.refusal import refusing
from statestream.service.errors import FailedPrecondition, InvalidArgument, NotFound
from statestream.service.serving.frame_decoder import check_pictures

log = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
_ROW_BYTES = 64
"""What a message of one row takes without its columns, at most: channel, seq, timestamp, flags, deadline, lengths."""
_COLUMN_BYTES = 16
"""What a column takes beside its name and its data."""


class BundleRepository:
    """The folder of bundles that a server loads."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    @cached_property
    def engine(self) -> Kind:
        """What runs plain turns; FailedPrecondition if it cannot be had."""
        return choose(self._config.engine)

    def load(self, name: str, version: int = 0, *, build: bool = False, measure: bool = True) -> tuple[Bundle, Engine]:
        """Read a bundle of the repository, check it, and load its engine. Safe in any thread.

        Args:
            build: whether TensorRT may build its engines, which takes minutes.
            measure: see `Engine.load`.

        Raises:
            NotFound: the repository has no such model or version.
            FailedPrecondition: the bundle is refused; the message has the reason, for example a link out of the
                repository.
        """
        found = self._versions(name)
        if not found:
            raise NotFound(f"no model {name!r} in the repository", field="name")
        if version and version not in found:
            raise NotFound(f"model '{name}' has no version {version}; it has {found}", field="version")
        path = self._config.repository / name / str(version or found[-1])
        try:
            with refusing(f"{path} cannot be loaded"):
                return self._load(path, name, version or found[-1], build, measure)
        except BundleError as error:
            raise FailedPrecondition(str(error), field="bundle") from error

    def _versions(self, name: str) -> list[int]:
        if not _plain(name):
            return []
        try:
            return bundles.versions(self._config.repository, name)
        except OSError as error:
            text = f"{self._config.repository / name} cannot be read: {error.strerror}"
            raise FailedPrecondition(text, field="bundle") from error

    def _load(self, path: Path, name: str, version: int, build: bool, measure: bool) -> tuple[Bundle, Engine]:
        config = self._config
        _check_inside(path, config.repository)
        bundle = Bundle.open(path)
        if (bundle.manifest.name, bundle.manifest.version) != (name, version):
            raise BundleError(f"{path}: the manifest says {bundle.manifest.ref}")
        check_pictures(bundle.manifest, config.max_decoded_bytes)
        check_row_fits(bundle.manifest, config.max_message_bytes)
        engine = Engine.load(
            bundle,
            providers=config.providers,
            threads=config.threads,
            cache=TensorRTCache(config.engine_cache, config.max_batch, build),
            max_batch=config.max_batch,
            native=self.engine == "native",
            measure=measure,
        )
        for concern in engine.concerns:
            log.warning("%s: %s", bundle.manifest.ref, concern)
        return bundle, engine


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


def _check_inside(path: Path, repository: Path) -> None:
    """Check that a bundle's folder and files lie in the repository; raises FailedPrecondition otherwise."""
    root = repository.resolve()
    for each in (path, *path.iterdir()):
        if not each.resolve().is_relative_to(root):
            raise FailedPrecondition(f"{each} leads out of the repository", field="bundle")


def _plain(name: str) -> bool:
    """Whether a name is a single folder in the repository."""
    if not 0 < len(os.fsencode(name)) <= _MAX_NAME_BYTES or name.startswith("."):
        return False
    return not any(character in name for character in "/\\\0")
