"""The service: server, client and commands, in layers (docs/architecture.md).

8 server · 7 transports, dashboard · 6 streams, oip, telemetry · 5 control, recording, embedded · 4 serving ·
3 batching, durability · 2 engine, sessions, auth, client · 1 errors, config, protocol and other shared words.
Beside the server: playback, loadtest; above all: cli.
"""

import os

# gRPC reads this while it is imported. Its fork handlers do not know grpc.aio: with them, a forked child that touches
# nothing of gRPC's crashes now and then. Whoever sets the variable keeps what they set.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
