"""Where a fault run runs, and what it has to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from statestream.models.bundle import Bundle
from statestream.service.engine.onnx import Engine


class SkippedError(Exception):
    """The machine lacks what the run needs; the text says what."""


@dataclass(frozen=True)
class Bed:
    """A run's place.

    `full` asks for the whole run, not for a few seconds of it; `say` shows how far the run has come.
    """

    full: bool
    repository: Path
    """A repository with the model `leaky`, which forgets slowly: it notices every row and every dt."""
    folder: Path
    """Empty, the run's own."""
    say: Callable[[str], object] = print

    def size(self, full: int, quick: int) -> int:
        """How many, by how much the run is to do."""
        return full if self.full else quick

    def engine(self) -> Engine:
        """The model, to roll out offline."""
        return Engine.open(Bundle.open(self.repository / "leaky" / "1"))


@dataclass(frozen=True)
class Outcome:
    """What a run came to. That it came to an end says that each row was right."""

    figures: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)
    """The most that a figure of this name may be on a quiet machine."""

    @property
    def exceeded(self) -> list[str]:
        """The figures beyond their limits."""
        return [name for name, limit in self.limits.items() if not self.figures[name] <= limit]
