"""Who may import whom, read from the syntax trees: the architecture, as a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRANSPORT = {
    f"service.{name}"
    for name in (
        *("protocol.status", "server.server", "client.credentials"),
        *("inference", "admin", "oip", "oip_stream", "auth_interceptor", "listener", "tls", "reflection", "converters"),
    )
} | {
    f"service.transports.grpc.{name}"
    for name in ("inference", "admin", "oip", "oip_stream", "auth_interceptor", "listener", "tls", "reflection")
}
PURE = {
    f"service.{name}"
    for name in (
        *("sessions.table", "sessions.state_arena", "sessions.output_log", "sessions.snapshot"),
        *("batching.batcher", "batching.admission", "batching.row_queue", "batching.grid", "batching.results"),
    )
}
TORCH_FREE = {
    "models.files",
    "models.spec",
    "models.bundle",
    "models.export.onnx_scan",
    "models.config",
    "models.data.recordings",
}


def modules() -> dict[str, Path]:
    found = {}
    for top in ("models", "service", "proto"):
        for path in (ROOT / top).rglob("*.py"):
            if "_pb2" not in path.name:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """What a file imports, at its top level alone unless `lazy`; `if TYPE_CHECKING` counts for nothing."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if lazy else [n for top in tree.body for n in _at_import(top)]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield from ast.walk(node)


def ours(names: Iterator[str]) -> set[str]:
    return {name.removeprefix("statestream.") for name in names if name.startswith("statestream.")}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("name", modules())
def test_import_rules(name: str) -> None:
    path = modules()[name]
    mine, everything = ours(imports(path)), set(imports(path))
    top = name.split(".")[0]
    if top == "proto":
        assert all(within(n, "proto") for n in mine), "proto imports nothing of ours"
    if top == "models":
        assert all(within(n, "models") for n in mine), "models imports neither service nor proto"
        if not within(name, "models.export") and name != "models.evaluation.latency":
            assert not any(within(n, "onnxruntime") for n in everything), "onnxruntime is for what exports and measures"
    if top == "service" and not within(name, "service.cli") and not within(name, "service.playback"):
        allowed = ("models.spec", "models.bundle", "models.files", "models.jpeg", "service", "proto")
        stray = {n for n in mine if n != "models" and not any(within(n, a) for a in allowed)}
        assert not stray, "service knows spec, bundle, files and jpeg alone of models"
        if name != "service.engine.providers":
            assert not any(within(n, "onnxruntime") for n in everything), "onnxruntime is for service.providers"
        if not within(name, "service.dashboard"):
            assert not any(within(n, "aiohttp") for n in everything), "aiohttp is for the page"
    speaks = name in TRANSPORT or within(name, "service.client") or within(name, "service.loadtest")
    if top == "service" and not speaks:
        assert not any(within(n, "grpc") for n in everything), "grpc is for the transport files"
    if name in PURE:
        assert not any(within(n, p) for n in everything for p in ("time", "google", "proto", "asyncio"))


@pytest.mark.parametrize(
    "name", sorted(TORCH_FREE & modules().keys()) + [n for n in modules() if n.startswith("service")]
)
def test_no_torch_at_import(name: str) -> None:
    heavy = {"torch", "lightning", "ncps", "matplotlib", "pyarrow", "onnxscript"}
    found = {n.split(".")[0] for n in imports(modules()[name], lazy=False)}
    assert not found & heavy
