"""docs/training-file.md has every field of a training, as the code says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from statestream.models.config import Config
from statestream.models.training.training_file import descriptions, page

ROOT = Path(__file__).parents[3]


def models(annotation: Any, seen: set[type]) -> Iterator[type[BaseModel]]:
    """Every model that a configuration can hold."""
    plain = isinstance(annotation, type) and get_origin(annotation) is None
    if plain and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation, seen)
    for part in get_args(annotation):
        yield from models(part, seen)


MODELS = list(models(Config, set()))


def test_the_page_is_what_the_code_says() -> None:
    assert (ROOT / "docs/training-file.md").read_text() == page(), "run `make training-file`"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_says_what_it_is_good_for(model: type[BaseModel]) -> None:
    silent = [name for name, text in descriptions(model).items() if not text and name != "kind"]
    assert silent == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_on_the_page(model: type[BaseModel]) -> None:
    shown = page()
    for name in model.model_fields:
        assert name == "kind" or f"| `{name}` |" in shown
    for kind in get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ():
        assert f'`"{kind}"`' in shown


def test_kinds_defaults_and_bounds_are_shown() -> None:
    lines = page().splitlines()
    for row in (
        "| `epochs` | whole number > 0 | `100` |",
        '| `by` | `"recording"`, `"group"`, `"time"`, `"standard"` | `"recording"` |',
        "| `path` | path |  |",
        "| `keep_rows` | list: number > 0, number > 0 | `[1.0, 1.0]` |",
        "| `shift` | table of number > 0 | `{}` |",
        "| `test` | number ≥ 0 < 1 | `0.2` |",
        "| `name` | text | needed |",
    ):
        assert any(line.startswith(row) for line in lines), row
