"""Dashboard's HTTP server, on the event loop of the server it shows.

    GET /                       the page; GET /NAME, its other files
    GET /api/overview           models and sessions, a line a second
    GET /api/wiring?model=NAME:VERSION    the picture of a model's wiring, SVG
    GET /api/session?id=ID      one session: its inputs, outputs and state, ten lines a second at most
    GET /healthz                200 while the server serves, 503 while it drains; without credentials

Overview and session are endless: each line is a JSON object (see `json_lines`), sent while the client is connected.
Slow clients get fewer lines, not later ones. On a server that requires authentication, callers need a token with a
role; a session is for its owner and operators.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from statestream.service.addresses import split_address
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.identity import Identity, unproven
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.dashboard.access import PageAccess, answer_errors, secure
from statestream.service.dashboard.certificate import Certificate
from statestream.service.dashboard.json_lines import Line, encoded, overview_line
from statestream.service.dashboard.session_feed import SessionFeed
from statestream.service.dashboard.wiring_svg import wiring_svg
from statestream.service.errors import InvalidArgument, NotFound, ResourceExhausted, StatestreamError
from statestream.service.telemetry.overview import ServerMonitor

log = logging.getLogger(__name__)

MOST_SESSIONS = 100
"""Most sessions in an overview."""
MOST_LISTENERS = 16
OVERVIEW_EVERY_S = 1.0
ROW_EVERY_S = 0.1
_STALLED_S = 10.0
"""A client that reads nothing for this long is disconnected."""
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Site:
    """Dashboard of one server."""

    def __init__(
        self, config: ServerConfig, host: Host, clients: ClientsFile, clock: Callable[[], float], *, ports: int = 1
    ) -> None:
        """Prepare. `ports`: how many to try, from that of `http_address` upwards, until one is free."""
        self._address = config.http_address
        self._ports = ports
        self._host = host
        self._clock = clock
        self._guard = PageAccess(clients, unproven(config.http_address, asks=config.asks))
        self._certificate: Certificate | None = None
        if config.tls_cert is not None and config.tls_key is not None:
            self._certificate = Certificate(config.tls_cert, config.tls_key, config.tls_client_ca)
        self._listeners = 0
        self._ending = asyncio.Event()
        app = web.Application(middlewares=[answer_errors])
        app.on_response_prepare.append(secure)
        app.router.add_get("/api/overview", self._overview)
        app.router.add_get("/api/session", self._session)
        app.router.add_get("/api/wiring", self._wiring)
        app.router.add_get("/healthz", self._healthz)
        for path in (Path(__file__).parent / "static").iterdir():
            app.router.add_get("/" if path.name == "index.html" else f"/{path.name}", _file(path))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> int:
        """Start to listen; returns the port. Raises InvalidArgument if that fails."""
        host, port = split_address(self._address)
        await self._runner.setup()
        try:
            await self._listen(host, port)
        except OSError as error:
            await self._runner.cleanup()
            text = f"cannot listen on {self._address}: {error.strerror}"
            raise InvalidArgument(text, field="http_address") from error
        found = int(self._runner.addresses[0][1])
        scheme, shown = "http" if self._certificate is None else "https", self._address.rpartition(":")[0]
        why = f" (port {port} is taken)" if port and found != port else ""
        log.info("the page is at %s://%s:%d/%s", scheme, shown, found, why)
        return found

    async def _listen(self, host: str, port: int) -> None:
        """Listen on the first free port of those to try. Raises OSError."""
        context = None if self._certificate is None else self._certificate.context
        for candidate in range(port, port + self._ports):
            try:
                await web.TCPSite(self._runner, host, candidate, ssl_context=context).start()
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or candidate == port + self._ports - 1:
                    raise

    def refresh(self) -> None:
        """Reload the certificate if it has changed."""
        if self._certificate is not None:
            self._certificate.refresh()

    async def stop(self) -> None:
        """End all responses and stop listening."""
        self._ending.set()
        await self._runner.cleanup()

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        who, monitor = self._guard.identify(request), ServerMonitor(self._host, self._clock)
        return await self._push(request, who, OVERVIEW_EVERY_S, lambda: [overview_line(monitor.sample(MOST_SESSIONS))])

    async def _session(self, request: web.Request) -> web.StreamResponse:
        who = self._guard.identify(request)
        with closing(SessionFeed(self._host, request.query.get("id", ""), who, self._clock)) as watch:
            return await self._push(request, who, ROW_EVERY_S, watch.news)

    async def _wiring(self, request: web.Request) -> web.Response:
        self._guard.identify(request)
        ref = request.query.get("model", "")
        found = next((runner.manifest for runner in self._host.versions if runner.manifest.ref == ref), None)
        if found is None:
            raise NotFound(f"no model '{ref}' here", field="model")
        return web.Response(text=wiring_svg(found), content_type="image/svg+xml")

    async def _healthz(self, request: web.Request) -> web.Response:
        draining = self._host.session_manager.draining
        return web.Response(text="draining" if draining else "ok", status=503 if draining else 200)

    async def _push(
        self, request: web.Request, who: Identity, every_s: float, news: Callable[[], list[Line]]
    ) -> web.StreamResponse:
        """Send lines now, then new ones at intervals.

        Ends when either side ends it, or the caller's token is no longer valid.
        """
        if self._listeners >= MOST_LISTENERS:
            raise ResourceExhausted(f"{MOST_LISTENERS} pages are connected already, the limit", retry_after_s=5.0)
        self._listeners += 1
        try:
            lines = news()  # fails before the response begins, so that errors get a status
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            with suppress(ConnectionError, StatestreamError):
                while not self._ending.is_set() and self._guard.knows(who):
                    await self._write(request, response, b"".join(map(encoded, lines)))
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._ending.wait(), every_s)
                    lines = news()
            return response
        finally:
            self._listeners -= 1

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        try:
            await asyncio.wait_for(response.write(data), _STALLED_S)
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionError("the client reads nothing") from None


def _file(path: Path) -> Callable[[web.Request], Any]:
    """Handler that sends one file, as it was when the server started."""
    content, kind = path.read_bytes(), _KINDS[path.suffix]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return answer
