"""Which release of onnxruntime runs a graph. Measured with the CPU wheels of 1.18.1 to 1.32.0."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from statestream.service.engine.graph_file import GraphFile


class Release(NamedTuple):
    """A release of onnxruntime and the newest that it reads; releases between two of these read what the older does."""

    version: str
    ir_version: int
    opset: int


RELEASES = (
    Release("1.18", 10, 21),
    Release("1.21", 10, 22),
    Release("1.23", 11, 23),
    Release("1.24", 13, 25),
    Release("1.25", 13, 26),
    Release("1.32", 14, 28),
)
"""Oldest first. Older ones than the first are not supported."""
_CONTRIBUTED = {"LinearAttention": "1.25.1", "CausalConvWithState": "1.25.1"}
"""Operators of `com.microsoft` that came with a release after the first of `RELEASES`."""
BOARDS = {"jetpack6": "1.23", "ubuntu22.04": "1.23", "python3.10": "1.23"}
"""The newest onnxruntime with public wheels for a board or system: 1.23.2 is the last one for Python 3.10."""


def oldest(*files: GraphFile) -> str:
    """The oldest release that runs all of these graphs; empty where none that is known does."""
    ir_version, opset = max(file.ir_version for file in files), max(file.opset for file in files)
    contributed = {name for file in files for domain, name in file.operators if domain == "com.microsoft"}
    since = [_CONTRIBUTED[name] for name in contributed & _CONTRIBUTED.keys()]
    for release in RELEASES:
        if release.ir_version >= ir_version and release.opset >= opset:
            return max([release.version, *since], key=_number)
    return ""


def runs(needed: str, version: str) -> bool:
    """Whether onnxruntime `version` runs what `oldest` says needs `needed`."""
    return bool(needed) and _number(version) >= _number(needed)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
