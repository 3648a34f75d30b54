"""`statestream demo` without torch: it serves, streams, has its page, and Ctrl-C ends all of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

NO_TORCH = "raise ImportError('this must run without torch')\n"


def test_the_demo_serves_streams_and_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(NO_TORCH)
    process = subprocess.Popen(
        [sys.executable, "-m", "statestream.service.cli", "demo", "--no-browser"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        serving, live = process.stdout.readline(), process.stdout.readline()
        address = re.search(r"serving rover at (\S+);", serving)
        page = re.search(r"live page +(http://\S+)", live)
        assert address, serving
        assert page, live
        assert urllib.request.urlopen(f"{page[1]}healthz", timeout=30).read() == b"ok"
        with urllib.request.urlopen(f"{page[1]}api/session?id=rover-1", timeout=30) as lines:
            kinds = [re.search(rb'"kind":"(\w+)"', lines.readline()) for _ in range(4)]
        assert b"row" in {kind[1] for kind in kinds if kind}
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"rows, \d+\.\d% of them right", out)
    assert "Traceback" not in err
    host, _, port = address[1].rpartition(":")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=5)
