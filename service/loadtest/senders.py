"""Choice of what sends: the native transport's C++ where it was built, else grpc.aio."""

from __future__ import annotations

from typing import Literal

from statestream.service.addresses import is_socket, split_address
from statestream.service.client.core.grpc_options import proxy_variable
from statestream.service.errors import FailedPrecondition
from statestream.service.loadtest.call import Open
from statestream.service.loadtest.plan import Plan
from statestream.service.transports.choice import lacking


def choose(plan: Plan) -> Literal["native", "grpc"]:
    """Choose what sends a plan's messages; `auto` is the native one where it can.

    Raises:
        FailedPrecondition: the native one is wanted, and cannot reach the target or was not built.
    """
    if plan.sender == "grpc":
        return "grpc"
    lack = _unreachable(plan.target) or lacking()
    if lack and plan.sender == "native":
        raise FailedPrecondition(lack, field="sender")
    return "grpc" if lack else "native"


def opener(plan: Plan) -> Open:
    """What opens the calls of a plan.

    Raises:
        FailedPrecondition: see `choose`.
        InvalidArgument: a file of the plan's TLS settings cannot be used.
    """
    if choose(plan) == "native":
        from statestream.service.loadtest import native_call

        return native_call.opener(plan)
    from statestream.service.loadtest import grpc_call

    return grpc_call.opener(plan)


def _unreachable(target: str) -> str:
    """Why only gRPC's library reaches a target; empty: others do."""
    if not is_socket(target):
        try:
            split_address(target)
        except ValueError as error:
            return f"{target}: {error}"
    if proxy := proxy_variable(target):
        return f"{target}: the environment's {proxy} is in between, which only gRPC's library can pass"
    return ""
