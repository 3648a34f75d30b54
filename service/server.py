"""A server's life: load, listen, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import time
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from statestream.models import bundle as bundles
from statestream.proto.v1 import admin_pb2, inference_pb2
from statestream.service import admin, stores
from statestream.service.admin import AdminServicer
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition, InvalidArgument, StatestreamError
from statestream.service.host import Host
from statestream.service.metrics import serve_metrics
from statestream.service.notify import notify
from statestream.service.record import Recorder
from statestream.service.servicer import InferenceServicer
from statestream.service.watchdog import Watchdog

log = logging.getLogger(__name__)

_EXPIRE_EVERY_S = 5.0
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = ("statestream.v1.Inference", "statestream.v1.Admin")
_DURABILITY = "durability"


class Server:
    """One server on one event loop.

    Health (`grpc.health.v1`) has an entry for the whole (""), for `statestream.v1.Inference`, for each model by its
    name (a model whose bundle was refused is NOT_SERVING), and, where there is a store, for "durability".
    """

    def __init__(self, config: ServerConfig, *, shares_port: bool = False) -> None:
        """`shares_port`: whether other processes may listen on the same port."""
        self.config = config
        self.host = Host(config, time.monotonic, Recorder(config.record) if config.record else None)
        self.port = 0
        """The port it listens on, once started; 0 for a UNIX socket."""
        self.drained = asyncio.Event()
        self._health = HealthServicer()
        self._inference = InferenceServicer(self.host)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._metrics: Any = None
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shares_port)),
                # A robot on flaky Wi-Fi pings often, also between calls; without these it would be sent away.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ]
        )

    async def start(self) -> None:
        """Load the models and listen.

        Raises:
            FailedPrecondition: the repository has no model that can be served, or onnxruntime is missing.
            InvalidArgument: the address cannot be listened on.
        """
        await self._load_models()
        store = stores.make(self.config.store)
        if store is not None:
            await self._health.set(_DURABILITY, _SERVING)
            await self.host.keep_in(store, changed=lambda up: self._spawn(self._tell_durability(up)))
        self._grpc.add_generic_rpc_handlers((self._inference.handler(),))
        admin.add_to(self._grpc, AdminServicer(self.host, loaded=self._tell_health, drain=self._drain_soon))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = [inference_pb2.DESCRIPTOR.services_by_name["Inference"], admin_pb2.DESCRIPTOR.services_by_name["Admin"]]
        services = [service.full_name for service in names] + ["grpc.health.v1.Health", reflection.SERVICE_NAME]
        reflection.enable_server_reflection(services, self._grpc)
        try:
            self.port = self._grpc.add_insecure_port(self.config.address)
        except RuntimeError as error:
            raise InvalidArgument(f"cannot listen on {self.config.address}", field="address") from error
        await self._grpc.start()
        if self.config.metrics_address:
            self._metrics = serve_metrics(self.host, self._inference, self.config.metrics_address)
        self._spawn(self._expire())

    async def stop(self, wait_s: float = 0.0) -> None:
        """Drain: for `wait_s` only say so in the health, then refuse new sessions, finish and store the rows that wait,
        say goodbye to every stream, and end."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(wait_s)
        self.host.draining = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._inference.drain(), self.config.drain_s)
        await self._grpc.stop(self.config.drain_s)
        if self.host.custody.keeper is not None:
            await self.host.custody.keeper.stop()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        for runner in self.host.versions:
            runner.close()
        if self.host.recorder is not None:
            await asyncio.to_thread(self.host.recorder.close)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.shutdown)
            self._metrics.server_close()
        self.drained.set()

    async def _load_models(self) -> None:
        wanted = [_name_and_version(text) for text in self.config.models]
        if not wanted:
            wanted = [(name, version) for name, version in bundles.models(self.config.repository)]
        if not wanted:
            raise FailedPrecondition(
                f"{self.config.repository} holds no bundle (NAME/VERSION/manifest.json): see `statestream export`",
                field="repository",
            )
        # The first of a name is active: the newest, which 0 stands for too.
        for name, version in sorted(wanted, key=lambda model: (model[0], -(model[1] or math.inf))):
            try:
                bundle, engine = await asyncio.to_thread(self.host.load, name, version)
            except StatestreamError as error:
                log.error("refusing %s: %s", name, error.text)
                self.host.versions.refused[name] = error.text
            else:
                self.host.add(bundle, engine)
            await self._tell_health(name)
        if not len(self.host.versions):
            raise FailedPrecondition(
                f"no model can be served: {'; '.join(self.host.versions.refused.values())}", field="repository"
            )
        for name in ("", *_SERVICES):
            await self._health.set(name, _SERVING)

    async def _tell_health(self, model: str) -> None:
        """Set the health of a model by whether any version of it is served."""
        served = bool(self.host.versions.of(model))
        await self._health.set(model, _SERVING if served else _NOT_SERVING)

    async def _tell_durability(self, up: bool) -> None:
        await self._health.set(_DURABILITY, _SERVING if up else _NOT_SERVING)

    def runs(self) -> dict[str, int]:
        """See `Watchdog`."""
        return {runner.manifest.ref: runner.run for runner in self.host.versions if runner.run is not None}

    async def give_up(self) -> None:
        """The process is about to end: say so, and store what is settled."""
        await self._health.enter_graceful_shutdown()
        if self.host.custody.keeper is not None:
            await self.host.custody.keeper.commit(alive_s=0.0)

    def _drain_soon(self) -> None:
        self._spawn(self.stop(self.config.drain_wait_s))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(_EXPIRE_EVERY_S, self.config.idle_ttl_s))
            for session_id in self.host.custody.expire():
                log.info("session '%s' expired: no stream held it for %g s", session_id, self.config.idle_ttl_s)


async def serve(
    config: ServerConfig, started: asyncio.Future[Server] | None = None, *, shares_port: bool = False
) -> None:
    """Run a server until SIGTERM, SIGINT or an Admin.Drain, then drain it."""
    server = Server(config, shares_port=shares_port)
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[float] = loop.create_future()
    """How long to wait, once it is time to stop."""

    def stop(wait_s: float) -> None:
        if not stopping.done():
            stopping.set_result(wait_s)

    loop.add_signal_handler(signal.SIGINT, stop, 0.0)
    loop.add_signal_handler(signal.SIGTERM, stop, config.drain_wait_s)
    await server.start()
    # What is loaded by now stays; the collector need not look at it again in the middle of a turn.
    gc.collect()
    gc.freeze()
    log.info("listening on %s", config.address if not server.port else f"port {server.port}")
    notify("READY=1")
    if started is not None:
        started.set_result(server)
    watching = asyncio.ensure_future(Watchdog(config.stuck_s, runs=server.runs, last_words=server.give_up).run())
    waits: list[asyncio.Future[Any]] = [stopping, asyncio.ensure_future(server.drained.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    waits[1].cancel()
    if stopping.done():
        log.info("draining")
        notify("STOPPING=1")
        await server.stop(stopping.result())
    watching.cancel()


def run(config: ServerConfig, *, shares_port: bool = False) -> None:
    """`serve` on an event loop of its own, the fastest there is."""
    try:
        import uvloop
    except ImportError:
        log.info("uvloop is not installed; using asyncio's loop")
        asyncio.run(serve(config, shares_port=shares_port))
    else:
        uvloop.run(serve(config, shares_port=shares_port))


def _name_and_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition(":")
    if version and not version.isdigit():
        raise InvalidArgument(f"'{text}'; expected NAME or NAME:VERSION", field="models")
    return name, int(version or 0)
