"""Memory of a server and of each of its connections, over either transport: `python -m tests.bench.connections`.

Connections are opened by hand, from HTTP/2 frames, so that none shares another's. A table into docs/performance.md.
"""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from typing import NamedTuple

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.cli.console import out
from statestream.service.loadtest.process_usage import rss_bytes
from tests.bench.__main__ import prepare
from tests.bench.bundle import NAME
from tests.bench.pages import put
from tests.bench.servers import GRPC, OURS, Bed, Running, running
from tests.support import http2

WARM, COUNT = 50, 2000
"""Connections before memory is read, and those that are counted."""
_PATIENCE_S = 60.0


class Memory(NamedTuple):
    """What a server takes, in bytes."""

    server: float
    """With a few connections that have a stream and a session."""
    connection: float
    """One that has no call."""
    stream: float
    """One that has a stream with a session, beyond that."""


def main() -> None:
    """Measure both, one after the other."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    bed = prepare(Path("build").resolve())
    found = {"gRPC's library": of(GRPC, bed), "native": of(OURS, bed)}
    rows = [
        [name, f"{memory.server / 1e6:.1f}", f"{memory.connection / 1e3:.1f}", f"{memory.stream / 1e3:.1f}"]
        for name, memory in found.items()
    ]
    header = ["transport", "server, MB", "a connection, kB", "its stream and session, kB"]
    out.print(put("performance.md", "connections", header, rows), highlight=False)


def of(name: str, bed: Bed, count: int = COUNT) -> Memory:
    """Measure a server of its own, with so many connections."""
    with running(name, bed) as server:
        clients = [Client(server, number) for number in range(WARM)]
        for client in clients:
            client.open()
        before = rss_bytes(server.pid)
        clients += [Client(server, number) for number in range(WARM, WARM + count)]
        connected = rss_bytes(server.pid)
        for client in clients[WARM:]:
            client.open()
        opened = rss_bytes(server.pid)
        for client in clients:
            client.close()
    return Memory(before, (connected - before) / count, (opened - connected) / count)


class Client:
    """A connection, with a stream that holds a session once it is opened."""

    def __init__(self, server: Running, number: int) -> None:
        self._number = number
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=_PATIENCE_S)
        self._unread = b""
        self._socket.sendall(http2.greeting() + http2.frame(http2.SETTINGS, flags=http2.ACK))
        self._until(http2.SETTINGS, http2.ACK)

    def open(self) -> None:
        """Begin a stream, open a session on it, and wait for the answer."""
        opened = pb.Open(channel=1, session_id=f"robot-{self._number}", model=NAME, protocol_version=1)
        request = http2.message(pb.StreamRequest(open=[opened]).SerializeToString())
        self._socket.sendall(http2.call() + http2.data(request))
        self._until(http2.DATA, 0)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _until(self, kind: int, flags: int) -> None:
        """Read up to a frame of this kind with these flags."""
        while True:
            while len(self._unread) < 9 or len(self._unread) < self._size:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._unread += data
            (frame,) = http2.frames(self._unread[: self._size])
            self._unread = self._unread[self._size :]
            if frame.type == kind and frame.flags & flags == flags:
                return

    @property
    def _size(self) -> int:
        """Of the frame that arrives."""
        return 9 + int.from_bytes(self._unread[:3], "big")


if __name__ == "__main__":
    main()
