"""The `Admin` service: manages models and sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from typing import TypeVar

import grpc

from statestream.proto.v1 import admin_pb2 as pb
from statestream.proto.v1 import admin_pb2_grpc
from statestream.service.auth.identity import Role, caller
from statestream.service.control.host import Host
from statestream.service.control.model_lifecycle import ModelLifecycle, VersionChange
from statestream.service.errors import InvalidArgument, Unavailable
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.telemetry.overview import ServerMonitor
from statestream.service.transports.grpc import converters
from statestream.service.transports.grpc.context import Context, abort, ending_with_status

AnyPolicy = TypeVar("AnyPolicy", UpgradePolicy, UnloadPolicy)
_LIST_LIMIT = 1000
_WATCH_S = 1.0
_WATCHED = 100
"""Default number of sessions in an overview."""


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """Admin service of a host. Methods it lacks answer UNIMPLEMENTED."""

    def __init__(
        self,
        host: Host,
        upgrades: ModelLifecycle,
        *,
        loaded: Callable[[str], Awaitable[None]],
        drain: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            loaded: called with the name of each model that was loaded or unloaded.
            drain: starts to drain the server.
        """
        self._host = host
        self._upgrades = upgrades
        self._loaded = loaded
        self._drain = drain

    @ending_with_status
    async def LoadModel(self, request: pb.LoadModelRequest) -> pb.ModelChange:
        """See `admin.proto`."""
        policy = _of(UpgradePolicy, request.policy)
        change = await self._upgrades.load(request.name, request.version, policy)
        await self._loaded(request.name)
        return _change(change)

    @ending_with_status
    async def PromoteModel(self, request: pb.PromoteModelRequest) -> pb.ModelChange:
        """See `admin.proto`."""
        return _change(await self._upgrades.promote(request.name))

    @ending_with_status
    async def RollbackModel(self, request: pb.RollbackModelRequest) -> pb.ModelChange:
        """See `admin.proto`."""
        return _change(await self._upgrades.rollback(request.name))

    @ending_with_status
    async def UnloadModel(self, request: pb.UnloadModelRequest) -> pb.UnloadModelResponse:
        """See `admin.proto`."""
        await self._upgrades.unload(request.name, request.version, _of(UnloadPolicy, request.policy))
        await self._loaded(request.name)
        return pb.UnloadModelResponse()

    @ending_with_status
    async def ListSessions(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        """See `admin.proto`."""
        who = caller()
        owner = None if who.may({Role.READ, Role.ADMIN}) else who.name
        after = (
            pair
            for pair in self._host.session_manager.infos(request.model, owner)
            if pair[1].session_id > request.after
        )
        page = islice(after, request.limit or _LIST_LIMIT)
        return pb.ListSessionsResponse(
            sessions=[converters.session_message(info, runner.manifest) for runner, info in page],
            total=len(self._host.session_manager.registry)
            if owner is None
            else len(self._host.session_manager.registry.of(owner)),
        )

    @ending_with_status
    async def GetSession(self, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        """See `admin.proto`."""
        runner = self._host.session_manager.registry.find(request.session_id, caller())
        state = runner.table.state(request.session_id)
        return pb.GetSessionResponse(
            session=converters.session_message(runner.table.info(request.session_id), runner.manifest),
            state={name: array.tobytes() for name, array in state.items()},
        )

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.Overview]:
        """See `admin.proto`."""
        period_s = request.period_s or _WATCH_S
        if not _WATCH_S / 10 <= period_s <= _WATCH_S * 60:
            await abort(context, InvalidArgument(f"{period_s:g}, expected from 0.1 to 60 seconds", field="period_s"))
        monitor = ServerMonitor(self._host, time.monotonic)
        while not self._host.session_manager.draining:
            yield converters.overview_message(monitor.sample(request.sessions or _WATCHED))
            await asyncio.sleep(period_s)

    @ending_with_status
    async def SnapshotSession(self, request: pb.SnapshotSessionRequest) -> pb.SnapshotSessionResponse:
        """See `admin.proto`."""
        return pb.SnapshotSessionResponse(
            snapshot=await self._host.session_manager.snapshot(request.session_id, caller())
        )

    @ending_with_status
    async def RestoreSession(self, request: pb.RestoreSessionRequest) -> pb.RestoreSessionResponse:
        """See `admin.proto`."""
        session_id = await self._host.session_manager.restore(request.snapshot, request.session_id, caller())
        runner = self._host.session_manager.registry.find(session_id)
        return pb.RestoreSessionResponse(
            session=converters.session_message(runner.table.info(session_id), runner.manifest)
        )

    @ending_with_status
    async def ResetSession(self, request: pb.ResetSessionRequest) -> pb.ResetSessionResponse:
        """See `admin.proto`."""
        await self._host.session_manager.reset(request.session_id, caller())
        return pb.ResetSessionResponse()

    @ending_with_status
    async def CloseSession(self, request: pb.CloseSessionRequest) -> pb.CloseSessionResponse:
        """See `admin.proto`."""
        await self._host.session_manager.end(request.session_id, caller())
        return pb.CloseSessionResponse()

    @ending_with_status
    async def Drain(self, request: pb.DrainRequest) -> pb.DrainResponse:
        """See `admin.proto`."""
        if self._host.session_manager.draining:
            raise Unavailable("the server is draining already")
        self._drain()
        return pb.DrainResponse(sessions=len(self._host.session_manager.registry))


def _of(kind: type[AnyPolicy], number: int) -> AnyPolicy:
    """Convert a policy number of the protocol; raises InvalidArgument for an unknown one."""
    policies = list(kind)
    if number >= len(policies):
        raise InvalidArgument(f"{number}, at most {len(policies) - 1}", field="policy")
    return policies[number]


def _change(change: VersionChange) -> pb.ModelChange:
    return pb.ModelChange(version=change.manifest.version, moved=change.moved, stayed=change.stayed)


def add_to(server: grpc.aio.Server, servicer: AdminServicer) -> None:
    """Register the service with a gRPC server."""
    admin_pb2_grpc.add_AdminServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
