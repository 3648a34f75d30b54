"""A server that cannot start says why in one sentence, without a traceback, and ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import authority
from tests.support.server_process import COMMAND

PATIENCE_S = 120
WITHOUT_AIOHTTP = """
import sys
sys.modules["aiohttp"] = None
from statestream.service.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refusal(repository: Path, *flags: str, command: list[str] = COMMAND) -> str:
    """What `serve` says on its way out."""
    arguments = ["serve", str(repository), "--providers", "cpu", "--model", "leaky:1", *flags]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr
    errors = " ".join(done.stderr.split()).partition("error: ")[2]
    assert errors, done.stderr
    return errors


@pytest.mark.parametrize("setting", ["address", "admin_address", "metrics_address", "http_address"])
def test_a_port_that_is_taken_is_named(repository: Path, taken: str, setting: str) -> None:
    flags = {"admin_address": "--admin", "metrics_address": "--metrics", "http_address": "--http"}
    free = [] if setting == "address" else ["--address", "127.0.0.1:0"]
    said = refusal(repository, *free, flags.get(setting, "--address"), taken)
    assert said.startswith(f"{setting}: cannot listen on {taken}")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_page_without_its_extra_says_what_to_install(repository: Path, workers: str) -> None:
    flags = ("--address", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", workers)
    said = refusal(repository, *flags, command=[sys.executable, "-c", WITHOUT_AIOHTTP])
    assert said == "aiohttp is not installed: pip install 'statestream[http]'"


def test_the_page_names_a_certificate_with_a_byte_order_mark(repository: Path, tmp_path: Path) -> None:
    authority(tmp_path)
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(BOM_UTF8 + certificate.read_bytes())
    tls = ("--tls-cert", str(certificate), "--tls-key", str(tmp_path / "server.key"))
    said = refusal(repository, "--address", "127.0.0.1:0", "--http", "127.0.0.1:0", *tls)
    assert said.startswith("tls_cert: ")
    assert "server.pem begins with a byte order mark, which the page cannot read; save it without" in said
