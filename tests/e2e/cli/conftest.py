"""`statestream serve` as a process, for the commands that talk to it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bundles import write_leaky

COMMAND = [sys.executable, "-m", "statestream.service.cli"]


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The address of a server of a repository, which drains at the end."""
    process = subprocess.Popen(
        [*COMMAND, "serve", str(repository), "--address", "127.0.0.1:0", "--providers", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    port = None
    while port is None:
        line = process.stderr.readline()
        assert line, "the server ended"
        port = re.search(r"listening on port (\d+)", line)
    try:
        yield f"127.0.0.1:{port[1]}"
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "draining" in said


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the leaky model."""
    repository = tmp_path_factory.mktemp("repository")
    write_leaky(repository)
    with serving(repository) as address:
        yield address
