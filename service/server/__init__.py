"""A server's process."""

from statestream.service.server.server import Server, run, serve

__all__ = ["Server", "run", "serve"]
