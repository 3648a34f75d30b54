"""`python -m tests.hostile.native [--minutes 30] [--write]`: fuzzes the C++ of the native transport under sanitizers.

By libFuzzer where clang is installed, else by a mutator of our own. Figures go to `build/fuzz_native.json`, and with
`--write` into `docs/reliability.md`. Inputs that fail stay in `build/fuzz-native`.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from statestream.proto.v1 import inference_pb2 as pb
from tests.support.conclusion import BUILD, conclude, parser
from tests.support.http2 import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    call,
    data,
    frame,
    greeting,
    header_block,
    message,
)  # fmt: skip

PROGRAMS = Path(__file__).parent
WHAT = {
    "connection": "bytes of HTTP/2",
    "client_call": "a server's bytes of HTTP/2",
    "rows": "messages, beside protobuf",
}
"""What each fuzzer feeds."""


def seeds() -> dict[str, list[bytes]]:
    """What the fuzzers begin with."""
    columns = [pb.Column(name="x", data=bytes(16)), pb.Column(name="m", data=bytes(2))]
    plain = pb.Steps(channel=[0, 300], seq=[1, 500], timestamp_ns=[1, 2], columns=columns)
    requests = [
        pb.StreamRequest(steps=plain),
        pb.StreamRequest(steps=plain, acks=pb.Acks(channel=[0, 1], seq=[1, 2**40])),
        pb.StreamRequest(acks=pb.Acks(channel=[300], seq=[7])),
        pb.StreamRequest(
            steps=pb.Steps(
                channel=[1], seq=[3], budget_us=[50_000],
                columns=[pb.Column(name="x", data=bytes(8)), pb.Column(name="m", data=bytes(1))],
            )
        ),
        pb.StreamRequest(open=[pb.Open(channel=1, session_id="s")], close=[pb.Close(channel=2)]),
    ]  # fmt: skip
    bodies = [request.SerializeToString() for request in requests]
    reply = pb.StreamResponse(
        results=pb.Results(
            channel=[0, 300], seq=[1, 500], verdict=[1, 1], dt_s=[0.1, 0.2], epoch=[1, 2],
            columns=[pb.Column(name="y", data=bytes(8))], queue_us=70, compute_us=300, batch=2,
        )
    ).SerializeToString()  # fmt: skip
    whole = greeting() + call() + b"".join(data(message(body)) for body in bodies)
    whole += (
        frame(PING, payload=bytes(8)) + call(3, "/x/Y") + data(message(b"z" * 5000), 3, END_STREAM) + data(b"", 1, 1)
    )
    answer = frame(SETTINGS) + frame(HEADERS, 1, header_block([(":status", "200")]), END_HEADERS)
    answer += b"".join(data(message(body)) for body in bodies) + frame(PING, payload=bytes(8))
    answer += data(message(b"z" * 5000)) + frame(GOAWAY, payload=struct.pack(">II", 1, 0))
    answer += frame(HEADERS, 1, header_block([("grpc-status", "0")]), END_HEADERS | END_STREAM)
    return {
        "connection": [b"\xff" + whole, b"\x03" + whole],
        "client_call": [b"\xff" + answer, b"\x03" + answer],
        "rows": [*bodies, reply],
    }


class Fuzzed(NamedTuple):
    """What came of one fuzzer."""

    inputs: int
    kept: int
    """Of them, those that reached something new, or were kept to go on from."""
    failed: str
    """What it said at its end, if it failed."""


def libfuzzer(program: Path, seconds: int, files: Sequence[Path]) -> Fuzzed:
    """Run a fuzzer of libFuzzer's, which is led by coverage; inputs that fail stay beside it."""
    corpus = program.with_suffix(".corpus")
    corpus.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, corpus)
    flags = (f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={program}.failed.")
    done = subprocess.run([program, *flags, corpus], stderr=subprocess.PIPE, text=True, errors="replace")
    inputs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return Fuzzed(
        int(inputs[1]) if inputs else 0, len(list(corpus.iterdir())), done.stderr[-2000:] if done.returncode else ""
    )


def mutating(program: Path, seconds: int, files: Sequence[Path]) -> Fuzzed:
    """Run a fuzzer with driver.cc, which is led by nothing."""
    done = subprocess.run([program, str(seconds), "1", *files], capture_output=True, text=True, errors="replace")
    if done.returncode:
        return Fuzzed(0, 0, done.stderr[-2000:] or f"exit code {done.returncode}")
    runs = json.loads(done.stdout)["runs"]
    return Fuzzed(runs, min(runs // 16, 4096), "")


def main() -> None:
    given = parser("hostile.native", minutes=30.0).parse_args()
    out = BUILD / "fuzz-native"
    guided = shutil.which("clang++") is not None
    engine = ["CXX=clang++", "ENGINE=-fsanitize=fuzzer"] if guided else []
    subprocess.run(["make", "-C", PROGRAMS, f"OUT={out}", *engine], check=True)
    seconds = max(1, round(given.minutes * 60 / len(WHAT)))
    found: dict[str, Fuzzed] = {}
    for name, texts in seeds().items():
        files = [out / f"{name}.seed{k}" for k in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_bytes(text)
        found[name] = (libfuzzer if guided else mutating)(out / name, seconds, files)
    facts: dict[str, Any] = {"minutes": given.minutes, "engine": "libFuzzer" if guided else "driver.cc"}
    facts |= {name: fuzzed._asdict() for name, fuzzed in found.items()}
    rows = [
        [f"{name}, {WHAT[name]}", f"{seconds / 60:g}", f"{one.inputs:,}", f"{one.kept:,}", str(int(bool(one.failed)))]
        for name, one in found.items()
    ]
    problems = [f"{name}: {one.failed}" for name, one in found.items() if one.failed]
    columns = ("minutes", "inputs", "kept", "failures")
    conclude("fuzz_native", facts, rows, problems, write=given.write, columns=columns)


if __name__ == "__main__":
    main()
