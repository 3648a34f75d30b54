"""The commands against a real server, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from statestream.models.bundle import CHUNK, GOLDEN, Bundle, read_manifest
from statestream.service.cli import main
from tests.conftest import leak
from tests.support.bundles import write_leaky
from tests.support.server_process import COMMAND


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of 100 rows, 20 ms apart on average, with a target."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "walk.csv"
    lines = ["recording,timestamp_ns,a,b,left,right"]
    for name in ("one", "two", "three"):
        t_ns = 10**18
        for _ in range(100):
            t_ns += int(random.integers(1_000_000, 39_000_000))
            lines.append(f"{name},{t_ns},{random.normal():.6f},{random.normal():.6f},1,2")
    path.write_text("\n".join(lines))
    return path


def rollouts(walk: Path) -> np.ndarray:
    """The leaky model over the recordings of a file, `[rows, 2]`."""
    names = np.loadtxt(walk, delimiter=",", skiprows=1, usecols=0, dtype=str)
    t_ns = np.loadtxt(walk, delimiter=",", skiprows=1, usecols=1, dtype=np.int64)
    x = np.loadtxt(walk, delimiter=",", skiprows=1, usecols=(2, 3)).astype(np.float32)
    ys, h, before, name = [], None, 0, ""
    for row in range(len(x)):
        fresh = names[row] != name
        dt_s = 0.1 if fresh else (int(t_ns[row]) - before) * 1e-9
        h = leak(np.full(2, 0.5, np.float32) if fresh or h is None else h, x[row], max(dt_s, 0.001))
        ys.append(2 * h)
        before, name = int(t_ns[row]), str(names[row])
    return np.stack(ys)


@pytest.mark.parametrize("rate", ["max", "5x"])
def test_a_file_is_played_and_its_outputs_are_the_rollout(
    served: str, walk: Path, tmp_path: Path, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.csv"
    targets = ["--target-column", "left", "--target-column", "right"]
    command = ["stream", str(walk), "--model", "leaky", "--rate", rate, "--target", served, "--out", str(out), "--json"]
    assert main([*command, *targets]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["recordings"], said["rows"]) == ("leaky:1", 3, 300)
    assert said["verdicts"] == {"APPLIED": 300}
    assert 0 < said["p50_ms"] <= said["p99_ms"]
    y = np.loadtxt(out, delimiter=",", skiprows=1, usecols=(5, 6))
    expected = rollouts(walk)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert said["mse"] == pytest.approx(float(((expected - [1, 2]) ** 2).mean()), rel=1e-4)
    assert main(["sessions", "list", "--target", served, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == []


def test_models_and_sessions(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    from statestream.service.client import connect

    assert main(["models", "list", "--target", served]) == 0
    assert re.search(r"leaky +1 +active +x 2 +y 2 +8 B +0\.1 s", capsys.readouterr().out)
    assert main(["models", "show", "leaky:1", "--target", served]) == 0
    assert "input   x     2      float32  a, b" in capsys.readouterr().out
    assert main(["models", "show", "leaky", "--svg", "--target", served]) == 1
    assert "leaky:1 has no wiring" in capsys.readouterr().err
    assert main(["models", "show", "nobody", "--target", served]) == 1
    assert "no model 'nobody' here" in capsys.readouterr().err
    with connect(served) as client, client.stream() as stream, stream.open("leaky", "wrist") as session:
        session.step([1, 1])
        assert main(["sessions", "show", "wrist", "--target", served, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["settled_seq"] == 1
        assert main(["sessions", "reset", "wrist", "--target", served]) == 0
        assert session.step([1, 1]).y == pytest.approx(2 * leak(np.full(2, 0.5), np.ones(2), 0.1))
        assert main(["sessions", "close", "wrist", "--target", served]) == 0
        with pytest.raises(Exception, match="EVICTED"):
            session.step([1, 1])
    assert main(["sessions", "show", "wrist", "--target", served]) == 1
    assert main(["models", "unload", "leaky:7", "--target", served]) == 1


def test_an_interrupted_stream_leaves_no_session(
    served: str, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.csv"
    command = [*COMMAND, "stream", str(walk), "--model", "leaky", "--rate", "0.1", "--target", served]
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not sessions(served, capsys):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert sessions(served, capsys) == []
    assert not out.exists()


def sessions(target: str, capsys: pytest.CaptureFixture[str]) -> list[object]:
    assert main(["sessions", "list", "--target", target, "--json"]) == 0
    found: list[object] = json.loads(capsys.readouterr().out)["sessions"]
    return found


def test_a_bundle_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_leaky(tmp_path).path
    assert main(["bundle", "check", str(folder)]) == 0
    assert "ok: files, tensors and golden recording" in capsys.readouterr().out
    damaged = bytearray((folder / CHUNK).read_bytes())
    damaged[40] ^= 1
    (folder / CHUNK).write_bytes(damaged)
    assert main(["bundle", "check", str(folder)]) == 1
    assert "chunk.onnx is damaged" in capsys.readouterr().err


def test_a_foreign_model_gets_its_golden_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_leaky(tmp_path).path
    (folder / GOLDEN).unlink()
    (folder / CHUNK).unlink()
    (folder / "notes.txt").write_text("mine")
    manifest = read_manifest(folder).model_copy(update={"files": {}})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    assert main(["bundle", "check", str(folder)]) == 1
    assert "statestream bundle golden" in capsys.readouterr().err
    assert main(["bundle", "golden", str(folder), "--rows", "20"]) == 0
    assert len(Bundle.open(folder).golden().dt_s) == 20
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "step.onnx").unlink()
    shutil.rmtree(folder / "x", ignore_errors=True)
    assert main(["bundle", "golden", str(folder)]) == 1


def test_serving_and_streaming_need_no_torch(served: str, walk: Path, tmp_path: Path) -> None:
    """A `torch` that cannot be imported stands in the way; nothing notices."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    command = [*COMMAND, "stream", str(walk), "--model", "leaky", "--target", served]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "300 rows through leaky:1" in done.stdout
