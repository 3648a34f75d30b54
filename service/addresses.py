"""Server addresses: `host:port` or `unix:/path`."""

from __future__ import annotations

from ipaddress import ip_address


def is_socket(address: str) -> bool:
    """Whether the address is a UNIX socket."""
    return address.startswith(("unix:", "unix-abstract:"))


def is_local(address: str) -> bool:
    """Whether only this machine can reach the address."""
    if is_socket(address):
        return True
    host = address.rpartition(":")[0].strip("[]")
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
    return f"{host}:{int(port) + by}"
