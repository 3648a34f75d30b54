"""Workers: several server processes that share a port, each with its own core and connections.

The kernel distributes connections over them (SO_REUSEPORT). A session that returns on another worker's connection is
resumed from the store. A worker that dies is restarted.
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

from statestream.service.addresses import is_socket, shifted, split_address
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.server import log_format, server

log = logging.getLogger(__name__)

_BACK_OFF_S = (0.25, 10.0)
_SOUND_S = 30.0
"""A worker that lived longer than this counts as sound: its death resets the count of short lives."""
_SHORT_LIVES = 3
"""After this many short lives per worker in a row, give up."""


def run(config: ServerConfig, *, page_ports: int = 1) -> None:
    """Serve by as many processes as configured, until SIGTERM or SIGINT.

    Args:
        page_ports: see `Server`.

    Raises:
        InvalidArgument: the address cannot be shared, or the server cannot listen on it.
        FailedPrecondition: the workers keep dying; the log has the reason.
    """
    if config.http_address:
        server.page()  # fails here, once, rather than in each worker
    if config.workers == 1:
        server.run(config, page_ports=page_ports)
    else:
        _Workers(config, page_ports).run()


class _Workers:
    def __init__(self, config: ServerConfig, page_ports: int) -> None:
        self._reserved, port = _reserve(config)
        self._page_ports = page_ports
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
        # The supervisor's watchdog gets beats from the workers; this process only waits.
        os.environ.pop("WATCHDOG_PID", None)
        log.info("starting %d workers on port %s", self._count, self._config.address.rpartition(":")[2])
        if self._config.store == "memory":
            log.warning("without a store, only the worker that has a session can resume it: see --store")
        for index in range(self._count):
            self._start(index)
        try:
            while self._workers:
                self._await_exit()
        finally:
            self._stop()
            self._reserved.close()

    def _start(self, index: int) -> None:
        worker = self._context.Process(
            target=_work, args=(self._config, index, self._page_ports), name=f"worker-{index}"
        )
        worker.start()
        self._workers[index] = worker
        self._started_s[index] = time.monotonic()

    def _await_exit(self) -> None:
        """Wait until a worker ends, and restart it unless it was stopped."""
        wait([worker.sentinel for worker in self._workers.values()])
        for index, worker in list(self._workers.items()):
            if worker.is_alive():
                continue
            worker.join()
            del self._workers[index]
            if not self._stopping and worker.exitcode != 0:
                self._restart(index, worker)

    def _restart(self, index: int, dead: BaseProcess) -> None:
        lived_s = time.monotonic() - self._started_s[index]
        self._short_lives = 0 if lived_s > _SOUND_S else self._short_lives + 1
        if self._short_lives >= _SHORT_LIVES * self._count:
            self._stop()
            raise FailedPrecondition(f"the workers keep dying (exit code {dead.exitcode}); see the log")
        log.error("worker %d died (exit code %s); restarting it", index, dead.exitcode)
        time.sleep(min(_BACK_OFF_S[0] * 2**self._short_lives, _BACK_OFF_S[1]))
        if not self._stopping:
            self._start(index)

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers.values():
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)


def _reserve(config: ServerConfig) -> tuple[socket.socket, int]:
    """Bind the port that the workers share, also if port 0 was configured."""
    if is_socket(config.address):
        raise InvalidArgument(f"{config.address}; workers share a port: expected HOST:PORT", field="address")
    host, port = split_address(config.address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise InvalidArgument(f"cannot listen on {config.address}: {error.strerror}", field="address") from error
    return taken, int(taken.getsockname()[1])


def _work(config: ServerConfig, index: int, page_ports: int) -> None:
    """Run one worker: a server on its own core, with its own metrics, admin and dashboard addresses."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    log_format.set_up(config, f"worker {index}")
    alone = ("metrics_address", "admin_address", "http_address")
    own = {name: shifted(getattr(config, name), index) for name in alone}
    config = config.model_copy(update=own)
    try:
        server.run(config, shares_port=True, page_ports=page_ports)
    except Exception as error:
        log.error("%s", error)
        sys.exit(1)
