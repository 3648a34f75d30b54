"""Message of the first problem that pydantic finds in values."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

_SHOWN = 80
"""Most characters of a wrong value in a message."""


def first_problem(error: ValidationError, model: type[BaseModel] | None = None, values: Any = None) -> str:
    """Describe the first problem in one line: the field, what was expected, and the value.

    Args:
        model: what was validated; its fields and choices are suggested for one that does not exist.
        values: the values as written, in which the field has its place.
    """
    problem = error.errors()[0]
    path, kind = _place(problem["loc"], values)
    where = ".".join(path)
    got = problem.get("input")
    hidden = isinstance(got, dict) or problem["type"] in ("missing", "json_invalid")
    shown = "" if hidden else f" (got {_shortened(repr(got))})"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{where}: " if where else "") + _text(problem, model, kind) + shown + more


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _place(loc: tuple[int | str, ...], values: Any) -> tuple[list[str], str]:
    """The path of a field in the values, and its kind: pydantic puts kinds into the path, where nobody wrote them."""
    path, kind = [], ""
    for k, part in enumerate(loc):
        if isinstance(values, dict) and part not in values and k + 1 < len(loc):
            kind = str(part)
            continue
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values):
            values = values[part]
        path.append(str(part))
    return path, kind


def _text(problem: Any, model: type[BaseModel] | None, kind: str) -> str:
    if problem["type"] == "extra_forbidden":
        wrong = str(problem["loc"][-1])
        of_kind = f" of kind '{kind}'" if kind else ""
        return f"there is no such field{of_kind}{meant(wrong, [] if model is None else _fields(model, wrong))}"
    if problem["type"] == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in problem["ctx"]["expected_tags"].split(",")]
        wrong = problem["ctx"]["tag"]
        return f"there is no kind '{wrong}'; kinds: {', '.join(tags)}{meant(wrong, tags)}"
    return str(problem["msg"]).removeprefix("Value error, ")


def meant(wrong: str, names: list[str]) -> str:
    """Suggest the name that was meant, as the end of a sentence; empty: none is like it."""
    return "".join(f"; did you mean '{name}'?" for name in get_close_matches(wrong, names, n=1))


def _fields(model: type[BaseModel], wrong: str) -> list[str]:
    """Names of all fields of a model and of the models in it, but the one that has no place where it stands."""
    schema = model.model_json_schema()
    parts = (schema, *schema.get("$defs", {}).values())
    return [name for part in parts for name in part.get("properties", ()) if name != wrong]
