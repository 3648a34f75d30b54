"""gRPC connections to the target, plain or TLS."""

from __future__ import annotations

import grpc

from statestream.models.spec import Manifest
from statestream.service.client import AsyncClient
from statestream.service.client.core.grpc_options import channel_options
from statestream.service.loadtest.plan import Plan

# Channels with equal options would share one connection; real clients each have their own. Despite its name the
# minimal back-off is also the time limit of connecting: a server under load needs some time.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.min_reconnect_backoff_ms", 10_000))


def connect(plan: Plan, tls: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Open a channel that shares its connection with no other channel."""
    options = channel_options(plan.target, _OPTIONS)
    if tls is None:
        return grpc.aio.insecure_channel(plan.target, options=options)
    return grpc.aio.secure_channel(plan.target, tls, options=options)


async def fetch_manifest(plan: Plan) -> Manifest:
    """Fetch the model's manifest from the server.

    Raises:
        Unavailable: the server cannot be reached.
        NotFound: it has no such model.
    """
    async with AsyncClient(plan.target, access=plan.access, timeout_s=10.0) as client:
        return (await client.get_model(plan.model, plan.version)).manifest
