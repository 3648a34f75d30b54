"""The page that `serve` has without being asked: its address in the log, the next port where one is taken."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SERVE = [sys.executable, "-m", "statestream.service.cli", "serve"]
FLAGS = ["--address", "127.0.0.1:0", "--providers", "cpu"]


@contextmanager
def page_line(repository: Path, *flags: str) -> Iterator[str]:
    """What a server says of its page."""
    process = subprocess.Popen([*SERVE, str(repository), *FLAGS, *flags], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield next((line for line in process.stderr if "page" in line or "listening" in line), "it ended")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_two_servers_have_a_page_each(repository: Path) -> None:
    with ExitStack() as stack:
        said = [stack.enter_context(page_line(repository)) for _ in range(2)]
        pages = [
            re.search(r"the page is at (http://127\.0\.0\.1:(\d+)/)( \(port 8080 is taken\))?", line) for line in said
        ]
        assert all(pages), said
        ports = [int(page[2]) for page in pages if page]
        assert ports[0] < ports[1] < 8180
        assert [bool(page[3]) for page in pages if page] == [port != 8080 for port in ports]
        for page in filter(None, pages):
            assert urllib.request.urlopen(f"{page[1]}healthz", timeout=30).read() == b"ok"


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(repository: Path) -> None:
    with page_line(repository, "--http", "127.0.0.1:0") as line:
        taken = re.search(r"http://(127\.0\.0\.1:\d+)/", line)
        assert taken, line
        command = [*SERVE, str(repository), *FLAGS, "--http", taken[1]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"cannot listen on {taken[1]}" in done.stderr


def test_no_page_where_none_is_wanted(repository: Path) -> None:
    with page_line(repository, "--no-http") as line:
        assert "listening" in line
