"""gRPC channel options of the client, and the mapping of RPC errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from statestream.service.client.credentials import Access
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


@contextmanager
def calling(target: str) -> Iterator[None]:
    """Raise a failed RPC's error as a StatestreamError."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, target=target) from None
