#!/bin/sh
# grpcio 1.78.0 reads a GOAWAY only when its next call begins, which fails if the server closed without naming its last call.
#
# A server that drains sends two GOAWAYs: one with the greatest possible number of a call, and one with the last that it took.
# A client whose calls have ended reads neither until it begins another call, and writes that to the connection that is gone.
# If the server closed after the first GOAWAY, this call fails with UNAVAILABLE in spite of wait_for_ready. If it sent the
# second, too, the library knows that the call was not taken, and sends it to the next server at the same address.
# grpcio 1.80.0 and newer read at once; 1.51.1 and the C++ library of Debian 12 (gRPC 1.51.1) are as 1.78.0.
# So a server should send the second GOAWAY before it closes, even if the client did not answer its ping.
#
# Seen with Python 3.11, h2 4.3.0:
#     1.78.0 closed after the first: UNAVAILABLE Socket closed
#     1.78.0 closed after both: OK
#     1.85.1 closed after the first: OK
#     1.85.1 closed after both: OK
# Fails if a version does otherwise.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/calls.py" <<'END'
import socket
import sys
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events

GREATEST = 2**31 - 1


def listen(port=0):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def answer_one(sock):
    """Take one call, and answer it with an empty message and status 0."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    ended = None
    while ended is None:
        for event in http.receive_data(sock.recv(65536)):
            ended = event if isinstance(event, h2.events.StreamEnded) else ended
        if ended is not None:
            http.send_headers(ended.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
            http.send_data(ended.stream_id, bytes(5))
            http.send_headers(ended.stream_id, [("grpc-status", "0")], end_stream=True)
        sock.sendall(http.data_to_send())


def goaway(last):
    return b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + bytes(4)


def serve_and_drain(listener, lasts, gone):
    sock, _ = listener.accept()
    listener.close()
    answer_one(sock)
    for last in lasts:
        time.sleep(0.2)
        sock.sendall(goaway(last))
    sock.settimeout(0.5)
    try:  # read what comes, so that the end is a FIN and not a reset
        while sock.recv(65536):
            pass
    except TimeoutError:
        pass
    sock.close()
    gone.set()


def second_call(lasts):
    """Status of a call that begins after the first server has gone and a second one listens."""
    first, gone = listen(), threading.Event()
    port = first.getsockname()[1]
    threading.Thread(target=serve_and_drain, args=(first, lasts, gone), daemon=True).start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/service/method")
        call(b"", timeout=10)
        assert gone.wait(10)
        second = listen(port)
        threading.Thread(target=lambda: answer_one(second.accept()[0]), daemon=True).start()
        try:
            call(b"", wait_for_ready=True, timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}"
        return "OK"


version = grpc.__version__
found = (second_call([GREATEST]), second_call([GREATEST, 1]))
print(f"{version} closed after the first: {found[0]}\n{version} closed after both: {found[1]}")
sys.exit(found != (("UNAVAILABLE Socket closed" if version == "1.78.0" else "OK"), "OK"))
END

for version in 1.78.0 1.85.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/python" -m pip --disable-pip-version-check --quiet install "grpcio==$version" h2==4.3.0 2>/dev/null
    "$folder/$version/bin/python" "$folder/calls.py"
done
