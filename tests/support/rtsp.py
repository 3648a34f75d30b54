"""A camera in the network: RTSP as far as a client asks for it, motion JPEG in RTP over the same connection."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

from tests.support.cameras import film

_SIZE = (96, 128)
"""Height and width of its pictures: multiples of 8, as RTP's JPEG wants."""


class Rtsp:
    """Serves one client, in a thread, until it has sent its frames or the client goes."""

    def __init__(self, frames: int, rate_hz: int) -> None:
        self.asked: list[str] = []
        """What the client asked for, in order, without repetitions."""
        self.playing = threading.Event()
        self._frames, self._rate_hz = frames, rate_hz
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Rtsp:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits for a client
        self._listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        requests = client.makefile("rb")
        while (line := requests.readline().decode().strip()) and not self._closing.is_set():
            method = line.split()[0]
            headers = {}
            while header := requests.readline().decode().strip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            if method not in self.asked:
                self.asked.append(method)
            client.sendall(self._answer(method, headers))
            if method == "PLAY":
                self.playing.set()
                self._play(client)
                return

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        lines = ["RTSP/1.0 200 OK", f"CSeq: {headers['cseq']}", "Session: 1;timeout=60"]
        body = ""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            assert re.search("RTP/AVP/TCP", headers["transport"]), "over TCP"
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _play(self, client: socket.socket) -> None:
        """RTP packets as FFmpeg makes them, caught on their way to a port of UDP."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.bind(("127.0.0.1", 0))
            packets.settimeout(0.02)
            address = f"rtp://127.0.0.1:{packets.getsockname()[1]}?pkt_size=1400"
            with av.open(address, "w", format="rtp") as container:
                stream = container.add_stream("mjpeg", rate=self._rate_hz)
                stream.height, stream.width = _SIZE
                stream.pix_fmt = "yuvj420p"
                begin_s = time.monotonic()
                for number in range(self._frames):
                    if self._closing.wait(max(0.0, begin_s + number / self._rate_hz - time.monotonic())):
                        return
                    frame = av.VideoFrame.from_ndarray(_picture(number), format="rgb24").reformat(format="yuvj420p")
                    frame.pts, frame.time_base = number, Fraction(1, self._rate_hz)
                    container.mux(stream.encode(frame))
                    self._relay(packets, client)

    def _relay(self, packets: socket.socket, client: socket.socket) -> None:
        with suppress(TimeoutError):
            while packet := packets.recv(65_536):
                if packet[1] & 0x7F == 26:  # not what RTCP says between them
                    client.sendall(b"$\x00" + len(packet).to_bytes(2, "big") + packet)


def _picture(number: int) -> np.ndarray:
    small = film(1, seed=number)[0]
    return np.ascontiguousarray(small.repeat(_SIZE[0] // len(small), 0).repeat(_SIZE[1] // small.shape[1], 1))
