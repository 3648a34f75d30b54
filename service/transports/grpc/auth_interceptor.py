"""Auth interceptor: identifies and authorises the caller of every RPC. Methods without a rule are refused."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any, NoReturn, TypeAlias

import grpc

from statestream.service.auth.audit import audit
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.identity import GUEST, Identity, Role, answering
from statestream.service.auth.quota import Quotas
from statestream.service.errors import Internal, InvalidArgument, PermissionDenied, StatestreamError, Unauthenticated
from statestream.service.protocol.services import ADMIN, HEALTH, INFERENCE, OIP, REFLECTION, STREAM
from statestream.service.protocol.status import to_status
from statestream.service.transports.grpc.context import Context, abort, parsed

log = logging.getLogger(__name__)

Parse: TypeAlias = Callable[[bytes], Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_ADMIN = f"/{ADMIN}/"
_INFERENCE = f"/{INFERENCE}/"
_OIP = f"/{OIP}/"
_ANY = frozenset(Role)
_OWNERS = frozenset({Role.STREAM, Role.ADMIN})
"""For calls about one session; the servicer checks that the caller owns it."""
OPEN = frozenset({f"/{HEALTH}/Check"})
"""Methods that need no authentication: health probes have no tokens."""
RULES = {
    f"/{HEALTH}/": _ANY,
    f"/{REFLECTION}/": _ANY,
    _INFERENCE: _ANY,
    STREAM: frozenset({Role.STREAM}),
    _OIP: _ANY,
    _OIP + "ModelInfer": frozenset({Role.STREAM}),
    _OIP + "ModelStreamInfer": frozenset({Role.STREAM}),
    _OIP + "RepositoryModelLoad": frozenset({Role.ADMIN}),
    _OIP + "RepositoryModelUnload": frozenset({Role.ADMIN}),
    _ADMIN: frozenset({Role.ADMIN}),
    _ADMIN + "ListSessions": _ANY,
    _ADMIN + "Watch": frozenset({Role.READ, Role.ADMIN}),
    _ADMIN + "GetSession": _OWNERS,
    _ADMIN + "SnapshotSession": _OWNERS,
    _ADMIN + "RestoreSession": _OWNERS,
    _ADMIN + "ResetSession": _OWNERS,
    _ADMIN + "CloseSession": _OWNERS,
}
"""Roles allowed to call each method; a service entry is the default for its methods."""
_AUDITED = (_ADMIN, _OIP + "RepositoryModel")


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Admits RPCs to their servicer, which gets the caller from `identity.caller()`.

    Args:
        clients: the clients file.
        anonymous: identity of callers with neither token nor certificate; None: they are refused.
        certificates: whether gRPC has verified the certificates of clients.
    """

    def __init__(
        self, clients: ClientsFile, allowances: Quotas, *, anonymous: Identity | None, certificates: bool
    ) -> None:
        self._clients = clients
        self._allowances = allowances
        self._anonymous = anonymous
        self._certificates = certificates
        self._guarded: dict[str, Handler] = {}
        self.denied: Counter[str] = Counter()
        """Refused calls, by status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of an RPC; called by gRPC."""
        method: str = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def _guard(self, method: str, handler: Any) -> Handler:
        """A handler that checks the caller, and only then parses the request."""
        ends = ("unary", "stream")
        kind = f"{ends[handler.request_streaming]}_{ends[handler.response_streaming]}"
        behaviour = getattr(handler, kind)
        parse = None if handler.request_streaming else handler.request_deserializer
        guarded = (self._stream if handler.response_streaming else self._unary)(method, parse, behaviour)
        ours = {kind: guarded} if handler.request_streaming else {kind: guarded, "request_deserializer": None}
        return handler._replace(**ours)  # type: ignore[no-any-return]

    def _unary(self, method: str, parse: Parse | None, behaviour: Any) -> Any:
        async def answer(raw: bytes, context: Context) -> Any:
            who: Identity | None = None
            request: Any = None
            outcome = "OK"
            try:
                who = await self._admit(method, context)
                request = await self._parsed(parse, raw, context)
                return await behaviour(request, context)
            except BaseException as error:
                outcome = _outcome(context, error)
                if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
                    log.exception("%s failed", method)
                    await abort(context, Internal("the server failed to answer"))
                raise
            finally:
                if method.startswith(_AUDITED):
                    audit(who, method.rpartition("/")[2], request, context.peer(), outcome)

        return answer

    async def _parsed(self, parse: Parse | None, raw: Any, context: Context) -> Any:
        """Parse a unary request; a stream of requests is returned unchanged."""
        try:
            return raw if parse is None else parsed(parse, raw, "message of this method")
        except InvalidArgument as error:
            await abort(context, error)

    def _stream(self, method: str, parse: Parse | None, behaviour: Any) -> Any:
        async def write(raw: Any, context: Context) -> None:
            async with self._counted(method, context):
                await behaviour(await self._parsed(parse, raw, context), context)

        async def generate(raw: Any, context: Context) -> AsyncIterator[Any]:
            async with self._counted(method, context):
                async for response in behaviour(await self._parsed(parse, raw, context), context):
                    yield response

        return generate if inspect.isasyncgenfunction(behaviour) else write

    @asynccontextmanager
    async def _counted(self, method: str, context: Context) -> AsyncIterator[None]:
        """Admit the caller and count its stream against the quota."""
        who = await self._admit(method, context)
        with ExitStack() as stack:
            try:
                stack.enter_context(self._allowances.of(who).stream())
            except StatestreamError as error:
                await self._deny(context, error)
            yield

    async def _admit(self, method: str, context: Context) -> Identity:
        """Identify the caller and check its role; ends the RPC if it is refused."""
        if method in OPEN:
            return GUEST
        try:
            who = self._identify(context)
            if not who.may(rule_of(method)):
                wanted = " or ".join(sorted(role.value for role in rule_of(method))) or "(no role may call it)"
                raise PermissionDenied(f"{method} needs the role {wanted}; '{who.name}' has {_names(who)}")
        except StatestreamError as error:
            await self._deny(context, error)
        answering(who)
        return who

    def _identify(self, context: Context) -> Identity:
        """Identify the caller. Raises Unauthenticated if it shows no valid token or certificate."""
        given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if (who := self._clients.bearer(str(given[0]) if given else "")) is not None:
            return who
        names = context.auth_context().get("x509_common_name", ()) if self._certificates else ()
        for name in names:
            return self._clients.now.of_certificate(name.decode(errors="replace"))
        if self._anonymous is None:
            raise Unauthenticated(
                "no token: send it in the metadata, `authorization: Bearer TOKEN`", field="authorization"
            )
        return self._anonymous

    async def _deny(self, context: Context, error: StatestreamError) -> NoReturn:
        self.denied[to_status(error).code.name] += 1
        await abort(context, error)


def rule_of(method: str) -> frozenset[Role]:
    """Roles of which a caller needs one; empty if the method has no rule."""
    return RULES.get(method, RULES.get(method[: method.rindex("/") + 1], frozenset()))


def _names(who: Identity) -> str:
    return " and ".join(sorted(role.value for role in who.roles)) or "none"


def _outcome(context: Context, error: BaseException) -> str:
    """Status or exception of a call that failed."""
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else type(error).__name__
