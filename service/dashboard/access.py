"""What every request for the page passes, and every answer bears."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from statestream.service.addresses import is_local
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.identity import SERVER, Identity, Role
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
"""Session ids are whatever clients chose, so that nothing but the page's own files may ever run."""

_STATUS: dict[type[StatestreamError], int] = {
    InvalidArgument: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    FailedPrecondition: 409,
    ResourceExhausted: 503,
}


class PageAccess:
    """Knows who asks. The page's own files are for everybody: whoever has a token needs them to show it."""

    def __init__(self, clients: ClientsFile, nobody: Identity | None) -> None:
        """`nobody`: whom to take a caller for that shows no token; None: such are refused."""
        self._clients = clients
        self._nobody = nobody

    def identify(self, request: web.Request) -> Identity:
        """Who asks.

        Raises:
            Unauthenticated: a token is missing, or nobody's.
            PermissionDenied: it is somebody's who may do nothing.
            InvalidArgument: the request did not mean this machine.
        """
        who = self._clients.bearer(request.headers.get("Authorization", "")) or self._nobody
        if who is None:
            raise Unauthenticated("this server asks for a token", field="authorization")
        if not who.may(Role):
            raise PermissionDenied(f"'{who.name}' has no role", field="authorization")
        if who is SERVER:
            _check_host(request)
        return who

    def knows(self, who: Identity) -> bool:
        """Whether what a caller was recognised by still holds."""
        return self._clients.now.knows(who)


def _check_host(request: web.Request) -> None:
    """Whoever may see all without a token must have asked this machine by a name of its own.

    A foreign page whose name has been made to mean 127.0.0.1 is to the browser the same place as ours, and could read
    what we say.
    """
    name = request.url.host or ""
    if not is_local(f"{name}:0"):
        raise InvalidArgument(f"'{name}' is no name of this machine; ask for 127.0.0.1 or localhost", field="host")


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that keep the page to itself."""
    response.headers.update(HEADERS)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Our errors as an object of JSON with the status that fits."""
    try:
        return await handler(request)
    except StatestreamError as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if error.retry_after_s else None
        return web.json_response({"error": error.text}, status=status, headers=headers)
