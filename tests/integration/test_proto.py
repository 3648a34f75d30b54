"""The generated code is what the `.proto` files say, made by the oldest tools that we support, and speaks of the same
things as whoever else speaks that protocol."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from statestream.proto.oip import inference_pb2 as oip
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.protocol.verdict import ResultFlag, RowFlag, Verdict

ROOT = Path(__file__).parents[2]
PROTOC = ROOT / "build/protoc/bin/python"


@pytest.mark.skipif(not PROTOC.exists(), reason="`make proto` has not installed the compiler")
def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run(["make", "--silent", "proto", f"OUT={tmp_path}"], cwd=ROOT, check=True)
    made = tmp_path / "statestream/proto"
    fresh = {path.relative_to(made): path.read_text() for path in made.rglob("*.py*")}
    assert len(fresh) == 10
    for name, text in fresh.items():
        assert (ROOT / "proto" / name).read_text() == text, f"{name} is stale: run `make proto`"


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Verdict, pb.Verdict, "VERDICT_"),
        (RowFlag, pb.RowFlag, "ROW_FLAG_"),
        (ResultFlag, pb.ResultFlag, "RESULT_FLAG_"),
    ],
)
def test_enumerations_are_the_protocols(ours: type, theirs: object, prefix: str) -> None:
    named = {f"{prefix}{name}": int(value) for name, value in ours.__members__.items()}
    assert {f"{prefix}UNSPECIFIED": 0} | named == dict(theirs.items())


def described(*modules: object) -> dict[str, object]:
    """Every field, enumeration value and method by its full name, with all that it is on the wire."""
    found: dict[str, object] = {}
    for module in modules:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)  # type: ignore[attr-defined]
        for enum in file.enum_type:
            found |= {f"{file.package}.{enum.name}.{value.name}": value.number for value in enum.value}
        for service in file.service:
            for method in service.method:
                streams = (method.client_streaming, method.server_streaming)
                found[f"{file.package}.{service.name}.{method.name}"] = (method.input_type, method.output_type, streams)
        for message in file.message_type:
            found |= dict(fields(message, file.package))
    return found


def fields(message: descriptor_pb2.DescriptorProto, scope: str) -> Iterator[tuple[str, object]]:
    name = f"{scope}.{message.name}"
    yield name, message.options.map_entry
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        yield f"{name}.{field.name}", (field.number, field.type, field.label, field.type_name, oneof)
    for nested in message.nested_type:
        yield from fields(nested, name)


def test_the_open_inference_protocol_is_that_of_tritons_clients() -> None:
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    ours, theirs = described(oip), described(model_config, service)
    assert len(ours) > 150
    assert {name: theirs.get(name) for name in ours} == ours
    assert oip.DESCRIPTOR.pool is not service.DESCRIPTOR.pool, "both live in one process"
