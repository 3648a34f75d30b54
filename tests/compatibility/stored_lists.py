"""The stored lists of what users see, and how two of them are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "stored"
NAMES = ("imports", "settings", "commands", "messages", "metrics")
ADVICE = "users see the difference; if it is on purpose, run `python -m tests.compatibility.write` and commit the lists"


def read(name: str) -> dict[str, Any]:
    """One stored list."""
    found: dict[str, Any] = json.loads(_path(name).read_text())
    return found


def write(name: str, value: dict[str, Any]) -> None:
    """Store a list; imports are added to those that are stored, since documents name only the latest paths."""
    if name == "imports" and _path(name).exists():
        before = read(name)
        value = {module: sorted({*before.get(module, ()), *value.get(module, ())}) for module in before | value}
    _path(name).write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def lines(value: Any, path: str = "") -> set[str]:
    """Every entry as `path = value`; the entries of a list have no order."""
    return set(_lines(value, path))


def _lines(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield path
        for key, below in value.items():
            yield from _lines(below, f"{path}/{key}")
    elif isinstance(value, list):
        yield path
        yield from (f"{path} has {json.dumps(one)}" for one in value)
    else:
        whole = isinstance(value, float) and value.is_integer()  # 0 and 0.0 are one limit.
        yield f"{path} = {json.dumps(int(value) if whole else value)}"


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"
