"""Writes `docs/training-file.md`, all fields of a training (`python -m statestream.models.training.training_file`)."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from statestream.models.cells import options
from statestream.models.config import (
    AugmentOptions,
    Config,
    DataOptions,
    Source,
    SplitOptions,
    TaskOptions,
    TrainingOptions,
)
from statestream.models.toml import value_to_toml

_INTRODUCTION = """# The training file

<!-- Written by `make training-file`; a test compares it. -->

This page is for who trains a model: every field of the TOML file that `statestream train` takes, with its kind, its
default and what it is good for. `name`, the recordings in `[data]` and a `[cell]` are needed; the rest has defaults
that work. `statestream init` writes a first file. A field can also be given on the command line, and the whole
configuration printed:

    statestream train gait.toml training.epochs=200 cell.units=48
    statestream train gait.toml --print-config

An unknown field, or a value of another kind, is an error that names it. Units are in the names: `_s` are seconds, `_hz`
hertz, `_deg` degrees; rows are rows of a recording, whatever the time between them. `data.path` is relative to the
file. A field without a default is not set.

What a training prints first says what came of the file: recordings, period, split, parameters and optimiser steps, and
warnings of what is likely to go wrong. What it prints last are its scores on the test split, beside those of baselines
on the same split: `majority`, `logistic_regression` (of statistics of the last 4 s) and, at 20 Hz or faster,
`log_spectra` (the same of log energies by frequency, for vibration) for a classification; `mean`,
`persistence` (the target of the row before, which the network is not given) and `ridge` for a regression;
`persistence` (the row repeated) and `ridge` for `next_step`. A model that a baseline beats is told so in a line.
`report.html` has all of it on one page: scores, curves, predictions or the confusion matrix, the worst recordings and
the command; `metrics.json` has the numbers.

`statestream tune gait.toml --minutes 10` searches cell, size, learning rate, segment and augmentation by the validation
score; the test split is not scored. `tuning/NAME/best.toml` is the training file of the best trial, and `report.html`
beside it shows all of them. Ctrl-C keeps the study; `--resume` goes on.

A run is `runs/NAME`; where it exists, a new one is `runs/NAME-2`, unless `--overwrite` replaces it. Ctrl-C keeps the
last whole epoch: `--resume` goes on from there, also past the first goal (`--resume training.epochs=300`), and
`statestream export runs/NAME/best.ckpt` exports the best weights so far.
"""
_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("At the top", Config),
    ("`[task]`", TaskOptions),
    ("`[data]`", DataOptions),
    ("`[[data.merge]]`", Source),
    ("`[split]`", SplitOptions),
    ("`[training]`", TrainingOptions),
    ("`[training.augment]`", AugmentOptions),
)
_NEEDED = "needed"


def page() -> str:
    """Build the page as Markdown."""
    lines = [_INTRODUCTION]
    for title, model in _SECTIONS:
        lines += [f"## {title}", "", _prose(model), "", *_table(model), ""]
    lines += ["## `[cell]`", "", "`kind` chooses the cell, and with it the other fields.", ""]
    for title, union in (("cell", options.CellOptions), ("wiring", options.Wiring), ("encoder", _encoder())):
        for model in _models(union):
            lines += [f"### {_title(title, model)}", "", _prose(model), "", *_table(model), ""]
    return "\n".join(lines)


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the source says below each field of a model, its bases' fields included."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            found |= dict(_documented(cls))
    return {name: found.get(name, "") for name in model.model_fields}


def _documented(cls: type[BaseModel]) -> Iterator[tuple[str, str]]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    for field, below in zip(node.body, node.body[1:], strict=False):
        text = ast.get_docstring(ast.Module([below], [])) if isinstance(below, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text:
            yield field.target.id, " ".join(text.split())


def _table(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    said = descriptions(model)
    own = model.model_fields if model is not Source else {"path": model.model_fields["path"]}
    rows = [name for name in own if name != "kind" or model is TaskOptions]
    if not rows:
        return
    yield from ("| field | kind | default | |", "|---|---|---|---|")
    for name in rows:
        field = own[name]
        cells = (f"`{name}`", _kind(schema["properties"][name]), _default(field), _in_toml(said[name]))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _in_toml(text: str) -> str:
    """TOML has no None."""
    return text.replace("None: ", "Not set: ")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else _NEEDED
    if value is None or value == _NEEDED:
        return value or ""
    if isinstance(value, BaseModel):
        return _title("", type(value)) if "kind" in type(value).model_fields and not _is_section(value) else "as below"
    return f"`{value_to_toml(value)}`"


def _is_section(value: BaseModel) -> bool:
    return any(type(value) is model for _, model in _SECTIONS)


def _kind(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(part) for part in schema["anyOf"] if part.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if "$ref" in schema or "oneOf" in schema or "allOf" in schema:
        return "table"
    if schema["type"] == "array":
        inner = [_kind(part) for part in schema.get("prefixItems", ())]
        return f"list: {', '.join(inner)}" if inner else f"list of {_kind(schema['items'])}"
    if schema["type"] == "object":
        return f"table of {_kind(schema['additionalProperties'])}"
    return _plain(schema)


def _plain(schema: dict[str, Any]) -> str:
    """Describe a text, a number or a truth value with its bounds."""
    words = {"string": "text", "boolean": "`true` or `false`", "integer": "whole number", "number": "number"}
    kind = schema.get("format", words[schema["type"]])
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    return " ".join([kind, *(f"{sign} {schema[bound]:g}" for bound, sign in signs.items() if bound in schema)])


def _title(role: str, model: type[BaseModel]) -> str:
    kinds = ", ".join(f'`"{kind}"`' for kind in typing.get_args(model.model_fields["kind"].annotation))
    return f"{role} {kinds}".strip()


def _prose(model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").split())
    more = " With the fields of `[data]` that say which column is which." if model is Source else ""
    return text + more


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a union, in order."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _encoder() -> Any:
    return options.EncodedOptions.model_fields["encoder"].annotation


if __name__ == "__main__":
    sys.stdout.write(page())
