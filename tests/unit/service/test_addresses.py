"""Which addresses other machines can reach."""

from __future__ import annotations

from typing import Any

import pytest

from statestream.service.addresses import is_local, shifted
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/run/s", "unix-abstract:s"]
)
def test_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", ":1", "robot:1", "192.168.1.1:1", "localhost.example.org:1", "dns:///localhost"]
)
def test_not_local(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "0.0.0.0:1"}, "address: 0.0.0.0:1 can be reached"),
        ({"admin_address": "[::]:1"}, "admin_address"),
        ({"metrics_address": "0.0.0.0:1", "tls_cert": "c", "tls_key": "k"}, "metrics_address"),
        ({"tls_cert": "c"}, "tls_cert and tls_key must be set together"),
        ({"tls_client_ca": "c"}, "tls_client_ca needs tls_cert"),
    ],
)
def test_a_configuration_that_would_be_open_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words.replace("[", "\\[")):
        ServerConfig.load(**settings)


def test_what_is_asked_for_is_allowed() -> None:
    ServerConfig.load(address="0.0.0.0:1", tls_cert="c", tls_key="k")
    ServerConfig.load(address="0.0.0.0:1", metrics_address="0.0.0.0:2", insecure_public=True)


def test_workers_have_addresses_of_their_own() -> None:
    assert [shifted("host:10", k) for k in (0, 2)] == ["host:10", "host:12"]
    assert [shifted("unix:/run/s", k) for k in (0, 2)] == ["unix:/run/s", "unix:/run/s.2"]
    assert shifted("", 2) == ""
