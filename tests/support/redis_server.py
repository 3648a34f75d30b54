"""Redis of the tests' own, on free loopback ports: one alone, one with a replica and sentinels, or a cluster."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from examples.server import free_port

SLOTS = 16384


class RedisServer:
    """One redis-server, which can be stopped and started again with what it had on disk."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.port = port
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        options += self._options
        options += more or ["--appendonly", "yes", "--appendfsync", "everysec"]
        self.run("redis-server", *options)

    def run(self, *command: str) -> None:
        """Start a process that answers at the port."""
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as there:
                    there.sendall(b"PING\r\n")
                    if there.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def client(self) -> Any:
        return redis.Redis(port=self.port, decode_responses=True)

    def send(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to say or write anything more."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        if self._process is not None:
            self.send(signal.SIGCONT)
            self._process.terminate()
            self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait(60)
        self._process = None


def until(holds: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait until something holds, that may raise an error of Redis meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with suppress(redis.RedisError):
            if holds():
                return
        time.sleep(0.02)
    raise RuntimeError(f"not in {timeout_s} s: {what}")


class Sentinels:
    """A primary, its replica, and three sentinels that watch them under the name `robots`."""

    def __init__(self, folder: Path) -> None:
        self.primary = RedisServer(folder / "primary", free_port())
        self.replica = RedisServer(folder / "replica", free_port(), "--replicaof", "127.0.0.1", str(self.primary.port))
        self._sentinels = [RedisServer(folder / f"sentinel-{i}", free_port()) for i in range(3)]
        self._folder = folder
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{s.port}' for s in self._sentinels)}/robots/0"

    def start(self) -> None:
        self.primary.start()
        self.replica.start()
        until(lambda: self.replica.client().info("replication")["master_link_status"] == "up", "the replica follows")
        for i, sentinel in enumerate(self._sentinels):
            config = self._folder / f"sentinel-{i}" / "sentinel.conf"
            config.write_text(
                f"port {sentinel.port}\nbind 127.0.0.1\ndir {config.parent}\n"
                f"sentinel monitor robots 127.0.0.1 {self.primary.port} 2\n"
                "sentinel down-after-milliseconds robots 500\nsentinel failover-timeout robots 3000\n"
            )
            sentinel.run("redis-server", str(config), "--sentinel")
        for sentinel in self._sentinels:
            until(lambda at=sentinel: self._complete(at), "every sentinel knows the others and the replica")

    @staticmethod
    def _complete(sentinel: RedisServer) -> bool:
        master = sentinel.client().sentinel_master("robots")
        return bool(master["num-other-sentinels"] == 2 and master["num-slaves"] == 1)

    def cut_off_replica(self) -> None:
        """The replica gets no writes from now on, until it is told to go on."""
        self.replica.send(signal.SIGSTOP)
        self.primary.client().execute_command("CLIENT", "KILL", "TYPE", "replica")

    def stop(self) -> None:
        for server in (*self._sentinels, self.replica, self.primary):
            server.stop()


class Cluster:
    """Three nodes that share the slots, without replicas."""

    def __init__(self, folder: Path) -> None:
        self.nodes = []
        for i in range(3):
            bus = free_port()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000")
            self.nodes.append(RedisServer(folder / f"node-{i}", free_port(), *options))
        self.buses = [int(node._options[3]) for node in self.nodes]
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def start_node(self, i: int) -> None:
        self.nodes[i].start("--appendonly", "yes", "--appendfsync", "always")

    def start(self) -> None:
        for i, node in enumerate(self.nodes):
            self.start_node(i)
            first, last = i * SLOTS // 3, (i + 1) * SLOTS // 3 - 1
            node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
            self.nodes[0].client().execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        self.settle()

    def settle(self) -> None:
        """Wait until every node finds every slot served."""
        for node in self.nodes:
            until(lambda at=node: self._whole(at), "the cluster is whole")

    @staticmethod
    def _whole(node: RedisServer) -> bool:
        info: str = node.client().execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in info and "cluster_known_nodes:3" in info

    def owner(self, slot: int) -> int:
        """Which node has a slot."""
        for first, last, (_, port, *_more), *_replicas in self.nodes[0].client().execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return [node.port for node in self.nodes].index(port)
        raise LookupError(slot)

    def move(self, slot: int, to: int) -> None:
        """Move a slot with its keys to another node, one key after the other, while it is in use."""
        source, target = self.nodes[self.owner(slot)], self.nodes[to]
        ids = [node.client().execute_command("CLUSTER", "MYID") for node in (source, target)]
        target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                source.client().execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 1000)
                time.sleep(0.1)  # some are here and some are there
        for node in (target, source, *self.nodes):
            node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _running(server: Any) -> Iterator[Any]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    yield from _running(RedisServer(tmp_path, free_port()))


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    yield from _running(Sentinels(tmp_path))


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[Cluster]:
    yield from _running(Cluster(tmp_path))
