"""A server as a process of its own with clients that have tokens, and a client that behaves: `statestream loadtest`.

`arm` behaves; `thief` has a token as well, of the same role; `chief` administers; `late` has a token that has expired.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from examples.server import free_port
from statestream.proto.v1 import admin_pb2, admin_pb2_grpc
from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from statestream.service.client.credentials import Access

CLIENTS = {"arm": {Role.STREAM}, "thief": {Role.STREAM}, "chief": {Role.ADMIN, Role.READ}}
MAX_STREAMS = 300
"""Of one client."""
UNREAD_BYTES = 1 << 20
"""What may wait for one client to read."""
_COMMAND = (sys.executable, "-m", "statestream.service.cli")
_START_S = 180.0
_MAX_MESSAGE_BYTES = 64 << 20


class Arena:
    """The server. Its log is JSON, so that what went wrong in it can be counted."""

    def __init__(self, repository: Path, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self._tokens = _write_clients(folder)
        self._settings = {
            "repository": repository,
            "address": self.target,
            "providers": "cpu",
            "clients": folder / "clients.json",
            "store": f"sqlite:{folder}/sessions.db",
            "log_format": "json",
            "max_streams_per_client": MAX_STREAMS,
            "credit_bytes": UNREAD_BYTES,
        } | settings
        self._log = folder / "server.log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, and wait until it answers."""
        environment = {f"STATESTREAM_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self._log.open("ab") as log:
            process = subprocess.Popen([*_COMMAND, "serve"], env=os.environ | environment, stderr=log)
        with grpc.insecure_channel(self.target) as channel:
            grpc.channel_ready_future(channel).result(timeout=_START_S)
        return process

    def stop(self) -> int:
        """Drain it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(180)

    def access(self, name: str) -> Access:
        """How a client connects."""
        return Access(token_file=self.folder / f"{name}.token")

    def bearer(self, name: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a client."""
        return (("authorization", f"Bearer {self._tokens[name]}"),)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own, which takes messages of any size."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
        return grpc.aio.insecure_channel(self.target, options=options)

    async def session(self, session_id: str) -> admin_pb2.GetSessionResponse:
        """What the chief sees of a session, but for what comes by itself: idleness, acknowledgements, snapshots."""
        async with self.channel() as channel:
            found: admin_pb2.GetSessionResponse = await admin_pb2_grpc.AdminStub(channel).GetSession(
                admin_pb2.GetSessionRequest(session_id=session_id), metadata=self.bearer("chief"), timeout=30
            )
        for name in ("idle_s", "acked_seq", "durable_seq"):
            found.session.ClearField(name)
        return found

    async def end(self, session_id: str) -> None:
        """Have the chief end a session, if it is still there: a client has room for so many."""
        async with self.channel() as channel:
            request = admin_pb2.CloseSessionRequest(session_id=session_id)
            try:
                await admin_pb2_grpc.AdminStub(channel).CloseSession(request, metadata=self.bearer("chief"), timeout=30)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

    @property
    def rss_mb(self) -> float:
        """Memory that the server has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.split("VmRSS:")[1].split()[0]) / 1024

    def faults(self) -> list[str]:
        """What the server said that is its own fault."""
        found = []
        for line in self._log.read_text().splitlines():
            said = json.loads(line) if line.startswith("{") else {"level": "error", "message": line}
            if said["level"] in ("error", "critical"):
                found.append(f"{said['message']} {said.get('exception', '')}".strip())
        return found


class WellBehaved:
    """A client on a core of its own that sends a row every 20 ms, and compares each output with an offline rollout."""

    def __init__(self, arena: Arena, repository: Path, *, rate_hz: float = 50.0) -> None:
        arguments = ("loadtest", "--model", "leaky", "--target", arena.target, "--rate-hz", str(rate_hz))
        more = ("--duration", "100000", "--warmup", "0.5", "--verify", "--repository", str(repository), "--json")
        token = ("--token-file", str(arena.folder / "arm.token"))
        self._process = subprocess.Popen(
            [*_COMMAND, *arguments, *more, *token], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._begun_s = time.monotonic()

    def report(self) -> dict[str, Any]:
        """End it, and hear what it saw."""
        time.sleep(max(0.0, self._begun_s + 10.0 - time.monotonic()))
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=180)
        assert out, err
        report: dict[str, Any] = json.loads(out)
        return report

    @staticmethod
    def check(report: dict[str, Any]) -> None:
        """It was answered, by nothing but APPLIED, and each output was right."""
        assert report["messages"]["answered"] > 100, report["messages"]
        assert set(report["verdicts"]) == {"APPLIED"}, report["verdicts"]
        assert not report["statuses"], report["first_error"]
        assert not report["reconnects"]["count"], "it lost its connection"
        assert not report["verify"]["wrong"], report["verify"]


def _write_clients(folder: Path) -> dict[str, str]:
    """The clients file, and each one's token, in files as well."""
    clients, tokens = Clients(), {}
    for name, roles in CLIENTS.items():
        clients, tokens[name] = clients.with_token(name, roles=frozenset(roles))
    clients, tokens["late"] = clients.with_token("late", roles=frozenset(Role), lasts=timedelta(seconds=-1))
    clients.write(folder / "clients.json")
    for name, token in tokens.items():
        (folder / f"{name}.token").write_text(token)
    return tokens
