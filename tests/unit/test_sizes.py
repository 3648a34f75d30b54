"""Classes and signatures of the service stay small enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
MOST_LINES, MOST_PARAMETERS = 250, 8
WIDE = {"cli", "client/stream.py", "client/sync.py"}
"""Commands have a parameter an option, and `stream.open` is called with keywords."""
FILES = sorted(str(path.relative_to(SERVICE)) for path in SERVICE.rglob("*.py"))


def tree(file: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse((SERVICE / file).read_text())))


@pytest.mark.parametrize("file", FILES)
def test_a_class_has_250_lines_at_most(file: str) -> None:
    classes = [node for node in tree(file) if isinstance(node, ast.ClassDef)]
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("file", [file for file in FILES if not any(file.startswith(wide) for wide in WIDE)])
def test_a_function_has_8_parameters_at_most(file: str) -> None:
    functions = [node for node in tree(file) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    counts = {node.name: parameters(node.args) for node in functions}
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def parameters(arguments: ast.arguments) -> int:
    """Parameters that a caller passes."""
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])
