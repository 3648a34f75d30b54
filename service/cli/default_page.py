"""Default page: the dashboard of `serve` where nothing was said about one."""

from __future__ import annotations

import logging
from pathlib import Path

from statestream.service.addresses import is_local, is_socket
from statestream.service.config import ServerConfig
from statestream.service.errors import FailedPrecondition
from statestream.service.server.server import page

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1:8080"
PORTS = 100
"""Ports to try, from that of `ADDRESS` upwards."""


def with_default_page(settings: ServerConfig, file: Path | None) -> tuple[ServerConfig, int]:
    """Add the default page to settings where it belongs.

    Returns the settings, and how many ports to try for the page; see `Server`.
    """
    if not wants_page(settings, file):
        return settings, 1
    try:
        page()
    except FailedPrecondition as error:
        log.info("no page: %s", error.text)
        return settings, 1
    return settings.model_copy(update={"http_address": ADDRESS}), PORTS


def wants_page(settings: ServerConfig, file: Path | None) -> bool:
    """Whether a server gets the default page.

    Not with a configuration file, which says all that a service has. Not where the port would let in callers that the
    service keeps out: other users of this machine at a UNIX socket.
    """
    if file is not None or "http_address" in settings.model_fields_set:
        return False
    addresses = [address for address in (settings.address, settings.admin_address) if address]
    return all(is_local(address) and not is_socket(address) for address in addresses)
