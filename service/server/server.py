"""Server: loads models, listens, serves, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from statestream.models.bundle import Bundle, BundleError
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.quota import Quotas
from statestream.service.config import ServerConfig
from statestream.service.control.frontend import Frontend
from statestream.service.control.host import Host
from statestream.service.control.model_lifecycle import ModelLifecycle
from statestream.service.durability import stores
from statestream.service.durability.health import StoreHealth
from statestream.service.engine.onnx import Engine
from statestream.service.engine.refusal import refusing
from statestream.service.errors import FailedPrecondition, InvalidArgument, StatestreamError
from statestream.service.extras import need
from statestream.service.protocol.services import ADMIN, HEALTH, INFERENCE, OIP
from statestream.service.recording.recorder import Recorder
from statestream.service.server.systemd import notify
from statestream.service.server.watchdog import Watchdog
from statestream.service.serving.repository import models_to_load
from statestream.service.telemetry.prometheus import ServerCollector, serve_metrics
from statestream.service.transports.grpc import admin
from statestream.service.transports.grpc.admin import AdminServicer
from statestream.service.transports.grpc.arrivals import ArrivalInterceptor
from statestream.service.transports.grpc.inference import InferenceServicer
from statestream.service.transports.grpc.listener import GrpcListener
from statestream.service.transports.grpc.oip import OipServicer
from statestream.service.transports.transport import transport_of

log = logging.getLogger(__name__)

_SWEEP_S = 5.0
_LOADERS = 2
"""Threads that load bundles at start; more of them would wait for one another in Python."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PUBLIC = (INFERENCE, OIP)
_DURABILITY = "durability"
_INTACT = "durability.intact"


class Server:
    """One server on one event loop.

    Health (`grpc.health.v1`) has an entry for the whole (""), for each service by its full name, for each model by its
    name (NOT_SERVING if its bundle was refused), and, with a store, for "durability" (the store works) and
    "durability.intact" (damage of the store has cost no session since the start).
    """

    def __init__(self, config: ServerConfig, *, shares_port: bool = False, page_ports: int = 1) -> None:
        """Prepare.

        Args:
            shares_port: whether other processes listen on the same port.
            page_ports: ports to try for the dashboard, from that of `http_address` upwards; with more than one, a
                dashboard that cannot listen is logged and is no error.
        """
        self.config = config
        store = stores.open_store(config.store, sets_aside=config.store_damaged == "set_aside")
        self._recorder = Recorder(config.record) if config.record else None
        attach = None if self._recorder is None else self._recorder.attach
        self.host = Host.build(config, time.monotonic, store, on_load=attach)
        self.port = 0
        """Port of the service, once started; 0 for a UNIX socket."""
        self.admin_port = 0
        """Port of the `Admin` service; equal to `port` unless it has its own address."""
        self.drained = asyncio.Event()
        self._health = HealthServicer()
        self._clients = ClientsFile(config.clients)
        self._allowances = Quotas(config, time.monotonic)
        transport = transport_of(config, self.host, self._allowances)
        self.transport = transport.name
        """What reads and writes the connections."""
        self._inference = InferenceServicer(self.host, self._allowances, transport.join)
        upgrades = ModelLifecycle(self.host)
        self._admin = AdminServicer(self.host, upgrades, loaded=self._set_health, drain=self._drain_soon)
        self._oip = OipServicer(self.host, self._allowances, upgrades, loaded=self._set_health)
        self._frontends: tuple[Frontend, ...] = (self._oip, self._inference)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._metrics: Any = None
        self._site: Any = None
        if config.http_address:
            self._site = page().Site(config, self.host, self._clients, time.monotonic, ports=page_ports)
        self._needs_page = page_ports == 1
        self.http_port = 0
        """Port of the dashboard, once started; 0 if it is off."""
        self._logged_denied: Counter[str] = Counter()
        shared = (self._clients, self._allowances)
        arrivals = ArrivalInterceptor(self._oip.gatherer)
        self._public = GrpcListener(
            transport, config, "address", *shared, shares_port=shares_port, interceptors=[arrivals]
        )
        self._operators = self._public
        if config.admin_address:
            self._operators = GrpcListener(transport, config, "admin_address", *shared, shares_port=False)
        self._listeners = {self._public, self._operators}

    async def start(self) -> None:
        """Load the models and listen.

        Raises:
            FailedPrecondition: no model of the repository can be served, or onnxruntime is missing.
            InvalidArgument: the server cannot listen on an address.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await self._load_models()
        if self.host.persistence is not None:
            for name in (_DURABILITY, _INTACT):
                await self._health.set(name, _SERVING)
            self._spawn(self._report_durability(self.host.persistence.store.health))
            self._spawn(self._report_damage(self.host.persistence.store.health))
            await self.host.persistence.start()
        together = self._operators is self._public
        self._public.grpc.add_generic_rpc_handlers((self._inference.handler(), self._oip.handler(operates=together)))
        admin.add_to(self._operators.grpc, self._admin)
        for listener in self._listeners:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, listener.grpc)
        if together:
            self.port = self.admin_port = await self._public.start((*_PUBLIC, ADMIN, HEALTH))
        else:
            self.port = await self._public.start((*_PUBLIC, HEALTH))
            self.admin_port = await self._operators.start((ADMIN, HEALTH))
        if self.config.metrics_address:
            collector = ServerCollector(
                self.host,
                streams=lambda: self.streams,
                oip_requests=self._oip.sequences.requests,
                refused_calls=lambda: self.denied,
                recorder=self._recorder,
                transport=self.transport,
            )
            self._metrics = serve_metrics(collector, self.config.metrics_address)
        if self._site is not None:
            await self._start_page()
        self._spawn(self._sweep())

    async def _start_page(self) -> None:
        try:
            self.http_port = await self._site.start()
        except InvalidArgument as error:
            if self._needs_page:
                raise
            log.warning("no page: %s", error.text)

    async def stop(self, wait_s: float = 0.0) -> None:
        """Drain and stop.

        For `wait_s`, only the health reports it. Then new sessions are refused, queued rows are settled and stored,
        every stream is notified and ended.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(wait_s)
        self.host.session_manager.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._finish(), self.config.drain_s)
        await asyncio.gather(*(listener.grpc.stop(self.config.drain_s) for listener in self._listeners))
        if self.host.persistence is not None:
            await self.host.persistence.stop()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self.host.models.close()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.shutdown)
            self._metrics.server_close()
        if self._site is not None:
            await self._site.stop()
        self.drained.set()

    async def _finish(self) -> None:
        """Settle and store queued rows, and end every stream."""
        for frontend in self._frontends:
            await frontend.drain()

    async def _load_models(self) -> None:
        wanted, loop = models_to_load(self.config), asyncio.get_running_loop()
        with ThreadPoolExecutor(_LOADERS, "load") as pool:
            load = partial(self.host.repository.load, measure=False)
            loading = [loop.run_in_executor(pool, load, name, version) for name, version in wanted]
            loaded = await asyncio.gather(*loading, return_exceptions=True)
        # The first version of a name becomes active.
        for (name, _), one in zip(wanted, loaded, strict=True):
            try:
                await self._serve_model(one)
            except (StatestreamError, BundleError) as error:
                text = error.text if isinstance(error, StatestreamError) else str(error)
                log.error("refusing %s: %s", name, text)
                self.host.versions.refuse(name, text)
            await self._set_health(name)
        if not len(self.host.versions):
            raise FailedPrecondition(
                f"no model can be served: {'; '.join(self.host.versions.refused.values())}", field="repository"
            )
        for name in ("", *_PUBLIC, ADMIN):
            await self._health.set(name, _SERVING)

    async def _serve_model(self, loaded: tuple[Bundle, Engine] | BaseException) -> None:
        """Measure a loaded engine while nothing else runs, and serve it. Raises the error of a failed load."""
        if isinstance(loaded, BaseException):
            raise loaded
        bundle, engine = loaded
        with refusing(f"{bundle.path} cannot be loaded"):
            await asyncio.to_thread(engine.measure)
            self.host.models.add(bundle, engine)

    async def _set_health(self, model: str) -> None:
        """Set the health of a model: serving if any version of it is loaded."""
        served = bool(self.host.versions.of(model))
        await self._health.set(model, _SERVING if served else _NOT_SERVING)

    async def _report_durability(self, health: StoreHealth) -> None:
        """Keep the health entry "durability" what the store's health is."""
        while True:
            await health.until(lambda: not health.up)
            await self._health.set(_DURABILITY, _NOT_SERVING)
            await health.until(lambda: health.up)
            await self._health.set(_DURABILITY, _SERVING)

    async def _report_damage(self, health: StoreHealth) -> None:
        await health.until(lambda: not health.intact)
        await self._health.set(_INTACT, _NOT_SERVING)

    def runs(self) -> dict[str, int]:
        """Runs in progress, for `Watchdog`."""
        return {runner.manifest.ref: runner.run for runner in self.host.versions if runner.run is not None}

    async def give_up(self) -> None:
        """Before the process ends itself: report NOT_SERVING, and store what is settled."""
        await self._health.enter_graceful_shutdown()
        if self.host.persistence is not None:
            await self.host.persistence.commit(alive_s=0.0)

    def _drain_soon(self) -> None:
        self._spawn(self.stop(self.config.drain_wait_s))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self.config.idle_ttl_s))
            self._clients.refresh()
            if self._site is not None:
                self._site.refresh()
            for frontend in self._frontends:
                frontend.sweep(self._clients.now.knows)
            if self.host.persistence is None:
                for session_id in self.host.eviction.expire():
                    log.info("session '%s' expired: no stream held it for %g s", session_id, self.config.idle_ttl_s)
            self._log_denied()

    def _log_denied(self) -> None:
        """Log the calls refused since the last time, in one line."""
        denied = self.denied
        if denied != self._logged_denied:
            since = ", ".join(f"{count} {code}" for code, count in (denied - self._logged_denied).items())
            log.warning("calls refused: %s", since)
            self._logged_denied = denied

    @property
    def streams(self) -> int:
        """Number of open streams of the `Inference` service."""
        return self._inference.streams

    @property
    def denied(self) -> Counter[str]:
        """Refused calls, by status."""
        return sum((listener.guard.denied for listener in self._listeners), Counter())


async def serve(
    config: ServerConfig,
    started: asyncio.Future[Server] | None = None,
    *,
    shares_port: bool = False,
    page_ports: int = 1,
) -> None:
    """Run a server until SIGTERM, SIGINT or an Admin.Drain, then drain it; see `Server`."""
    server = Server(config, shares_port=shares_port, page_ports=page_ports)
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[float] = loop.create_future()
    """Seconds to wait before draining, once it is time to stop."""

    def stop(wait_s: float) -> None:
        if not stopping.done():
            stopping.set_result(wait_s)

    loop.add_signal_handler(signal.SIGINT, stop, 0.0)
    loop.add_signal_handler(signal.SIGTERM, stop, config.drain_wait_s)
    await server.start()
    # Objects loaded so far stay; the garbage collector need not scan them in the middle of a turn.
    gc.collect()
    gc.freeze()
    log.info("transport: %s", server.transport)
    log.info("engine: %s", server.host.repository.engine)
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


def run(config: ServerConfig, *, shares_port: bool = False, page_ports: int = 1) -> None:
    """Run `serve` on a new event loop: uvloop's if installed, otherwise asyncio's."""
    # The finite check squares inputs, which may overflow; that is not worth a warning.
    np.seterr(over="ignore")
    serving = serve(config, shares_port=shares_port, page_ports=page_ports)
    try:
        import uvloop
    except ImportError:
        log.info("uvloop is not installed; using asyncio's loop")
        asyncio.run(serving)
    else:
        uvloop.run(serving)


def page() -> ModuleType:
    """The dashboard's module. Raises FailedPrecondition if the package it needs is not installed."""
    return need("statestream.service.dashboard.site", "http")
