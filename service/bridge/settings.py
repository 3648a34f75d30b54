"""Settings of a bridge's session: how the server is reached, and what the session is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from statestream.service.client import Access, Policy
from statestream.service.errors import InvalidArgument

_FILES = ("ca", "cert", "key", "token_file")


@dataclass(frozen=True)
class Settings:
    """Settings with their defaults, which are also the parameters of the ROS 2 node.

    Raises:
        InvalidArgument: a value is wrong.
    """

    target: str = "127.0.0.1:50051"
    model: str = ""
    session: str = ""
    features: tuple[str, ...] = ()
    keep_last: int = 0
    deadline_s: float = 0.0
    late: Literal["drop", "suppress"] = "drop"
    gap: Literal["clamp", "reset"] = "clamp"
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    token_file: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidArgument("expected NAME or NAME:VERSION, got nothing", field="model")
        # ROS has no way to write an empty list of texts.
        object.__setattr__(self, "features", tuple(name for name in self.features if name))
        _ = self.policy, self.access  # Each checks its values.

    @property
    def access(self) -> Access:
        files = {name: Path(path) if (path := getattr(self, name)) else None for name in _FILES}
        return Access(tls=self.tls, **files)

    @property
    def policy(self) -> Policy:
        return Policy(keep_last=self.keep_last, deadline_s=self.deadline_s, late=self.late, gap=self.gap)
