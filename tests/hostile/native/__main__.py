"""`make fuzz-native`: fuzzes the C++ of the native transport under sanitizers.

python -m tests.hostile.native --minutes 30 [--out build/fuzz-native]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from statestream.proto.v1 import inference_pb2 as pb
from tests.support.http2 import END_STREAM, PING, call, data, frame, greeting, message

PROGRAMS = Path(__file__).parent
FUZZERS = ("connection", "rows")


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
    whole = greeting() + call() + b"".join(data(message(body)) for body in bodies)
    whole += (
        frame(PING, payload=bytes(8)) + call(3, "/x/Y") + data(message(b"z" * 5000), 3, END_STREAM) + data(b"", 1, 1)
    )
    return {"connection": [b"\xff" + whole, b"\x03" + whole], "rows": bodies}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.native")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz-native"))
    given = parser.parse_args()
    out = given.out.resolve()
    subprocess.run(["make", "-C", PROGRAMS, f"OUT={out}"], check=True)
    seconds = max(1, round(given.minutes * 60 / len(FUZZERS)))
    failed = False
    for name in FUZZERS:
        files = []
        for k, seed in enumerate(seeds()[name]):
            (file := out / f"{name}.seed{k}").write_bytes(seed)
            files.append(file)
        done = subprocess.run([out / name, str(seconds), "1", *files], stdout=subprocess.PIPE, text=True)
        failed |= done.returncode != 0
        said = f"{json.loads(done.stdout)['runs']:,} inputs" if done.returncode == 0 else "FAILED"
        print(f"{name}: {said} in {seconds} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
