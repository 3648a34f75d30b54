"""Several servers as one: processes that share a port, each with a core of its own and the sessions of its connections.

The kernel spreads connections over them (SO_REUSEPORT); a session that comes back by another connection finds its way
by way of the store. A worker that dies is started anew.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from statestream.service.addresses import shifted
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.server import log_format as logs
from statestream.service.server import server

log = logging.getLogger(__name__)

_BACK_OFF_S = (0.25, 10.0)
_SOUND_S = 30.0
"""A worker that lived for so long died of something new."""
_SHORT_LIVES = 3
"""As many times the number of workers in a row, and there is no use in going on."""


def run(config: ServerConfig) -> None:
    """Serve by as many processes as the configuration says, until SIGTERM or SIGINT.

    Raises:
        InvalidArgument: the address cannot be shared, or not be listened on.
        FailedPrecondition: the workers keep dying; the log says why.
    """
    if config.workers == 1:
        server.run(config)
    else:
        _Workers(config).run()


class _Workers:
    def __init__(self, config: ServerConfig) -> None:
        self._reserved, port = _reserve(config)
        host = config.address.rpartition(":")[0]
        self._config = config.model_copy(update={"address": f"{host}:{port}", "workers": 1})
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, BaseProcess] = {}
        self._count = config.workers
        self._started_s: dict[int, float] = {}
        self._short_lives = 0
        self._stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        # Whoever supervises us hears of the workers, which beat, and not of this process, which waits.
        os.environ.pop("WATCHDOG_PID", None)
        log.info("starting %d workers on port %s", self._count, self._config.address.rpartition(":")[2])
        if self._config.store == "memory":
            log.warning("without a store, a session can be resumed by the worker that holds it alone: see --store")
        for index in range(self._count):
            self._start(index)
        try:
            while self._workers:
                self._look_after()
        finally:
            self._stop()
            self._reserved.close()

    def _start(self, index: int) -> None:
        worker = self._context.Process(target=_work, args=(self._config, index), name=f"worker-{index}")
        worker.start()
        self._workers[index] = worker
        self._started_s[index] = time.monotonic()

    def _look_after(self) -> None:
        """Wait until a worker ends, and start it anew unless that was wanted."""
        wait([worker.sentinel for worker in self._workers.values()])
        for index, worker in list(self._workers.items()):
            if worker.is_alive():
                continue
            worker.join()
            del self._workers[index]
            if not self._stopping and worker.exitcode != 0:
                self._again(index, worker)

    def _again(self, index: int, dead: BaseProcess) -> None:
        lived_s = time.monotonic() - self._started_s[index]
        self._short_lives = 0 if lived_s > _SOUND_S else self._short_lives + 1
        if self._short_lives >= _SHORT_LIVES * self._count:
            self._stop()
            raise FailedPrecondition(f"the workers keep dying (exit code {dead.exitcode}); the log says why")
        log.error("worker %d died (exit code %s); starting it anew", index, dead.exitcode)
        time.sleep(min(_BACK_OFF_S[0] * 2**self._short_lives, _BACK_OFF_S[1]))
        if not self._stopping:
            self._start(index)

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers.values():
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)


def _reserve(config: ServerConfig) -> tuple[socket.socket, int]:
    """Take the port for the workers, so that port 0 is the same for all, and nobody else's."""
    host, colon, port = config.address.rpartition(":")
    if config.address.startswith("unix:") or not colon or not port.isdigit():
        raise InvalidArgument(f"{config.address}; workers share a port: expected HOST:PORT", field="address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taken.bind((host.strip("[]"), int(port)))
    except OSError as error:
        taken.close()
        raise InvalidArgument(f"cannot listen on {config.address}: {error.strerror}", field="address") from error
    return taken, int(taken.getsockname()[1])


def _work(config: ServerConfig, index: int) -> None:
    """One worker: a server on a core of its own, its metrics, admin and page at addresses of its own."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    logs.set_up(config, f"worker {index}")
    alone = ("metrics_address", "admin_address", "http_address")
    own = {name: shifted(getattr(config, name), index) for name in alone}
    config = config.model_copy(update=own)
    try:
        server.run(config, shares_port=True)
    except Exception as error:
        log.error("%s", error)
        sys.exit(1)
