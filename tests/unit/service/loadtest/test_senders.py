"""Which sender a plan gets, and what the native one makes of addresses and of a call's end."""

from __future__ import annotations

import pytest

from statestream.service.errors import FailedPrecondition
from statestream.service.loadtest import senders
from statestream.service.loadtest.plan import Plan

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def choose(target: str = "localhost:1", sender: str = "auto") -> str:
    return senders.choose(Plan.of(target=target, model="m", sender=sender))


def test_the_native_sender_is_used_where_it_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "lacking", lambda: "")
    assert [choose(sender=sender) for sender in ("auto", "native", "grpc")] == ["native", "native", "grpc"]
    monkeypatch.setattr(senders, "lacking", lambda: "it was not built")
    assert [choose(sender=sender) for sender in ("auto", "grpc")] == ["grpc", "grpc"]
    with pytest.raises(FailedPrecondition, match="sender: it was not built"):
        choose(sender="native")


def test_targets_that_grpc_alone_reaches_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "lacking", lambda: "")
    assert {choose(target) for target in ("h:1", "[::1]:1", "unix:/s", "unix:///s", "unix-abstract:s")} == {"native"}
    assert {choose(target) for target in ("dns:///h:1", "ipv4:127.0.0.1:1", "h")} == {"grpc"}
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert (choose("h:1"), choose("127.0.0.1:1"), choose("unix:/s")) == ("grpc", "native", "native")
    with pytest.raises(FailedPrecondition, match="https_proxy"):
        choose("h:1", "native")


def test_addresses_and_ends_are_read_as_grpc_reads_them() -> None:
    pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")
    from statestream.service.loadtest.native_call import Address, status

    assert Address.of("[::1]:50") == ("::1", 50, "")
    assert Address.of("unix:/tmp/s") == Address.of("unix:///tmp/s") == ("localhost", 0, "/tmp/s")
    assert Address.of("unix:s") == ("localhost", 0, "s")
    assert Address.of("unix-abstract:s") == ("localhost", 0, "\0s")
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.of("dns:///h:1")
    assert status([(b"grpc-status", b"8"), (b"grpc-message", b"90%25 \xc3\xbc")], 0)[0] == "RESOURCE_EXHAUSTED"
    assert status([(b"grpc-status", b"5"), (b"grpc-message", b"no %C3%BC")], 0) == ("NOT_FOUND", "no ü")
    assert status([(b"grpc-status", b"0")], 0) == ("OK", "")
    assert status([(b"grpc-status", b"77")], 0)[0] == status([(b"grpc-status", b"x")], 0)[0] == "UNKNOWN"
    assert status([(b":status", b"503")], 0) == ("UNAVAILABLE", "Received http2 header with status: 503")
    assert status([], 7) == ("UNAVAILABLE", "Received RST_STREAM with error code 7")
    assert status([(b":status", b"200")], 2)[0] == "INTERNAL"
