"""Server reflection, as `grpcurl` asks, over two descriptor pools: the Open Inference Protocol has one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection

from statestream.proto.oip import inference_pb2


class _Pools:
    """A `DescriptorPool` as far as reflection knows: what one pool does not find, the next may."""

    _pools = (inference_pb2.DESCRIPTOR.pool, descriptor_pool.Default())

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def find(*arguments: Any) -> Any:
            for pool in self._pools:
                with suppress(KeyError):
                    return getattr(pool, method)(*arguments)
            raise KeyError(*arguments)

        return find


def add_to(server: Any, services: Sequence[str]) -> None:
    """Offer the descriptions of these services, by their full names, on a server."""
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server, _Pools())
