"""Server process: start, drain, workers, watchdog, logs."""

from statestream.service.server.server import Server, run, serve

__all__ = ["Server", "run", "serve"]
