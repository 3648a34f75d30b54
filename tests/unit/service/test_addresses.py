"""Which addresses other machines can reach."""

from __future__ import annotations

from typing import Any

import pytest

from statestream.service.addresses import is_local, shifted, split_address
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


NO_ADDRESSES = (
    *("127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:http", "127.0.0.1:１"),
    *("::1:1", "http://127.0.0.1:1", " 127.0.0.1:1"),
)
NO_PORT = r"expected HOST:PORT, the port at most 65535"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "::1:1",
        "http://127.0.0.1:1",
        " 127.0.0.1:1",
        "127.0.0.1:１",
    ],
)
@pytest.mark.parametrize("setting", ["address", "admin_address", "metrics_address", "http_address"])
def test_an_address_that_is_none_is_refused(setting: str, address: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{setting}: {NO_PORT}.*got ") as error:
        ServerConfig.load(**{setting: address})
    assert f"(got {address!r})" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": ""}, f"address: {NO_PORT}"),
        ({"address": "unix:"}, "address: expected unix:/PATH"),
        ({"admin_address": "unix:"}, "admin_address: expected unix:/PATH"),
        ({"metrics_address": "unix:/run/s"}, "metrics_address: expected HOST:PORT, not a UNIX socket"),
        ({"http_address": "unix:/run/s"}, "http_address: expected HOST:PORT, not a UNIX socket"),
        (
            {"metrics_address": "127.0.0.1:65534", "workers": 3},
            "metrics_address: the last of 3 workers would be at 127.0.0.1:65536",
        ),
        ({"admin_address": "127.0.0.1:65535", "workers": 2}, "admin_address: the last of 2 workers"),
        ({"http_address": "127.0.0.1:65535", "workers": 2}, "http_address: the last of 2 workers"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        ServerConfig.load(**settings)


def test_host_and_port() -> None:
    assert split_address("[::1]:65535") == ("::1", 65535)
    assert split_address("robot.local:0") == ("robot.local", 0)
    assert split_address(":80") == ("", 80)


def test_what_is_asked_for_is_allowed() -> None:
    ServerConfig.load(address="0.0.0.0:1", tls_cert="c", tls_key="k")
    ServerConfig.load(address="0.0.0.0:1", metrics_address="0.0.0.0:2", insecure_public=True)


def test_workers_have_addresses_of_their_own() -> None:
    assert [shifted("host:10", k) for k in (0, 2)] == ["host:10", "host:12"]
    assert [shifted("unix:/run/s", k) for k in (0, 2)] == ["unix:/run/s", "unix:/run/s.2"]
    assert shifted("", 2) == ""
    assert shifted("host:0", 2) == "host:0", "any free port stays any"
