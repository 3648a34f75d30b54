"""The versions of each model that a server has loaded, and which of them new sessions go to."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from statestream.models.spec import Manifest
from statestream.service.errors import InvalidArgument, NotFound
from statestream.service.serving.runner import ModelRunner

Key = tuple[str, int]
"""Name and version."""


class Role(Enum):
    """What a loaded version is for."""

    ACTIVE = "active"
    """New sessions go there."""
    OPEN = "open"
    """New sessions go there that ask for it by number."""
    RETIRED = "retired"
    """It keeps the sessions it has and takes no new ones."""
    SHADOW = "shadow"
    """It follows the active one and answers nobody."""


class ModelRegistry:
    """Loaded models by name and version. One version of each name is *active*: what version 0 stands for."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Bundles that were not loaded, by name, and why."""
        self._loaded: dict[Key, ModelRunner] = {}
        self._open: dict[str, list[int]] = {}
        """Versions that take new sessions, by name: the last one is active, the one before it was so until then."""
        self._heirs: dict[Key, int] = {}
        """Versions whose sessions were carried to another, and to which."""

    def __iter__(self) -> Iterator[ModelRunner]:
        """By name, the newest version first."""
        return (self._loaded[key] for key in sorted(self._loaded, key=lambda key: (key[0], -key[1])))

    def __len__(self) -> int:
        return len(self._loaded)

    def of(self, name: str) -> list[ModelRunner]:
        """The versions of a model, the newest first."""
        return [runner for runner in self if runner.manifest.name == name]

    def get(self, name: str, version: int) -> ModelRunner | None:
        """A version, if it is loaded."""
        return self._loaded.get((name, version))

    def find(self, name: str, version: int = 0) -> ModelRunner:
        """A version for new sessions, 0 for the active one. NotFound says what there is instead."""
        if version < 0:
            raise InvalidArgument(f"{version}; expected a version number, or 0 for the active one", field="version")
        served = self._open.get(name, [])
        if served and version in (0, *served):
            return self._loaded[name, version or served[-1]]
        if served:
            text = f"model '{name}' has no version {version} here; it has {sorted(served)}"
            raise NotFound(text, field="version")
        if name in self.refused:
            raise NotFound(f"model '{name}' was refused: {self.refused[name]}", field="model")
        names = ", ".join(f"'{n}'" for n in sorted(n for n, served in self._open.items() if served)) or "none"
        raise NotFound(f"no model '{name}' here; there are {names}", field="model")

    def successor(self, name: str, version: int) -> ModelRunner:
        """Where sessions of a version belong by now: there, where they were carried, else with the active one."""
        while (name, version) in self._heirs:
            version = self._heirs[name, version]
        return self.get(name, version) or self.find(name)

    def active(self, name: str) -> ModelRunner | None:
        """The version that new sessions go to; None where there is none."""
        served = self._open.get(name)
        return self._loaded[name, served[-1]] if served else None

    def role(self, runner: ModelRunner) -> Role:
        """What a version is for."""
        served = self._open.get(runner.manifest.name, [])
        if runner.manifest.version not in served:
            return Role.RETIRED
        return Role.ACTIVE if runner.manifest.version == served[-1] else Role.OPEN

    def before(self, name: str) -> ModelRunner | None:
        """The version that was active before the one that is; None where there is none."""
        served = self._open.get(name, [])
        return self._loaded[name, served[-2]] if len(served) > 1 else None

    def add(self, runner: ModelRunner) -> None:
        """Know a version, which must be none of those here. It becomes active if no other is."""
        name, version = _key(runner.manifest)
        self._loaded[name, version] = runner
        self._open.setdefault(name, []).insert(0, version)
        self.refused.pop(name, None)

    def activate(self, runner: ModelRunner) -> None:
        """New sessions go to this version from now on. A shadow of the one before ends: it followed that one."""
        name, version = _key(runner.manifest)
        if (old := self.active(name)) is not None:
            old.drop_shadow()
        self.retire(runner)
        self._open[name].append(version)
        self._heirs.pop((name, version), None)

    def retire(self, runner: ModelRunner) -> None:
        """No new sessions go to this version; where it was active, the one before it is again, if there is one."""
        runner.drop_shadow()
        name, version = _key(runner.manifest)
        if version in self._open.get(name, []):
            self._open[name].remove(version)

    def remove(self, runner: ModelRunner) -> None:
        """Know a version no more."""
        self.retire(runner)
        del self._loaded[_key(runner.manifest)]
        runner.close()

    def redirect(self, old: ModelRunner, new: ModelRunner) -> None:
        """The sessions of `old`, those that only the store has included, are those of `new`, which is active."""
        self._heirs[_key(old.manifest)] = new.manifest.version


def _key(manifest: Manifest) -> Key:
    return manifest.name, manifest.version
