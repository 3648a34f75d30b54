"""Model registry: loaded versions of each model, and which of them is active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from statestream.models.spec import Manifest
from statestream.service.errors import InvalidArgument, NotFound
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.shadow import drop_shadow

Key = tuple[str, int]
"""Name and version."""


class Role(Enum):
    """Role of a loaded version."""

    ACTIVE = "active"
    """New sessions go to it."""
    OPEN = "open"
    """New sessions go to it if they name its number."""
    RETIRED = "retired"
    """It keeps its sessions and takes no new ones."""
    SHADOW = "shadow"
    """It runs beside the active version; its results are never sent."""


class ModelRegistry:
    """Loaded models by name and version. Version 0 stands for the active one of a name."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._loaded: dict[Key, ModelRunner] = {}
        self._open: dict[str, list[int]] = {}
        """Versions that take new sessions, by name: the last is active, the one before it was active previously."""
        self._redirects: dict[Key, int] = {}
        """Versions whose sessions were moved to another one, and that version."""

    def __iter__(self) -> Iterator[ModelRunner]:
        """Loaded versions by name, the newest first."""
        return (self._loaded[key] for key in sorted(self._loaded, key=lambda key: (key[0], -key[1])))

    def __len__(self) -> int:
        return len(self._loaded)

    def of(self, name: str) -> list[ModelRunner]:
        """Loaded versions of a model, the newest first."""
        return [runner for runner in self if runner.manifest.name == name]

    def get(self, name: str, version: int) -> ModelRunner | None:
        """The version, if it is loaded."""
        return self._loaded.get((name, version))

    def find(self, name: str, version: int = 0) -> ModelRunner:
        """The version for new sessions; 0 stands for the active one.

        Raises:
            InvalidArgument: the number is negative.
            NotFound: there is none; the message lists the available ones.
        """
        if version < 0:
            raise InvalidArgument(f"{version}; expected a version number, or 0 for the active one", field="version")
        served = self._open.get(name, [])
        if served and version in (0, *served):
            return self._loaded[name, version or served[-1]]
        if served:
            text = f"model '{name}' has no version {version} here; it has {sorted(served)}"
            raise NotFound(text, field="version")
        if name in self._refused:
            raise NotFound(f"model '{name}' was refused: {self._refused[name]}", field="model")
        names = ", ".join(f"'{n}'" for n in sorted(n for n, served in self._open.items() if served)) or "none"
        raise NotFound(f"no model '{name}' here; there are {names}", field="model")

    def successor(self, name: str, version: int) -> ModelRunner:
        """The version that a version's sessions belong to now.

        That is itself, the one they were moved to, or the active one.
        """
        while (name, version) in self._redirects:
            version = self._redirects[name, version]
        return self.get(name, version) or self.find(name)

    def active(self, name: str) -> ModelRunner | None:
        """The version that new sessions go to; None if there is none."""
        served = self._open.get(name)
        return self._loaded[name, served[-1]] if served else None

    def role(self, runner: ModelRunner) -> Role:
        """Role of a version."""
        served = self._open.get(runner.manifest.name, [])
        if runner.manifest.version not in served:
            return Role.RETIRED
        return Role.ACTIVE if runner.manifest.version == served[-1] else Role.OPEN

    def before(self, name: str) -> ModelRunner | None:
        """The version that was active before the current one; None if there is none."""
        served = self._open.get(name, [])
        return self._loaded[name, served[-2]] if len(served) > 1 else None

    def add(self, runner: ModelRunner) -> None:
        """Add a version that is not loaded. It becomes active if no other one is."""
        name, version = _key(runner.manifest)
        self._loaded[name, version] = runner
        self._open.setdefault(name, []).insert(0, version)
        self._refused.pop(name, None)

    @property
    def refused(self) -> Mapping[str, str]:
        """Bundles that were refused, by name, and why."""
        return self._refused

    def refuse(self, name: str, why: str) -> None:
        """Remember why no version of a model could be loaded."""
        self._refused[name] = why

    def activate(self, runner: ModelRunner) -> None:
        """Make this version active. The shadow of the one before ends, since it compares with that one."""
        name, version = _key(runner.manifest)
        if (old := self.active(name)) is not None:
            drop_shadow(old)
        self.retire(runner)
        self._open[name].append(version)
        self._redirects.pop((name, version), None)

    def retire(self, runner: ModelRunner) -> None:
        """Send no new sessions to this version. If it was active, the one before it, if any, is active again."""
        drop_shadow(runner)
        name, version = _key(runner.manifest)
        if version in self._open.get(name, []):
            self._open[name].remove(version)

    def remove(self, runner: ModelRunner) -> None:
        """Remove and close a version."""
        self.retire(runner)
        del self._loaded[_key(runner.manifest)]
        runner.close()

    def redirect(self, old: ModelRunner, new: ModelRunner) -> None:
        """Redirect `old`'s sessions to `new`, including those only in the store."""
        self._redirects[_key(old.manifest)] = new.manifest.version


def _key(manifest: Manifest) -> Key:
    return manifest.name, manifest.version
