"""Addresses that a server listens on: `host:port` or `unix:/path`."""

from __future__ import annotations

from ipaddress import ip_address


def is_socket(address: str) -> bool:
    """Whether it is a UNIX socket."""
    return address.startswith(("unix:", "unix-abstract:"))


def is_local(address: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if is_socket(address):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shifted(address: str, by: int) -> str:
    """The address of a process that is one of several: `by` ports higher, or a socket whose name ends in `.by`."""
    if not by or not address:
        return address
    if is_socket(address):
        return f"{address}.{by}"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + by}"
