"""The C++ example is built from the .proto files and streams: other languages need nothing else."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.bundle import CHUNK, STEP, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import Manifest
from statestream.service.client import AsyncClient, Relative, Verdict
from statestream.service.server.server import Server
from tests.conftest import leaky_manifest
from tests.support.bundles import leaky_golden, leaky_step
from tests.support.cpp import build, missing
from tests.support.proxies import impatient_haproxy

EXAMPLE = Path(__file__).parents[2] / "examples/cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := missing():
        pytest.skip(why)
    out = tmp_path_factory.mktemp("cpp")
    build(EXAMPLE, out)
    return out / "stream"


async def run(program: Path, server: Server, model: str, rows: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        program, f"127.0.0.1:{server.port}", model, "arm",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(rows.encode()), 60)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.slow
@pytest.mark.usefixtures("transport")
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


@pytest.mark.usefixtures("transport")
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


@pytest.mark.usefixtures("transport")
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


CONVERT = """
#include <iomanip>
#include <iostream>
#include <sstream>
#include "relative.h"
int main(int, char** argv) {
  Relative relative(argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::vector<double> row;
    for (std::string word; words >> word;) row.push_back(std::stod(word));
    for (const float value : relative(row)) std::cout << std::setprecision(9) << value << " ";
    std::cout << "\\n";
  }
}
"""


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that converts rows of its input with the example's header."""
    if why := missing():
        pytest.skip(why)
    out = tmp_path_factory.mktemp("relative")
    (out / "convert.cc").write_text(CONVERT)
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "protobuf"], capture_output=True, text=True, check=True
    ).stdout.split()
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", f"-I{EXAMPLE}", out / "convert.cc", "-o", out / "convert"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return out / "convert"


def with_ticks(nan: str = "invalid", relative: tuple[str, ...] = ("a",)) -> Manifest:
    """The leaky model, whose first element is the difference to the row before."""
    manifest = leaky_manifest("ticks", 1)
    spec = manifest.inputs[0].model_copy(update={"relative": relative, "nan": nan})
    return manifest.model_copy(update={"inputs": (spec,)})


def ticks(rows: int) -> np.ndarray:
    """An encoder that a float cannot hold, and a voltage; some of both are not measured, or infinite."""
    random = np.random.default_rng(0)
    x = np.stack([1e8 + np.cumsum(random.integers(-3, 9, rows)), random.normal(size=rows)], axis=1)
    x[random.integers(1, rows, rows // 8), random.integers(0, 2, rows // 8)] = np.nan
    x[rows // 2] = (np.inf, 1.0)
    return x


@pytest.mark.parametrize("nan", ["invalid", "not_measured"])
@pytest.mark.parametrize("relative", [(), ("a",), ("b", "a")])
def test_relative_columns_are_what_the_python_client_makes_of_them(
    converter: Path, nan: str, relative: tuple[str, ...]
) -> None:
    x, manifest = ticks(200), with_ticks(nan, relative)
    lines = "".join(" ".join(map(repr, row)) + "\n" for row in x.tolist())
    run = subprocess.run(
        [converter, manifest.model_dump_json()], input=lines, capture_output=True, text=True, check=True
    )
    found = np.array([[float(word) for word in line.split()] for line in run.stdout.splitlines()], np.float32)
    np.testing.assert_array_equal(found, Relative(manifest.inputs[0])(x))


@pytest.mark.slow
async def test_a_model_of_relative_columns_gets_differences(
    program: Path, start: Callable[..., Any], tmp_path: Path
) -> None:
    manifest, step = with_ticks(), leaky_step()
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    write_bundle(tmp_path / "ticks/1", manifest, leaky_golden(), graphs)
    server = await start(repository=tmp_path)
    x, t_ns = ticks(24), np.arange(1, 25) * 10**8
    lines = [f"{t} {a!r} {b!r}" for t, (a, b) in zip(t_ns.tolist(), x.tolist(), strict=True)]
    code, out, err = await run(program, server, "ticks", "\n".join(lines))
    assert code == 0, err
    said = [line.split() for line in out.splitlines()]
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("ticks")
        expected = await session.chunk(Relative(session.manifest.inputs[0])(x), t_ns)
    assert [line[1].removeprefix("VERDICT_") for line in said] == [Verdict(v).name for v in expected.verdict]
    assert 0 < len(expected.row) < len(x)
    y = [[float(value) for value in said[row][3:]] for row in expected.row]
    np.testing.assert_allclose(y, expected.y, rtol=1e-6)
    assert np.abs(y).max() < 1e3, "the encoder's 1e8 ticks are not among the inputs"
