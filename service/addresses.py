"""Server addresses: `host:port` or `unix:/path`."""

from __future__ import annotations

import re
from ipaddress import ip_address

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535


def is_socket(address: str) -> bool:
    """Whether the address is a UNIX socket."""
    return address.startswith(("unix:", "unix-abstract:"))


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 host stands in brackets, which are removed.

    Raises:
        ValueError: the text is something else.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > _MAX_PORT:
        raise ValueError(f"expected HOST:PORT, the port at most {_MAX_PORT}, an IPv6 host in brackets: [::1]:50051")
    return found["host"].strip("[]"), int(found["port"])


def check_listening(address: str, *, sockets: bool) -> None:
    """Check an address that a server is to listen on; `sockets`: whether it may be a UNIX socket.

    Raises:
        ValueError: it is neither `host:port` nor, where that may be, `unix:/path`.
    """
    if not is_socket(address):
        split_address(address)
    elif not sockets:
        raise ValueError("expected HOST:PORT, not a UNIX socket")
    elif not address.partition(":")[2]:
        raise ValueError("expected unix:/PATH")


def is_local(address: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return is_socket(address) or is_loopback(split_address(address)[0])
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by a name that only it can use."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shifted(address: str, by: int) -> str:
    """Address of worker `by`: that many ports higher, or a socket with `.by` at its name's end."""
    if not by or not address:
        return address
    if is_socket(address):
        return f"{address}.{by}"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + by}" if int(port) else address


def without_password(url: str) -> str:
    """A URL as it may be shown: without the passwords in it."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(//[^/?@:]*:)[^/?]*@", r"\1***@", url))
