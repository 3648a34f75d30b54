"""Unit tests open no port and never sleep."""

from __future__ import annotations

import socket
import time
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def _no_port_and_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a unit test opens no port and does not sleep")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(time, "sleep", refuse)
