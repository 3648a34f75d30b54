"""Every block of code of the documentation runs twice, page by page as a reader would run it; and the site builds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from markdown_it import MarkdownIt

from examples.server import free_port

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ADDRESS = "127.0.0.1:50051"
"""Where a server listens by default, as the pages say; each reader has a port of its own in its place."""
PAGES = [
    *("how-to/stream.md", "how-to/load-test.md", "how-to/triton.md"),
    *("robots.md", "cameras.md", "concepts.md", "security.md"),
]
"""Those that go on from the quickstart's folder."""
NEEDED = {"robots.md": ("mosquitto", "mosquitto_pub")}
"""Programs that a page uses beside ours."""
ONCE = {"robots.md"}
"""Pages that are not run a second time yet: their bridges would hear what was published before."""
NOT_RUN = 0
"""Blocks below `<!-- not-run: REASON -->`: they need what a test does not have."""


class Block(NamedTuple):
    language: str
    title: str
    text: str
    line: int
    not_run: str
    """Why it is not run; empty: it is."""


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    tokens = MarkdownIt().parse((DOCS / page).read_text())
    for before, token in pairwise([*tokens[:1], *tokens]):
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.match(r'title="(.*)"', rest)
            assert token.map is not None
            reason = re.match(r"<!-- not-run: (.+) -->", before.content) if before.type == "html_block" else None
            found.append(
                Block(
                    language,
                    title[1] if title else "",
                    token.content,
                    token.map[0] + 1,
                    reason[1] if reason else "",
                )
            )
    return found


class Interpreter(NamedTuple):
    """A Python of the page's own: it takes blocks as JSON, and answers what they printed and how they failed."""

    process: subprocess.Popen[str]
    stdin: IO[str]
    stdout: IO[str]


INTERPRETER = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    out, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(out):
            exec(json.loads(line), names)
    except Exception:
        failed = traceback.format_exc()
    print(json.dumps([out.getvalue(), failed]), flush=True)
"""


class Reader:
    """Someone who does what a page says, in a folder; `statestream serve` runs in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._servers: list[subprocess.Popen[bytes]] = []
        self._lasting: set[str] = set()

    def read_twice(self, page: str) -> None:
        """Run a page's blocks, and all of them again against the same server."""
        for time_ in ("first", "second")[: 1 if page in ONCE else 2]:
            for block in blocks(page):
                if not block.not_run:
                    self._do(block, f"{page}:{block.line}, the {time_} time")

    def _do(self, block: Block, where: str) -> None:
        if block.title:
            (self._folder / block.title).write_text(block.text)
        elif block.language == "sh":
            self._run(block.text, where)
        elif block.language == "python":
            self._python(block.text, where)
        else:
            assert block.language == "text", f"{where}: nothing runs '{block.language}'"

    def leave(self) -> None:
        if "_interpreter" in self.__dict__:
            with self._interpreter.process as process:
                process.kill()
        for server in reversed(self._servers):
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)  # Reads what is left in its pipe, and closes that.

    def _run(self, text: str, where: str) -> None:
        if text in self._lasting:
            return
        if text.startswith(("statestream serve", "mosquitto -p ", "statestream bridge")):
            self._lasting.add(text)
            self._begin(text)
            return
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{where}: {done.stdout[-2000:]}{done.stderr[-2000:]}"

    def _begin(self, text: str) -> None:
        """Start what runs in a terminal of its own."""
        if text.startswith("statestream bridge"):
            self._bridge(text)
        else:
            self._serve(text, int(text.split()[-1]) if text.startswith("mosquitto") else self._port)

    def _serve(self, text: str, port: int) -> None:
        server = subprocess.Popen(["bash", "-euc", f"exec {text}"], cwd=self._folder, env=self._environment())
        self._servers.append(server)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            assert server.poll() is None
            time.sleep(0.1)
        raise TimeoutError("the server did not listen within a minute")

    def _bridge(self, text: str) -> None:
        """Start a bridge, and wait until it says that it bridges."""
        bridge = subprocess.Popen(
            ["bash", "-euc", f"exec {text}"], cwd=self._folder, env=self._environment(), stderr=subprocess.PIPE
        )
        self._servers.append(bridge)
        assert bridge.stderr is not None
        while b"bridging" not in (line := bridge.stderr.readline()):
            assert line, "it ended"

    def _python(self, text: str, where: str) -> None:
        """What a block prints is compared with what its comments say; it sees what the blocks before it made."""
        self._interpreter.stdin.write(json.dumps(text.replace(ADDRESS, f"127.0.0.1:{self._port}")) + "\n")
        self._interpreter.stdin.flush()
        answer = self._interpreter.stdout.readline()
        assert answer, f"{where}: the interpreter ended"
        printed, failed = json.loads(answer)
        assert not failed, f"{where}: {failed}"
        said = re.findall(r"^\s*print\(.*\)  # (.*)$", text, re.MULTILINE)
        assert [line for line in printed.splitlines() if line in said] == said, f"{where}: {printed}"

    @cached_property
    def _interpreter(self) -> Interpreter:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERPRETER],
            cwd=self._folder, env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        return Interpreter(process, process.stdin, process.stdout)

    def _environment(self) -> dict[str, str]:
        """As from a shell in which the package is installed."""
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STATESTREAM_ADDRESS": f"127.0.0.1:{self._port}",
            "STATESTREAM_TARGET": f"127.0.0.1:{self._port}",
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the quickstart leaves behind."""
    folder = tmp_path_factory.mktemp("quickstart")
    reader = Reader(folder)
    try:
        reader.read_twice("quickstart.md")
    finally:
        reader.leave()
    return folder


@pytest.fixture
def reader(folder: Path, tmp_path: Path) -> Iterator[Reader]:
    shutil.copytree(folder / "repository", tmp_path / "repository")
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_runs(page: str, reader: Reader) -> None:
    missing = [name for name in NEEDED.get(page, ()) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    reader.read_twice(page)


@pytest.mark.slow
def test_the_quickstarts_network_beats_persistence_five_times(folder: Path) -> None:
    for run in ("pendulum", "pendulum-2"):
        metrics = json.loads((folder / "runs" / run / "metrics.json").read_text())
        assert set(metrics["baselines"]) == {"persistence", "ridge"}
        assert metrics["baselines"]["persistence"]["mse"] > 5 * metrics["test"]["mse"]


def test_every_page_with_code_is_tried() -> None:
    shown = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    with_code = {page for page in shown if any(block.language in ("python", "sh") for block in blocks(page))}
    assert with_code == {"quickstart.md", *PAGES}
    assert sum(bool(block.not_run) for page in shown for block in blocks(page)) == NOT_RUN


def test_a_block_that_is_not_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DOCS", tmp_path)
    marked = "<!-- not-run: needs a robot -->\n```sh\nfalse\n```\n\nText.\n\n```sh\ntrue\n```\n"
    (tmp_path / "page.md").write_text(marked)
    assert [block.not_run for block in blocks("page.md")] == ["needs a robot", ""]
    Reader(tmp_path).read_twice("page.md")


def _pieces(title: str) -> list[str]:
    return [piece.strip() for piece in title.split("…") if piece.strip()]


def test_the_errors_of_the_troubleshooting_page_are_real() -> None:
    source = "".join(path.read_text() for folder in ("service", "models") for path in (ROOT / folder).rglob("*.py"))
    # Messages run over several literals, with values in braces.
    text = re.sub(r'"\s*\n?\s*f?"', "", re.sub(r"\{[^{}]*\}", "…", source))
    titles = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(titles) > 15
    for title in titles:
        for piece in _pieces(title):
            assert piece in text, f"no error says '{piece}'"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    subprocess.run(["make", "view"], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "site" / "reference" / "protocol.html").read_text()
    assert "timestamp_ns" in text
    assert "loadtest" in (tmp_path / "site" / "reference" / "cli.html").read_text()
