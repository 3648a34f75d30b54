"""The C++ example is built from the .proto files and streams: other languages need nothing else."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from statestream.service.client import AsyncClient, Verdict
from statestream.service.server.server import Server
from tests.support.proxies import impatient_haproxy

EXAMPLE = Path(__file__).parents[2] / "examples/cpp"
NEEDED = ("g++", "make", "protoc", "grpc_cpp_plugin", "pkg-config")


def missing() -> str:
    """What the example's build lacks here; empty where nothing."""
    if lacking := [name for name in NEEDED if shutil.which(name) is None]:
        return f"{', '.join(lacking)} missing"
    done = subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"])
    return "libgrpc++-dev or libprotobuf-dev missing" if done.returncode else ""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := missing():
        pytest.skip(why)
    out = tmp_path_factory.mktemp("cpp")
    done = subprocess.run(["make", "-C", EXAMPLE, f"OUT={out}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return out / "stream"


async def run(program: Path, server: Server, model: str, rows: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        program, f"127.0.0.1:{server.port}", model, "arm",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(rows.encode()), 60)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.slow
async def test_it_streams_what_the_python_client_streams_and_resumes(program: Path, server: Server) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(12, 2)).astype(np.float32)
    x[7, 1] = np.nan
    t_ns = np.cumsum(random.integers(10**7, 10**9, len(x)))
    lines = [f"{t} {a!r} {b!r}" for t, (a, b) in zip(t_ns.tolist(), x.tolist(), strict=True)]
    said = []
    for part, words in ((lines[:5], "opened arm after row 0"), (lines[5:], "resumed arm after row 5")):
        code, out, err = await run(program, server, "leaky", "\n".join(part))
        assert (code, err.strip()) == (0, words)
        said += [line.split() for line in out.splitlines()]
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        expected = await (await stream.open("leaky")).chunk(x, t_ns)
    assert [line[0] for line in said] == [str(seq) for seq in expected.seq]
    assert [line[1].removeprefix("VERDICT_") for line in said] == [Verdict(v).name for v in expected.verdict]
    applied = [[float(value) for value in said[row][3:]] for row in expected.row]
    np.testing.assert_allclose(applied, expected.y, rtol=1e-6)
    assert "columns['x']: element 1 ('b') is nan" in " ".join(said[7])


async def test_what_is_wrong_is_said_by_the_server_or_the_example(program: Path, server: Server) -> None:
    code, _, err = await run(program, server, "nope", "")
    assert (code, "no model 'nope' here" in err) == (1, True)
    code, _, err = await run(program, server, "leaky", "1 2 3 4")
    assert (code, err.splitlines()[-1]) == (1, "error: a row has 2 values, got '1 2 3 4'")


async def cut(server: Server) -> None:
    """Wait until the proxy has ended every stream."""
    for _ in range(600):
        if not server.streams:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the proxy did not cut the stream")


async def test_it_comes_back_from_streams_that_haproxy_cuts(program: Path, server: Server, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    t_ns = np.arange(1, len(x) + 1) * 10**8
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        expected = (await (await stream.open("leaky")).chunk(x, t_ns)).y
    async with impatient_haproxy(server.port, tmp_path) as port:
        process = await asyncio.create_subprocess_exec(
            program, f"127.0.0.1:{port}", "leaky", "arm",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        said = []
        for t, (a, b) in zip(t_ns.tolist(), x.tolist(), strict=True):
            process.stdin.write(f"{t} {a!r} {b!r}\n".encode())
            said.append((await asyncio.wait_for(process.stdout.readline(), 60)).decode().split())
            await cut(server)
        process.stdin.close()
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    assert err.decode().count("connecting again: ") == len(x) - 1
    assert [line[:2] for line in said] == [[str(seq), "VERDICT_APPLIED"] for seq in range(1, len(x) + 1)]
    np.testing.assert_allclose([[float(value) for value in line[3:]] for line in said], expected, rtol=1e-6)
