"""What the documentation site adds to the pages of this folder: the reference of commands and protocol, generated."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2 as descriptors
from grpc_tools import protoc
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PROTOS = ("inference.proto", "admin.proto")
# Field numbers of a file's descriptor, which the paths of comments are made of.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED, NESTED_ENUMS, VALUES, METHODS = 2, 3, 4, 2, 2
_KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in descriptors.FieldDescriptorProto.Type.items()}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=commands()))
    files.append(File.generated(config, "reference/protocol.md", content=protocol()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository, which the site does not hold, become their names."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!docs/)[^)]+\)", r"`\1`", markdown)


def commands() -> str:
    """Every command with its options, by typer's own generator."""
    import typer
    from typer.cli import get_docs_for_click

    from statestream.service.cli.app import app

    command = typer.main.get_command(app)
    with command.make_context("statestream", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="statestream", title="Commands")
    # Markup is for terminals; lines of examples, two spaces in, are code.
    return re.sub(r"^ {2,}(?=statestream )", "    ", re.sub(r"\[/?(?:bold|dim|cyan)?\]", "", text), flags=re.MULTILINE)


def protocol() -> str:
    """Every service, message and enum of the protocol, with what the proto says of them."""
    lines = ["# Protocol", ""]
    for name in PROTOS:
        file = _described(name)
        comments = {tuple(spot.path): _text(spot) for spot in file.source_code_info.location}
        lines += [f"## {name}", "", comments.get((12,), ""), ""]  # 12: the line `syntax`, below the opening comment
        for i, service in enumerate(file.service):
            lines += _service(service, (SERVICES, i), comments)
        for i, message in enumerate(file.message_type):
            lines += _message(message, (MESSAGES, i), comments, "")
        for i, enum in enumerate(file.enum_type):
            lines += _enum(enum, (ENUMS, i), comments)
    return "\n".join(lines) + "\n"


def _described(name: str) -> descriptors.FileDescriptorProto:
    with tempfile.NamedTemporaryFile() as out:
        includes = [f"-I{ROOT / 'proto/v1'}", f"-I{resources.files('grpc_tools') / '_proto'}"]
        code = protoc.main(
            [
                "protoc",
                *includes,
                "--include_source_info",
                f"--descriptor_set_out={out.name}",
                str(ROOT / "proto/v1" / name),
            ]
        )
        if code:
            raise RuntimeError(f"protoc cannot read {name}")
        return descriptors.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file[-1]


def _text(spot: descriptors.SourceCodeInfo.Location) -> str:
    detached = "\n\n".join(part.strip() for part in spot.leading_detached_comments)
    return " ".join((spot.leading_comments or detached).split()) or " ".join(spot.trailing_comments.split())


def _service(
    service: descriptors.ServiceDescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[str]:
    yield from (
        f"### service {service.name}",
        "",
        comments.get(path, ""),
        "",
        "| RPC | takes | answers | |",
        "|---|---|---|---|",
    )
    for i, method in enumerate(service.method):
        takes = "stream of " * method.client_streaming + f"`{_short(method.input_type)}`"
        answers = "stream of " * method.server_streaming + f"`{_short(method.output_type)}`"
        yield _row(f"`{method.name}`", takes, answers, comments.get((*path, METHODS, i), ""))
    yield ""


def _message(
    message: descriptors.DescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str], outer: str
) -> Iterator[str]:
    if message.options.map_entry:
        return
    yield from (f"### {outer}{message.name}", "", comments.get(path, ""), "")
    if message.field:
        yield from ("| field | number | kind | |", "|---|---|---|---|")
    for i, field in enumerate(message.field):
        yield _row(f"`{field.name}`", str(field.number), _kind(field, message), comments.get((*path, FIELDS, i), ""))
    yield ""
    for i, nested in enumerate(message.nested_type):
        yield from _message(nested, (*path, NESTED, i), comments, f"{outer}{message.name}.")
    for i, enum in enumerate(message.enum_type):
        yield from _enum(enum, (*path, NESTED_ENUMS, i), comments)


def _enum(
    enum: descriptors.EnumDescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[str]:
    yield from (f"### enum {enum.name}", "", comments.get(path, ""), "", "| value | number | |", "|---|---|---|")
    for i, value in enumerate(enum.value):
        yield _row(f"`{value.name}`", str(value.number), comments.get((*path, VALUES, i), ""))
    yield ""


def _kind(field: descriptors.FieldDescriptorProto, message: descriptors.DescriptorProto) -> str:
    name = f"`{_short(field.type_name)}`" if field.type_name else _KINDS[field.type]
    entry = next(
        (n for n in message.nested_type if n.options.map_entry and field.type_name.endswith(f".{n.name}")), None
    )
    if entry is not None:
        return f"map of {_kind(entry.field[0], entry)} to {_kind(entry.field[1], entry)}"
    return f"repeated {name}" if field.label == field.LABEL_REPEATED else name


def _short(name: str) -> str:
    return name.removeprefix(".statestream.v1.")


def _row(*cells: str) -> str:
    escaped: Sequence[str] = [cell.replace("|", "\\|") for cell in cells]
    return "| " + " | ".join(escaped) + " |"
