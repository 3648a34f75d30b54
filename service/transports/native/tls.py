"""TLS of the native server: Python's `ssl`, with the files as they are when a client connects."""

from __future__ import annotations

import os
import ssl

from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument
from statestream.service.transports.tls_files import Pem, TlsFiles


def context(config: ServerConfig) -> ssl.SSLContext | None:
    """TLS context of the configuration; None if it has no certificate.

    Raises:
        InvalidArgument: a file cannot be read, or has no usable certificate or key.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = TlsFiles(config, config.tls_cert, config.tls_key, _context)
    listening = current = files.read()

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Give a new connection the present files; called before the certificate is sent."""
        nonlocal current
        current = files.fetch() or current
        if current is not context:
            connection.context = current

    listening.sni_callback = choose
    return listening


def _context(pem: Pem) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["h2"])
    # A client that resumed would not be verified by an authority that has changed since.
    made.options |= ssl.OP_NO_TICKET
    made.num_tickets = 0
    try:
        load_chain(made, pem.cert + b"\n" + pem.key)
        if pem.client_ca is not None:
            made.load_verify_locations(cadata=pem.client_ca.decode("ascii"))
            made.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgument(f"certificate and key cannot be used: {error}", field="tls_cert") from error
    return made


def load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """Load certificate and key. Python's `ssl` takes them from files alone: one in memory."""
    file = os.memfd_create("certificate")
    try:
        os.write(file, chain)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
