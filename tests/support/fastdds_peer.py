"""A participant of Fast DDS, the default middleware of ROS 2, in a process that is built from C++ and told by lines."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Condition, Thread
from typing import Any

import pytest
from rosbags.interfaces import Nodetype

from tests.support.cpp import build

ROOT = Path(__file__).parents[2]
_SOURCES, _OUT = Path(__file__).parent / "fastdds", ROOT / "build/fastdds"
_NEEDED = {"g++": "g++", "make": "make", "fastddsgen": "fastddsgen"}
_HEADER = Path("/usr/include/fastdds/dds/domain/DomainParticipant.hpp")
TIMEOUT_S = 60.0
ENDED = "ended"
LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<Peers><Peer address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>"
)
"""Configuration of Cyclone DDS by which it meets this peer: loopback alone, without multicast."""


def peer_program() -> Path:
    """The program, built once in this tree; skips the test where it cannot be built."""
    lacking = [package for command, package in _NEEDED.items() if shutil.which(command) is None]
    if lacking or not _HEADER.exists():
        pytest.skip(f"Fast DDS cannot be built with: apt-get install {' '.join(lacking) or 'libfastrtps-dev'}")
    _OUT.mkdir(parents=True, exist_ok=True)
    with (_OUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(_SOURCES, _OUT)
    return _OUT / "peer"


def free_domain() -> int:
    """A domain that no other test uses, nor any before in this process: who died there may still seem to be there.

    Its lock is held until the process ends. Domains above 100 have ports that outgoing connections may have.
    """
    folder = _OUT / "domains"
    folder.mkdir(parents=True, exist_ok=True)
    for domain in range(10, 101):
        lock = os.open(folder / str(domain), os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return domain
    raise AssertionError("all domains are taken")


class Peer:
    """The program while it runs."""

    def __init__(self, program: Path, domain: int, lease_s: int = 10) -> None:
        self._process = subprocess.Popen(
            [program, str(domain), str(lease_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._said: defaultdict[str, Queue[str]] = defaultdict(Queue)
        self._there: dict[str, int] = {}
        self._found: defaultdict[str, int] = defaultdict(int)
        self._changed = Condition()
        self._listening = Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.next("ready")

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def next(self, kind: str) -> str:
        """The rest of the next line that begins with a word."""
        return self._said[kind].get(timeout=TIMEOUT_S)

    def count(self, kind: str) -> int:
        """How many such lines wait."""
        return self._said[kind].qsize()

    def matched(self, topic: str, times: int = 1) -> None:
        """Wait until other endpoints on a topic were found so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._found[topic] >= times, TIMEOUT_S), f"nobody is on {topic}"

    def write(self, topic: str, message: str) -> None:
        """Write a message, and wait until that is done."""
        self.tell(f"write {topic} {message}")
        self.next("wrote")

    def prediction(self) -> dict[str, Any] | None:
        """The next prediction that comes; None: the process has ended."""
        said = self._said["prediction"].get()
        return None if said == ENDED else json.loads(said.partition(" ")[2])

    def serialized(self, kind: str, message: str) -> bytes:
        """A message as Fast DDS serializes it."""
        self.tell(f"bytes {kind} {message}")
        return bytes.fromhex(self.next("bytes"))

    def kill(self) -> None:
        """As a process dies that says good-bye to nobody."""
        self._process.kill()
        self._process.wait()
        self._listening.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def stop(self) -> None:
        """Stand still, as a process does that gets no CPU."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, rest = line.rstrip("\n").partition(" ")
            if kind == "matched":
                self._count(*rest.split())
            else:
                self._said[kind].put(rest)
        self._said["prediction"].put(ENDED)

    def _count(self, topic: str, count: str) -> None:
        with self._changed:
            self._found[topic] += int(count) > self._there.get(topic, 0)
            self._there[topic] = int(count)
            self._changed.notify_all()


@contextmanager
def running(program: Path, domain: int, lease_s: int = 10) -> Iterator[Peer]:
    """A peer that is killed at the end."""
    peer = Peer(program, domain, lease_s)
    try:
        yield peer
    finally:
        peer.kill()


def imu(t_ns: int, rate: float, acceleration: float, frame: str = "imu", covariance: float = 0.0) -> str:
    """An Imu as the peer reads it."""
    nine = _numbers([covariance] * 9)
    rates, accelerations = _numbers([rate, 0.0, 0.0]), _numbers([0.0, 0.0, acceleration])
    return f"{_header(t_ns, frame)} {_numbers([0.0, 0.0, 0.0, 1.0])} {nine} {rates} {nine} {accelerations} {nine}"


def joints(
    t_ns: int, names: Sequence[str], position: Sequence[float], velocity: Sequence[float] = (), frame: str = ""
) -> str:
    """A JointState as the peer reads it."""
    words = " ".join([str(len(names)), *map(_quoted, names)])
    return " ".join([_header(t_ns, frame), words, *(f"{len(v)} {_numbers(v)}" for v in (position, velocity, ()))])


def line_of(definitions: Mapping[str, Any], kind: str, message: Any) -> str:
    """A message of rosbags as the peer reads it."""
    return " ".join(_words(definitions, (Nodetype.NAME, kind), message))


def _words(definitions: Mapping[str, Any], described: tuple[Any, Any], value: Any) -> Iterator[str]:
    node, about = described
    if node is Nodetype.NAME:
        for name, field in definitions[about][1]:
            yield from _words(definitions, field, getattr(value, name))
    elif node is Nodetype.BASE:
        yield _quoted(value) if about[0] == "string" else repr(getattr(value, "item", lambda: value)())
    else:
        if node is Nodetype.SEQUENCE:
            yield str(len(value))
        for element in value:
            yield from _words(definitions, about[0], element)


def _header(t_ns: int, frame: str) -> str:
    return f"{t_ns // 10**9} {t_ns % 10**9} {_quoted(frame)}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
