"""Operating a server: its models and its sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np

from statestream.models.spec import Float32Array
from statestream.proto.v1 import admin_pb2 as pb
from statestream.proto.v1 import admin_pb2_grpc
from statestream.service.client.core.grpc_options import Metadata, calling
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy


@dataclass(frozen=True)
class ModelChange:
    """What a change of versions came to."""

    version: int
    """The version asked for: active now, or the shadow."""
    moved: int
    """Sessions that go on with it."""
    stayed: int
    """Sessions that stay with their version until they are closed."""


@dataclass(frozen=True)
class SessionInfo:
    """A session as its server sees it."""

    session_id: str
    owner: str
    """The client that opened it, by name; empty where the server asks for no names."""
    model: str
    version: int
    epoch: int
    settled_seq: int
    acked_seq: int
    durable_seq: int
    last_timestamp_ns: int | None
    idle_s: float
    attached: bool
    verdicts: dict[str, int]
    """Rows by verdict since the session came to this server."""
    latency_s: float | None
    """From the receipt of its last row until that was settled; None before the first."""


@dataclass(frozen=True)
class SessionPage:
    """Some of a server's sessions, by id."""

    sessions: list[SessionInfo]
    total: int
    """Sessions in all, those not listed included."""


@dataclass(frozen=True)
class ModelFigures:
    """One version of a model. Rates, means and quantiles are of the time since the overview before."""

    name: str
    version: int
    role: str
    """"active", "open" to whoever asks for it by number, or "retired"."""
    sessions: int
    waiting_rows: int
    rows_per_s: float
    verdicts: dict[str, int]
    """Rows by verdict since it was loaded."""
    failed_turns: int
    mean_batch: float | None
    """Sessions that advanced in a turn; None where there was no turn, as of all below."""
    queue_p50_s: float | None
    queue_p99_s: float | None
    """How long the oldest row of a turn waited, at most; infinite beyond all bounds."""
    compute_p50_s: float | None
    compute_p99_s: float | None


@dataclass(frozen=True)
class Overview:
    """What a server is doing."""

    models: list[ModelFigures]
    sessions: list[tuple[SessionInfo, float]]
    """By id, each with its rows a second."""
    total: int
    """Sessions in all, those not shown included."""


class AsyncAdmin:
    """The `Admin` service; `AsyncClient.admin`.

    Every method raises Unavailable when there is no server, and NotFound when what it names does not exist.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, target: str, metadata: Callable[[], Metadata], timeout_s: float
    ) -> None:
        self._stub = cast(Any, admin_pb2_grpc).AdminStub(channel)
        self._target = target
        self._metadata = metadata
        self._timeout_s = timeout_s

    async def load_model(
        self, name: str, version: int = 0, *, policy: UpgradePolicy = UpgradePolicy.PIN
    ) -> ModelChange:
        """Load a bundle from the server's repository (0: its newest version) and make it active, or the shadow."""
        request = pb.LoadModelRequest(name=name, version=version, policy=_number(policy))
        return _change(await self._call(self._stub.LoadModel, request))

    async def promote_model(self, name: str) -> ModelChange:
        """Make the shadow active; the sessions that it followed go on with it."""
        return _change(await self._call(self._stub.PromoteModel, pb.PromoteModelRequest(name=name)))

    async def rollback_model(self, name: str) -> ModelChange:
        """Make the version active that was so before; sessions go on with it if they can."""
        return _change(await self._call(self._stub.RollbackModel, pb.RollbackModelRequest(name=name)))

    async def unload_model(self, name: str, version: int, *, policy: UnloadPolicy = UnloadPolicy.REFUSE) -> None:
        """Stop serving a version, or drop the shadow. With WAIT it takes as long as the version has sessions."""
        request = pb.UnloadModelRequest(name=name, version=version, policy=_number(policy))
        await self._call(self._stub.UnloadModel, request, forever=policy is UnloadPolicy.WAIT)

    async def list_sessions(self, model: str = "", *, limit: int = 1000, after: str = "") -> SessionPage:
        """Sessions of a model (empty: of all), at most `limit`, those whose id comes after `after`."""
        request = pb.ListSessionsRequest(model=model, limit=limit, after=after)
        response = await self._call(self._stub.ListSessions, request)
        return SessionPage([_session(session) for session in response.sessions], response.total)

    async def watch(self, *, period_s: float = 1.0, sessions: int = 100) -> AsyncIterator[Overview]:
        """What the server is doing, every `period_s` (0.1 to 60), with at most so many sessions; until it drains."""
        request = pb.WatchRequest(period_s=period_s, sessions=sessions)
        with calling(self._target):
            async for message in self._stub.Watch(request, metadata=self._metadata()):
                yield _overview(message)

    async def inspect_session(self, session_id: str) -> tuple[SessionInfo, Mapping[str, Float32Array]]:
        """A session and its state, each tensor flat, by name."""
        response = await self._call(self._stub.GetSession, pb.GetSessionRequest(session_id=session_id))
        state = {name: np.frombuffer(data, "<f4") for name, data in response.state.items()}
        return _session(response.session), state

    async def snapshot_session(self, session_id: str) -> bytes:
        """A session as bytes that `restore_session` takes, here or on another server."""
        response = await self._call(self._stub.SnapshotSession, pb.SnapshotSessionRequest(session_id=session_id))
        return bytes(response.snapshot)

    async def restore_session(self, snapshot: bytes, session_id: str = "") -> SessionInfo:
        """Restore a session, under another id where one is given."""
        request = pb.RestoreSessionRequest(snapshot=snapshot, session_id=session_id)
        return _session((await self._call(self._stub.RestoreSession, request)).session)

    async def reset_session(self, session_id: str) -> None:
        """Set a session's state back to the initial one; its seqs go on."""
        await self._call(self._stub.ResetSession, pb.ResetSessionRequest(session_id=session_id))

    async def close_session(self, session_id: str) -> None:
        """End a session; a stream that holds it is told."""
        await self._call(self._stub.CloseSession, pb.CloseSessionRequest(session_id=session_id))

    async def drain(self) -> int:
        """Have the server finish what it has and stop; returns the sessions that it held."""
        return int((await self._call(self._stub.Drain, pb.DrainRequest())).sessions)

    async def _call(self, method: Any, request: Any, *, forever: bool = False) -> Any:
        with calling(self._target):
            return await method(request, timeout=None if forever else self._timeout_s, metadata=self._metadata())


def _number(policy: UpgradePolicy | UnloadPolicy) -> Any:
    """What stands for a policy in the protocol."""
    return list(type(policy)).index(policy)


def _change(change: pb.ModelChange) -> ModelChange:
    return ModelChange(change.version, change.moved, change.stayed)


def _session(session: pb.Session) -> SessionInfo:
    return SessionInfo(
        session_id=session.session_id,
        owner=session.owner,
        model=session.model,
        version=session.version,
        epoch=session.epoch,
        settled_seq=session.settled_seq,
        acked_seq=session.acked_seq,
        durable_seq=session.durable_seq,
        last_timestamp_ns=_known(session, "last_timestamp_ns"),
        idle_s=session.idle_s,
        attached=session.attached,
        verdicts=dict(session.verdicts),
        latency_s=_known(session, "latency_s"),
    )


def _overview(overview: pb.Overview) -> Overview:
    return Overview(
        models=[_figures(model) for model in overview.models],
        sessions=[(_session(each.session), each.rows_per_s) for each in overview.sessions],
        total=overview.total,
    )


def _figures(model: pb.ModelFigures) -> ModelFigures:
    return ModelFigures(
        name=model.name,
        version=model.version,
        role=model.role,
        sessions=model.sessions,
        waiting_rows=model.waiting_rows,
        rows_per_s=model.rows_per_s,
        verdicts=dict(model.verdicts),
        failed_turns=model.failed_turns,
        mean_batch=_known(model, "mean_batch"),
        queue_p50_s=_known(model, "queue_p50_s"),
        queue_p99_s=_known(model, "queue_p99_s"),
        compute_p50_s=_known(model, "compute_p50_s"),
        compute_p99_s=_known(model, "compute_p99_s"),
    )


def _known(message: Any, field: str) -> Any:
    """An optional field, None where it is not there."""
    return getattr(message, field) if message.HasField(field) else None
