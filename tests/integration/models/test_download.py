"""Fetching over HTTP, against a server that cuts connections, knows ranges or not, or sends something else."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.cache import cache
from statestream.models.data.download import TRIES
from statestream.models.data.recordings import Dataset
from statestream.models.data.registry import REGISTRY
from statestream.models.data.set_files import Entry, File, fetch, locate, read
from statestream.models.data.tables import DataError
from statestream.service.cli import main

CONTENT = np.random.default_rng(0).bytes(300_000)


class Origin(ThreadingHTTPServer):
    """Serves `/file`; what it does wrong is set by the test."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cut_after: int | None = None
        self.cuts = 0
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path.removesuffix(".gz") != "/file":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts > 0 and self.server.cut_after is not None:
            self.server.cuts -= 1
            body = body[: self.server.cut_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("STATESTREAM_DATA", raising=False)
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def file_at(origin: Origin, sha256: str = "") -> File:
    return File("file", sha256 or hashlib.sha256(CONTENT).hexdigest(), origin.url)


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "statestream" / "set").iterdir())


def test_a_file_is_fetched_once(origin: Origin, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch("set", file_at(origin), lambda have, total: seen.append((have, total)))
    assert read("set", file_at(origin)) == CONTENT
    assert len(origin.asked) == 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert kept(tmp_path) == ["file"]


def test_a_cut_connection_is_taken_up_where_it_broke(origin: Origin, tmp_path: Path) -> None:
    origin.cuts, origin.cut_after = 2, 100_000
    assert read("set", file_at(origin)) == CONTENT
    assert origin.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert kept(tmp_path) == ["file"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "statestream" / "set").mkdir(parents=True)
    (tmp_path / "statestream" / "set" / "file.part").write_bytes(CONTENT[:123_456])
    assert read("set", file_at(origin)) == CONTENT
    assert origin.asked == ["bytes=123456-"]


def test_a_part_that_is_whole_is_checked_and_kept(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "statestream" / "set").mkdir(parents=True)
    (tmp_path / "statestream" / "set" / "file.part").write_bytes(CONTENT)
    assert read("set", file_at(origin)) == CONTENT
    assert kept(tmp_path) == ["file"]


def test_a_server_without_ranges_begins_anew(origin: Origin) -> None:
    origin.cuts, origin.cut_after, origin.ranges = 1, 100_000, False
    assert read("set", file_at(origin)) == CONTENT


def test_a_server_that_sends_nothing_more_is_given_up_and_the_part_stays(origin: Origin, tmp_path: Path) -> None:
    origin.cuts, origin.cut_after = 1000, 0
    with pytest.raises(DataError, match=f"failed {TRIES} times"):
        fetch("set", file_at(origin))
    assert kept(tmp_path) == ["file.part"]


def test_a_wrong_hash_is_refused_and_nothing_stays(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sha256 is .*, expected 0000.*; it was not read"):
        read("set", file_at(origin, "0" * 64))
    assert kept(tmp_path) == []


def test_what_is_not_there_is_said(origin: Origin) -> None:
    with pytest.raises(DataError, match="404"):
        fetch("set", File("file", "0" * 64, f"{origin.url}-else"))


def test_a_packed_origin_is_checked_by_what_it_holds(origin: Origin, tmp_path: Path) -> None:
    origin.content = gzip.compress(CONTENT)
    packed = File("file", hashlib.sha256(CONTENT).hexdigest(), f"{origin.url}.gz")
    assert read("set", packed) == CONTENT
    assert kept(tmp_path) == ["file.gz"]


def test_a_file_without_an_origin_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"put the file .* into STATESTREAM_DATA/set"):
        fetch("set", File("nowhere.npz", "ab" * 32))


def test_a_local_file_comes_before_the_cache(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("set", file_at(origin))
    (tmp_path / "mine" / "set").mkdir(parents=True)
    (tmp_path / "mine" / "set" / "file.gz").write_bytes(gzip.compress(CONTENT))
    monkeypatch.setenv("STATESTREAM_DATA", str(tmp_path / "mine"))
    assert locate("set", file_at(origin)) == tmp_path / "mine" / "set" / "file.gz"
    assert read("set", file_at(origin)) == CONTENT


def test_a_changed_local_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file").write_bytes(b"other")
    monkeypatch.setenv("STATESTREAM_DATA", str(tmp_path))
    with pytest.raises(DataError, match="it was not read"):
        read("set", File("file", "0" * 64))


def test_the_command_gets_a_set(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing() -> Dataset:
        return Dataset((), ())

    entry = Entry("set", "title", "here", "none", "none", nothing, files=(file_at(origin),))
    monkeypatch.setitem(REGISTRY, "set", entry)
    assert main(["data", "list"]) == 0
    assert "can be fetched" in capsys.readouterr().out
    assert main(["data", "get", "set"]) == 0
    assert "ready set" in capsys.readouterr().out
    assert (cache() / "set" / "file").read_bytes() == CONTENT
    assert main(["data", "get", "wlaker"]) == 1
    assert "'wlaker' is unknown" in " ".join(capsys.readouterr().err.split())
