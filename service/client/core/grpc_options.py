"""gRPC channel options of the client, and the mapping of RPC errors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from statestream.service.addresses import is_local
from statestream.service.client.credentials import Access
from statestream.service.errors import StatestreamError, Unavailable
from statestream.service.protocol.status import from_rpc_error

NO_ACCESS = Access()
Metadata = Sequence[tuple[str, str | bytes]]

MAX_MESSAGE_BYTES = 64 << 20

# A robot on flaky Wi-Fi detects a dead connection within 15 s. With the client's own back-off (see `connection`) and
# gRPC's jitter it reconnects at least once a second. The server permits pings this often; see its options.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name the time limit of one attempt to connect: a busy server or slow Wi-Fi needs seconds.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
)


def channel_options(target: str, options: Iterable[tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """Options of a channel: `options` over the client's own. A proxy of the environment is for other machines only."""
    here = {"grpc.enable_http_proxy": 0} if is_local(target) else {}
    return list((dict(OPTIONS) | here | dict(options)).items())


class Endpoint(NamedTuple):
    """A server, and how a client reaches it."""

    target: str
    access: Access

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Raise the error of our own tree for a failed RPC."""
        try:
            yield
        except grpc.RpcError as error:
            raise self.error_of(error) from None

    def error_of(self, raised: grpc.RpcError) -> StatestreamError:
        """The error behind a failed RPC; where there was no connection, with what to look at."""
        error = from_rpc_error(raised, target=self.target)
        if isinstance(error, Unavailable) and any(sign in error.text for sign in _NEVER_CONNECTED):
            advice = [self.access.advice(error.text), _proxy_advice(self.target)]
            return error.saying("; ".join([error.text, *filter(None, advice)]))
        return error


# The variables that gRPC reads, the first that is set; only in lower case.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXEMPT = ("no_grpc_proxy", "no_proxy")
_NEVER_CONNECTED = ("failed to connect", "errors resolving")


def proxy_variable(target: str) -> str:
    """The environment's variable by which this target's connections go through a proxy; empty where they do not."""
    proxy = next(filter(os.environ.get, _PROXIES), "")
    exempt = os.environ.get(next(filter(os.environ.get, _EXEMPT), ""), "")
    host = target.rpartition(":")[0].strip("[]")
    if not proxy or is_local(target) or any(host.endswith(end) for end in exempt.replace(",", " ").split()):
        return ""
    return proxy


def _proxy_advice(target: str) -> str:
    proxy = proxy_variable(target)
    return proxy and f"the environment's {proxy} was in between, unless no_proxy has the server's name"
