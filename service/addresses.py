"""Addresses that a server listens on: `host:port` or `unix:/path`."""

from __future__ import annotations

from ipaddress import ip_address


def is_local(address: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if address.startswith(("unix:", "unix-abstract:")):
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
    if address.startswith(("unix:", "unix-abstract:")):
        return f"{address}.{by}"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + by}"
