"""Server reflection over two descriptor pools; the Open Inference Protocol has its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection

from statestream.proto.oip import inference_pb2


class _Pools:
    """Combined `DescriptorPool` for reflection: looks in one pool after the other."""

    _pools = (inference_pb2.DESCRIPTOR.pool, descriptor_pool.Default())

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def find(*arguments: Any) -> Any:
            for pool in self._pools:
                with suppress(KeyError):
                    return getattr(pool, method)(*arguments)
            raise KeyError(*arguments)

        return find


def add_to(server: Any, services: Sequence[str]) -> None:
    """Register reflection for these services, by full name, with a server."""
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server, _Pools())
