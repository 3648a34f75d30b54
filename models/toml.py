"""Writes plain values as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """Write a table with its tables below; what is None becomes a comment."""
    return "\n".join(_lines(values, "")).strip("\n") + "\n"


def _lines(values: Mapping[str, Any], table: str) -> Iterator[str]:
    """A table's values, then the tables in it."""
    for name, value in values.items():
        if value is None:
            yield f"# {_key(name)} is not set"
        elif not isinstance(value, dict):
            yield f"{_key(name)} = {value_to_toml(value)}"
    for name, value in values.items():
        if isinstance(value, dict):
            inner = f"{table}.{_key(name)}" if table else _key(name)
            yield from ("", f"[{inner}]")
            yield from _lines(value, inner)


def value_to_toml(value: Any) -> str:
    """Write a value in one line; tables are written inline."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(name)} = {value_to_toml(each)}" for name, each in value.items() if each is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_to_toml, value))}]"
    # Text, numbers and booleans are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
