"""Who may import whom, read from the syntax trees: the layers of docs/architecture.md, as a test."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config", "addresses", "failpoints", "extras", "protocol"),
    ("engine", "sessions", "auth", "client"),
    ("batching", "durability", "playback", "bridge"),
    ("serving",),
    ("control", "recording", "embedded"),
    ("streams", "oip", "telemetry"),
    ("transports", "dashboard"),
    ("server", "loadtest"),
)
"""Packages and modules of service/, lowest layer first. An import leads to a lower layer, or stays in its package; in
the lowest, where words and numbers are, it may also lead to a neighbour."""
COMMANDS = "service.cli"
"""The commands stand above all layers: they import what they run, and nothing imports them."""
MOVED = (
    *("service.verdict", "service.prediction", "service.security"),
    *("service.cli.play", "service.cli.score", "service.cli.annotate"),
    *("models.baselines", "models.results", "models.data.sources", "models.data.splits"),
)
"""Import paths of version 0.1 that lead to where things are now: for users, not for us."""
MODELS: tuple[tuple[str, ...], ...] = (
    ("files", "npy", "spec", "demo", "jpeg", "bundle", "metrics", "relative", "levels", "problems", "toml"),
    ("cells",),
    ("data",),
    ("config", "presets"),
    ("training",),
    ("export",),
    ("evaluation",),
    ("experiments",),
)
"""The same of models/. The lowest layer's modules may import one another."""

GRPC = ("service.transports", "service.client", "service.loadtest", "service.protocol.status", "service.server")
WIRE = (
    *("service.transports.grpc", "service.client", "service.loadtest", "service.protocol.status", "service.server"),
    *("service.streams.decoding", "service.streams.encoding"),
)
"""The protocols' messages are read and written here; everything else works on values."""
PURE = ("service.sessions", "service.batching")
"""Neither a clock, a loop nor a message of protobuf: they are values and functions of values."""
TORCH_FREE = {
    *("models.files", "models.spec", "models.bundle", "models.config", "models.data.recordings"),
    *("models.export.onnx_scan", "models.training", "models.export"),
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for top in ("models", "service", "proto"):
        for path in (ROOT / top).rglob("*.py"):
            if "_pb2" not in path.name:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """What a file imports, inside functions and under `if TYPE_CHECKING` too; at import alone unless `lazy`."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if lazy else [n for top in tree.body for n in _at_import(top)]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "need" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def _at_import(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield from ast.walk(node)


@cache
def edges(name: str) -> frozenset[str]:
    """Modules of ours that a module imports."""
    ours = {n.removeprefix("statestream.") for n in imports(modules()[name]) if n.startswith("statestream.")}
    return frozenset(n if n in modules() else n.rpartition(".")[0] for n in ours) - {name}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def layer(name: str, top: str, layers: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """The number of a module's layer, and its row there."""
    for number, rows in enumerate(layers, 1):
        for row in rows:
            if within(name, f"{top}.{row}"):
                return number, row
    raise AssertionError(f"{name} has no row in the table of layers")


def wrong_edges(top: str, layers: tuple[tuple[str, ...], ...], apart: tuple[str, ...]) -> list[str]:
    """Edges within `top` that lead up, or sideways above the lowest layer; modules `apart` import what they like."""
    wrong = []
    for name in modules():
        if within(name, top) and name != top and not within(name, *apart):
            number, row = layer(name, top, layers)
            for other in edges(name):
                if within(other, top) and other != top:
                    if within(other, *apart):
                        wrong.append(f"{name} → {other}")
                        continue
                    its, its_row = layer(other, top, layers)
                    if its_row != row and not (its < number or its == number == 1):
                        wrong.append(f"{name} ({number}) → {other} ({its})")
    return wrong


def test_the_server_is_layers_and_no_edge_leads_up_or_sideways() -> None:
    assert len(LAYERS) <= 8
    assert wrong_edges("service", LAYERS, (COMMANDS, *MOVED)) == []


def test_models_are_layers_and_no_edge_leads_up_or_sideways() -> None:
    assert wrong_edges("models", MODELS, MOVED) == []


def circles() -> list[set[str]]:
    """Files that import one another, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges(name):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            circle = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(circle)

    for name in modules():
        if name not in index:
            visit(name)
    return found


def test_no_files_import_one_another_in_a_circle() -> None:
    """Imports inside functions and under `if TYPE_CHECKING` count."""
    assert circles() == []


def test_few_modules_lie_flat_in_service() -> None:
    flat = [path.stem for path in (ROOT / "service").glob("*.py") if path.stem != "__init__"]
    assert len(flat) <= 8, flat


@pytest.mark.parametrize("name", modules())
def test_import_rules(name: str) -> None:
    mine, everything = edges(name), set(imports(modules()[name]))
    top = name.split(".")[0]
    assert not any(within(n, *MOVED) for n in mine), "paths of version 0.1 are for users"
    if top == "proto":
        assert all(within(n, "proto") for n in mine), "proto imports nothing of ours"
    if top == "models":
        assert all(within(n, "models") for n in mine), "models imports neither service nor proto"
        if not within(name, "models.export", "models.evaluation.latency"):
            assert not any(within(n, "onnxruntime") for n in everything), "onnxruntime is for what exports and measures"
    if top == "service" and not within(name, COMMANDS):
        allowed = [
            "spec",
            "bundle",
            "files",
            "npy",
            "jpeg",
            "metrics",
            "relative",
            "levels",
            "problems",
            *(["data"] if within(name, "service.playback", "service.bridge") else ()),
        ]
        theirs = [n for n in mine if within(n, "models")]
        stray = [n for n in theirs if n != "models" and not within(n, *(f"models.{each}" for each in allowed))]
        assert not stray, (
            "service knows spec, bundle, files, npy, jpeg, metrics, relative, levels; what plays and bridges, data too"
        )
        if name != "service.engine.providers":
            assert not any(within(n, "onnxruntime") for n in everything), "onnxruntime is for engine.providers"
        if not within(name, "service.dashboard"):
            assert not any(within(n, "aiohttp") for n in everything), "aiohttp is for the page"
    if top == "service" and not within(name, *GRPC):
        assert not any(within(n, "grpc") for n in everything), "grpc is for the transport files"
    if top == "service" and not within(name, *WIRE, COMMANDS):
        stray = [n for n in everything if within(n, "google", "statestream.proto.v1", "statestream.proto.oip")]
        assert not stray, "messages are for what reads and writes them"
    if within(name, *PURE):
        assert not any(within(n, "time", "google", "statestream.proto", "asyncio") for n in everything)


@pytest.mark.parametrize("name", sorted(TORCH_FREE) + [n for n in modules() if within(n, "service")])
def test_no_torch_at_import(name: str) -> None:
    heavy = {"torch", "lightning", "ncps", "matplotlib", "pyarrow", "onnxscript"}
    found = {n.split(".")[0] for n in imports(modules()[name], lazy=False)}
    assert not found & heavy


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("service.sessions.table", "service.control.host"),
        ("service.streams.stream", "service.oip.sequences"),
        ("service.sessions.table", "service.cli.app"),
        ("service.client.session", "service.engine.onnx"),
    ],
    ids=["up", "sideways", "commands", "client to server"],
)
def test_a_wrong_edge_is_found(monkeypatch: pytest.MonkeyPatch, name: str, other: str) -> None:
    monkeypatch.setattr(sys.modules[__name__], "edges", lambda module: {other} if module == name else set())
    assert len(wrong_edges("service", LAYERS, (COMMANDS, *MOVED))) == 1
