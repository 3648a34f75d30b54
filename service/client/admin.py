"""Admin client: operates a server's models and sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np

from statestream.models.spec import Float32Array
from statestream.proto.v1 import admin_pb2 as pb
from statestream.proto.v1 import admin_pb2_grpc
from statestream.service.client.core.arguments import message, one_of
from statestream.service.client.core.grpc_options import Endpoint, Metadata
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy


@dataclass(frozen=True)
class ModelChange:
    """Result of a change of a model's versions."""

    version: int
    """The requested version, now active or the shadow."""
    moved: int
    """Sessions moved to it."""
    stayed: int
    """Sessions that keep their version until they are closed."""


@dataclass(frozen=True)
class SessionInfo:
    """State of a session on its server."""

    session_id: str
    owner: str
    """Name of the client that opened it; empty on a server without client names."""
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
    """Rows by verdict since this server has the session."""
    latency_s: float | None
    """Seconds from receiving its last row to settling it; None before the first."""


@dataclass(frozen=True)
class SessionPage:
    """A page of a server's sessions, in order of id."""

    sessions: list[SessionInfo]
    total: int
    """All sessions, including those not on this page."""


@dataclass(frozen=True)
class ModelFigures:
    """Figures of one version of a model.

    Rates, means and quantiles since the last overview.
    """

    name: str
    version: int
    role: str
    """"active", "open" (new sessions may name this version), or "retired"."""
    sessions: int
    waiting_rows: int
    rows_per_s: float
    verdicts: dict[str, int]
    """Rows by verdict since the version was loaded."""
    failed_turns: int
    mean_batch: float | None
    """Mean number of sessions that advanced in a turn. None, here and below: there was no turn."""
    queue_p50_s: float | None
    queue_p99_s: float | None
    """Upper bound of how long the oldest row of a turn waited; infinite above the largest bound."""
    compute_p50_s: float | None
    compute_p99_s: float | None


@dataclass(frozen=True)
class Overview:
    """Figures of a server: its models and some of its sessions."""

    models: list[ModelFigures]
    sessions: list[tuple[SessionInfo, float]]
    """In order of id, each with its rows per second."""
    total: int
    """All sessions, including those not listed."""


class AsyncAdmin:
    """Calls the server's `Admin` service; see `AsyncClient.admin`.

    Every method raises Unavailable when the server cannot be reached, and NotFound when the model or session that it
    names does not exist.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, endpoint: Endpoint, metadata: Callable[[], Metadata], timeout_s: float
    ) -> None:
        self._stub = cast(Any, admin_pb2_grpc).AdminStub(channel)
        self._endpoint = endpoint
        self._metadata = metadata
        self._timeout_s = timeout_s

    async def load_model(
        self, name: str, version: int = 0, *, policy: UpgradePolicy = UpgradePolicy.PIN
    ) -> ModelChange:
        """Load a bundle from the server's repository and make it active, or the shadow.

        Args:
            version: 0: the newest one in the repository.
        """
        request = message(pb.LoadModelRequest, name=name, version=version, policy=_number(policy, UpgradePolicy))
        return _change(await self._call(self._stub.LoadModel, request))

    async def promote_model(self, name: str) -> ModelChange:
        """Make the shadow active; the sessions that it shadowed move to it."""
        return _change(await self._call(self._stub.PromoteModel, message(pb.PromoteModelRequest, name=name)))

    async def rollback_model(self, name: str) -> ModelChange:
        """Make the previously active version active again.

        Sessions move to it if compatible.
        """
        return _change(await self._call(self._stub.RollbackModel, message(pb.RollbackModelRequest, name=name)))

    async def unload_model(self, name: str, version: int, *, policy: UnloadPolicy = UnloadPolicy.REFUSE) -> None:
        """Stop serving a version, or drop the shadow; WAIT returns once it has no sessions."""
        request = message(pb.UnloadModelRequest, name=name, version=version, policy=_number(policy, UnloadPolicy))
        await self._call(self._stub.UnloadModel, request, forever=policy is UnloadPolicy.WAIT)

    async def list_sessions(self, model: str = "", *, limit: int = 1000, after: str = "") -> SessionPage:
        """List sessions in order of id.

        Args:
            model: empty: sessions of all models.
            limit: most sessions to return.
            after: list only sessions whose id is greater than this.
        """
        request = message(pb.ListSessionsRequest, model=model, limit=limit, after=after)
        response = await self._call(self._stub.ListSessions, request)
        return SessionPage([_session(session) for session in response.sessions], response.total)

    async def watch(self, *, period_s: float = 1.0, sessions: int = 100) -> AsyncIterator[Overview]:
        """Yield an overview of the server every `period_s`, until it drains.

        Args:
            period_s: 0.1 to 60 seconds.
            sessions: most sessions per overview.
        """
        request = message(pb.WatchRequest, period_s=period_s, sessions=sessions)
        with self._endpoint.calling():
            async for overview in self._stub.Watch(request, metadata=self._metadata()):
                yield _overview(overview)

    async def inspect_session(self, session_id: str) -> tuple[SessionInfo, Mapping[str, Float32Array]]:
        """Return a session and its state tensors by name, each flat, `[size]`."""
        response = await self._call(self._stub.GetSession, message(pb.GetSessionRequest, session_id=session_id))
        state = {name: np.frombuffer(data, "<f4") for name, data in response.state.items()}
        return _session(response.session), state

    async def snapshot_session(self, session_id: str) -> bytes:
        """Return a session as bytes for `restore_session`, on this or another server."""
        request = message(pb.SnapshotSessionRequest, session_id=session_id)
        response = await self._call(self._stub.SnapshotSession, request)
        return bytes(response.snapshot)

    async def restore_session(self, snapshot: bytes, session_id: str = "") -> SessionInfo:
        """Restore a session from a snapshot, under another id if one is given."""
        request = message(pb.RestoreSessionRequest, snapshot=snapshot, session_id=session_id)
        return _session((await self._call(self._stub.RestoreSession, request)).session)

    async def reset_session(self, session_id: str) -> None:
        """Reset a session to the model's initial state; its seqs continue."""
        await self._call(self._stub.ResetSession, message(pb.ResetSessionRequest, session_id=session_id))

    async def close_session(self, session_id: str) -> None:
        """End a session; a stream that holds it gets a notice."""
        await self._call(self._stub.CloseSession, message(pb.CloseSessionRequest, session_id=session_id))

    async def drain(self) -> int:
        """Drain the server: it finishes queued rows and stops. Returns its number of sessions."""
        return int((await self._call(self._stub.Drain, pb.DrainRequest())).sessions)

    async def _call(self, method: Any, request: Any, *, forever: bool = False) -> Any:
        with self._endpoint.calling():
            return await method(request, timeout=None if forever else self._timeout_s, metadata=self._metadata())


def _number(policy: Any, kind: type[UpgradePolicy] | type[UnloadPolicy]) -> int:
    """Number of a policy in the protocol. Raises InvalidArgument if it is none of this kind."""
    known = [each.value for each in kind]
    return known.index(one_of(policy, known, "policy"))


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
    """Value of an optional field; None: it is not set."""
    return getattr(message, field) if message.HasField(field) else None
