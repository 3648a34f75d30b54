"""When `serve` has a page that nobody asked for: where it lets in only those whom the service lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statestream.service.cli import default_page, main
from statestream.service.cli.default_page import ADDRESS, PORTS, with_default_page
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition


def page_of(file: Path | None = None, **settings: Any) -> str:
    return with_default_page(ServerConfig(**settings), file)[0].http_address


def test_the_command_alone_has_a_page_on_loopback() -> None:
    assert with_default_page(ServerConfig(), None) == (ServerConfig(http_address=ADDRESS), PORTS)
    assert ServerConfig().http_address == ""
    assert page_of(clients="clients.json") == ADDRESS
    assert page_of(tls_cert="c.pem", tls_key="k.pem", tls_client_ca="ca.pem") == ADDRESS


@pytest.mark.parametrize(
    "settings",
    [
        {"http_address": ""},
        {"address": "0.0.0.0:50051", "insecure_public": True},
        {"address": "unix:/run/s.sock"},
        {"admin_address": "unix:/run/admin.sock"},
    ],
    ids=str,
)
def test_where_a_page_would_let_in_others_there_is_none(settings: dict[str, Any]) -> None:
    assert page_of(**settings) == ""


def test_a_page_that_was_asked_for_gets_its_port_or_none() -> None:
    assert with_default_page(ServerConfig(http_address="127.0.0.1:9000"), None)[1] == 1


def test_the_environment_counts_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATESTREAM_HTTP_ADDRESS", "")
    assert page_of() == ""


def test_a_configuration_file_says_all(tmp_path: Path) -> None:
    assert page_of(tmp_path / "server.toml") == ""


def test_without_aiohttp_there_is_a_line_and_no_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise FailedPrecondition("aiohttp is not installed: pip install 'statestream[http]'")

    monkeypatch.setattr(default_page, "page", missing)
    with caplog.at_level("INFO"):
        assert page_of() == ""
    assert "no page: aiohttp is not installed" in caplog.text


def test_page_and_no_page_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--http", "127.0.0.1:0", "--no-http"]) == 1
    assert "--http and --no-http exclude each other" in capsys.readouterr().err
