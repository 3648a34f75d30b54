"""What users see of statestream: imports, settings, commands, messages and metrics, as plain values.

`python -m tests.compatibility.surface CHECKOUT REPOSITORY` prints it for the statestream on the path, so it runs on
earlier versions too: it imports only public names. CHECKOUT has the documents; REPOSITORY has leaky:1 and leaky:2.
"""

from __future__ import annotations

import ast
import asyncio
import enum
import importlib
import json
import re
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from inspect import signature
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import grpc
import numpy as np
import typer
from google.protobuf import descriptor_pb2, json_format
from prometheus_client.parser import text_string_to_metric_families
from typer.models import ParameterInfo

from examples.server import free_port
from statestream.proto.oip import inference_pb2 as oip_pb2
from statestream.proto.v1 import admin_pb2, admin_pb2_grpc, inference_pb2
from statestream.service.cli import main
from statestream.service.cli.app import app
from statestream.service.client import Access, AsyncClient
from statestream.service.config import ENV_PREFIX, ServerConfig
from statestream.service.server import Server

PLACES = ("README.md", "docs", "examples", "deploy")
"""Where imports are documented."""
EXPORTS = {
    "statestream.service.client": (),
    "statestream.service.errors": (),
    "statestream.service.embedded": ("Embedded", "EmbeddedSession"),
    "statestream.service.config": ("ServerConfig",),
    "statestream.service.server": ("Server", "run", "serve"),
    "statestream.service.cli": ("main",),
    "statestream.service.client.merge": ("Ordering",),
    "statestream.service.loadtest.worker": ("main", "run"),
}
"""Public modules, and their names that documents tell of; none: their `__all__`, else the classes they define."""


def imports(checkout: Path) -> dict[str, list[str]]:
    """Names that a checkout's documents import or that public modules export, by module."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, name in documented(checkout):
        found[module].add(name)
    for module, names in EXPORTS.items():
        found[module] |= set(names or _exported(importlib.import_module(module)))
    return {module: sorted(names - {""}) for module, names in sorted(found.items())}


def _exported(module: ModuleType) -> Iterable[str]:
    defined = [
        n for n, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return getattr(module, "__all__", defined)


def documented(checkout: Path) -> Iterator[tuple[str, str]]:
    """Modules and names that README, docs, examples and deploy import or describe; "" is the module alone."""
    for place in PLACES:
        top = checkout / place
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix == ".py":
                yield from _imported(path.read_text())
            elif path.suffix == ".md":
                yield from _told(path.read_text())


def _told(markdown: str) -> Iterator[tuple[str, str]]:
    """Imports of code blocks, names of the reference, dotted paths in the text, and commands."""
    for line in re.findall(r"^ *(from statestream\S+ import [^(\n]+|import statestream\S+)$", markdown, re.MULTILINE):
        yield from _imported(line.strip())
    for path in re.findall(r"(?m)^::: (statestream\S+)$", markdown) + re.findall(
        r"`(statestream\.\w+\.[\w.]+)`", markdown
    ):
        yield _split(path)
    yield from ((command, "") for command in re.findall(r"python -m (statestream[\w.]+)", markdown))


def _imported(code: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "statestream":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "statestream")


def _split(path: str) -> tuple[str, str]:
    """Module and name of a dotted path; modules are lower case, and `connect` is the one function that is described."""
    module, _, name = path.rpartition(".")
    return (module, name) if name[0].isupper() or name == "connect" else (path, "")


def settings() -> dict[str, Any]:
    """Each setting of the server: its environment variable, default and schema."""
    properties = ServerConfig.model_json_schema()["properties"]
    return {
        name: {"environment": f"{ENV_PREFIX}{name.upper()}"}
        | {key: value for key, value in schema.items() if key not in {"title", "description"}}
        for name, schema in sorted(properties.items())
    }


def commands() -> dict[str, Any]:
    """Each command's parameters, by the words that call it."""
    return dict(_commands("statestream", typer.main.get_command(app)))


def _commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    hints = signature(command.callback, eval_str=True).parameters if command.callback else {}
    shown = [p for p in command.params if p.name in hints]
    arguments = [p.name for p in shown if not p.opts[0].startswith("-")]
    yield (
        words,
        {"arguments": {str(place): name for place, name in enumerate(arguments, 1)}}
        | {" ".join([*p.opts, *p.secondary_opts]): _parameter(p, hints[p.name].annotation) for p in shown},
    )
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{words} {name}", below)


def _parameter(parameter: Any, hint: Any) -> dict[str, Any]:
    """All that a user types, or gets by not typing it."""
    infos = [info for info in getattr(hint, "__metadata__", ()) if isinstance(info, ParameterInfo)]
    bounds = {"least": [info.min for info in infos], "most": [info.max for info in infos]}
    return {
        "kind": _kind(hint),
        "required": parameter.required,
        "default": _plain(parameter.default),
        "environment": parameter.envvar,
    } | {which: bound for which, given in bounds.items() for bound in given if bound is not None}


def _kind(hint: Any) -> Any:
    """What a value must be: the name of a type, the words to choose from, or either in a list."""
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return {"one of": list(get_args(hint))}
    if get_origin(hint) in (Union, UnionType):
        return _kind(next(part for part in get_args(hint) if part is not type(None)))
    if get_origin(hint) is not None:
        return {get_origin(hint).__name__: [_kind(part) for part in get_args(hint)]}
    return {"one of": [_plain(one) for one in hint]} if issubclass(hint, enum.Enum) else hint.__name__


def _plain(default: Any) -> Any:
    if isinstance(default, enum.Enum):
        return _plain(default.value)
    if isinstance(default, (list, tuple)):
        return [_plain(one) for one in default]
    return default if default is None or isinstance(default, (bool, int, float, str)) else str(default)


def messages() -> dict[str, Any]:
    """The descriptors of the protocol's files, each message, field, value and method by its name."""
    files = (module.DESCRIPTOR for module in (inference_pb2, admin_pb2, oip_pb2))
    return {file.name: _by_name(_described(file.serialized_pb)) for file in files}


def _described(serialized: bytes) -> dict[str, Any]:
    return json_format.MessageToDict(descriptor_pb2.FileDescriptorProto.FromString(serialized))


def _by_name(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_name(below) for key, below in value.items() if key != "name"}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {str(one.get("name", place)): _by_name(one) for place, one in enumerate(value)}
    return value


async def metrics(repository: Path) -> dict[str, Any]:
    """Families with their labels and the labels' values, of a server with a store, a recorder, a shadow and clients."""
    with tempfile.TemporaryDirectory() as folder:
        scraped = await _scrape(repository, Path(folder))
    families = {f.name: f for f in text_string_to_metric_families(scraped) if f.name.startswith("statestream_")}
    return {name: {"kind": family.type, "labels": _labels(family)} for name, family in sorted(families.items())}


def _labels(family: Any) -> dict[str, list[str]]:
    values: dict[str, set[str]] = defaultdict(set)
    for sample in family.samples:
        for label, value in sample.labels.items():
            values[label].add(value)
    return {label: sorted(each) for label, each in sorted(values.items())}


async def _scrape(repository: Path, folder: Path) -> str:
    metrics_port, clients = free_port(), folder / "clients.json"
    token = _new_token(clients, folder / "token")
    server = Server(
        ServerConfig(
            repository=repository,
            models=("leaky:1",),
            providers=("cpu",),
            address="127.0.0.1:0",
            clients=clients,
            store=f"sqlite:{folder}/sessions.db",
            record=folder / "recordings",
            metrics_address=f"127.0.0.1:{metrics_port}",
            drain_s=0.1,
        )
    )
    await server.start()
    try:
        await _use(f"127.0.0.1:{server.port}", folder / "token", token)
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        return (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    finally:
        await server.stop()


def _new_token(clients: Path, token_file: Path) -> str:
    """The token of a client who may do everything."""
    roles = [word for role in ("stream", "read", "admin") for word in ("--role", role)]
    with token_file.open("w") as out, redirect_stdout(out):
        assert main(["tokens", "new", "ann", *roles, "--file", str(clients)]) == 0
    return token_file.read_text().strip()


async def _use(target: str, token_file: Path, token: str) -> None:
    """A row with a shadow beside it, a step of Triton's clients, and a call that is refused."""
    shadow = admin_pb2.LoadModelRequest(name="leaky", version=2, policy=admin_pb2.UPGRADE_POLICY_SHADOW)
    as_ann = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(target) as channel:
        await admin_pb2_grpc.AdminStub(channel).LoadModel(shadow, metadata=as_ann)
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        await infer(_first_step(), metadata=as_ann)
        with suppress(grpc.aio.AioRpcError):
            await infer(_first_step())
    async with AsyncClient(target, access=Access(token_file=token_file)) as client, client.stream() as stream:
        session = await stream.open("leaky")
        await session.step(np.ones(2, np.float32))


def _first_step() -> bytes:
    asked = oip_pb2.ModelInferRequest(model_name="leaky", raw_input_contents=[np.ones(2, "<f4").tobytes()])
    asked.inputs.add(name="x", datatype="FP32", shape=(1, 2))
    asked.parameters["sequence_id"].int64_param = 1
    asked.parameters["sequence_start"].bool_param = True
    return asked.SerializeToString()


async def surface(checkout: Path, repository: Path) -> dict[str, Any]:
    """Everything, by the name of its stored file."""
    return {
        "imports": imports(checkout),
        "settings": settings(),
        "commands": commands(),
        "messages": messages(),
        "metrics": await metrics(repository),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(surface(*map(Path, sys.argv[1:])))))
