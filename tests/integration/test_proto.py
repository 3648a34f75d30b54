"""The generated code is what the `.proto` files say, made by the oldest tools that we support."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.verdict import ResultFlag, RowFlag, Verdict

ROOT = Path(__file__).parents[2]
PROTOC = ROOT / "build/protoc/bin/python"


@pytest.mark.skipif(not PROTOC.exists(), reason="`make proto` has not installed the compiler")
def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run(["make", "--silent", "proto", f"OUT={tmp_path}"], cwd=ROOT, check=True)
    fresh = {path.name: path.read_text() for path in (tmp_path / "statestream/proto/v1").iterdir()}
    assert len(fresh) == 6
    for name, text in fresh.items():
        assert (ROOT / "proto/v1" / name).read_text() == text, f"{name} is stale: run `make proto`"


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
