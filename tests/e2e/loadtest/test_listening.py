"""Which processes a target stands for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from statestream.service.loadtest.process_usage import listening


def test_who_listens_is_found(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        port = tcp.getsockname()[1]
        assert listening(f"127.0.0.1:{port}") == listening(f"localhost:{port}") == [os.getpid()]
        assert listening(f"unix:{tmp_path}/s") == listening(f"unix://{tmp_path}/s") == [os.getpid()]
    assert listening(f"127.0.0.1:{port}") == []
    assert listening("192.0.2.1:443") == []
