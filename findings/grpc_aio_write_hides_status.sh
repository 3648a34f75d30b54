#!/bin/sh
# A stream that is refused while its client writes ends with INTERNAL in grpc.aio instead of the server's status.
#
# A server that ends a bidirectional stream at once (say PERMISSION_DENIED) sends its status; a write of the client that
# is under way then fails, and grpc.aio puts INTERNAL "Internal error from Core" over the status that it has received
# (grpc/grpc#36066). The callbacks of `call.add_done_callback` run before, and see the server's status every time.
#
# Seen with Python 3.11, grpcio 1.85.1: of 2,000 refused streams some 1,800 read INTERNAL, and 2,000 callbacks saw
# PERMISSION_DENIED. Fails if no stream reads INTERNAL, or if a callback sees anything else.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install grpcio==1.85.1

cat >"$folder/refused.py" <<'END'
import asyncio
from collections import Counter
from contextlib import suppress

import grpc


class Refusing(grpc.GenericRpcHandler):
    def service(self, details):
        async def refuse(requests, context):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

        return grpc.stream_stream_rpc_method_handler(refuse)


async def write(call):
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        while True:
            await call.write(b"row")


def code_now(call):
    try:
        call.code().send(None)
    except StopIteration as stopped:
        return stopped.value.name


async def main():
    server = grpc.aio.server(handlers=[Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    read, told = Counter(), Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(2000):
            call = channel.stream_stream("/any/method")()
            call.add_done_callback(lambda ended: told.update([code_now(ended)]))
            writer = asyncio.create_task(write(call))
            try:
                await call.read()
            except grpc.RpcError as error:
                read[error.code().name] += 1
            await writer
    await server.stop(None)
    print("read", dict(read), "callbacks", dict(told))
    assert set(read) == {"PERMISSION_DENIED", "INTERNAL"}, read
    assert told == {"PERMISSION_DENIED": 2000}, told


asyncio.run(main())
END
GRPC_VERBOSITY=NONE "$folder/venv/bin/python" "$folder/refused.py"
