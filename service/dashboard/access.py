"""Dashboard access: identifies callers, and sets security headers and error statuses."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from statestream.service.addresses import is_loopback
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.identity import SERVER, Identity, Role, common_names
from statestream.service.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    StatestreamError,
    Unauthenticated,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Only the page's own files may run as scripts: clients choose session ids."""

_STATUS: dict[type[StatestreamError], int] = {
    InvalidArgument: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    FailedPrecondition: 409,
    ResourceExhausted: 503,
}


class PageAccess:
    """Identifies the dashboard's callers. The page's own files are public, so that a token can be entered."""

    def __init__(self, clients: ClientsFile, anonymous: Identity | None) -> None:
        """Prepare. `anonymous` is the identity of callers without a token; None: they are refused."""
        self._clients = clients
        self._anonymous = anonymous

    def identify(self, request: web.Request) -> Identity:
        """Identify the caller by its token, else by its certificate.

        Raises:
            Unauthenticated: the token is unknown, or there is neither.
            PermissionDenied: the caller has no role.
            InvalidArgument: the Host header is not a loopback name.
        """
        token = request.headers.get("Authorization", "")
        who = self._clients.bearer(token) or self._certified(request) or self._anonymous
        if who is None:
            raise Unauthenticated("this server requires a token or a certificate", field="authorization")
        if not who.may(Role):
            raise PermissionDenied(f"'{who.name}' has no role", field="authorization")
        if who is SERVER:
            _check_host(request)
        return who

    def _certified(self, request: web.Request) -> Identity | None:
        """The client of the connection's certificate."""
        tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
        names = [] if tls is None else common_names(tls.getpeercert() or {})
        return self._clients.now.of_certificate(names[0]) if names else None

    def knows(self, who: Identity) -> bool:
        """Whether a caller's token or certificate is still valid."""
        return self._clients.now.knows(who)


def _check_host(request: web.Request) -> None:
    """Refuse Host headers that are not loopback names (DNS rebinding).

    To a browser, a foreign page whose name resolves to 127.0.0.1 has the same origin as this one, and could read our
    responses. Callers with a token are not affected.
    """
    name = request.url.host or ""
    if not is_loopback(name):
        raise InvalidArgument(f"'{name}' is not a name of this machine; use 127.0.0.1 or localhost", field="host")


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Add security headers to a response."""
    response.headers.update(HEADERS)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert errors to JSON objects with a matching HTTP status."""
    try:
        return await handler(request)
    except StatestreamError as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if error.retry_after_s else None
        return web.json_response({"error": error.text}, status=status, headers=headers)
