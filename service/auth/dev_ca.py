"""Development certificates: an authority and what it signs (`pip install 'statestream[certs]'`).

The authority's key lies beside the certificates; in production, keep it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from statestream.models.files import replacing

_BACKDATED = timedelta(hours=1)
"""Certificates start an hour ago, since devices' clocks may be slow."""
_CA_DAYS = 3650


class Authority:
    """Certificate authority in a folder: `ca.pem` and `ca.key`, created if missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        if (folder / "ca.pem").exists():
            self._certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            self._key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
            return
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("statestream development authority")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            _builder(name, key, name, _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        self._key, self._certificate = key, builder.sign(key, hashes.SHA256())
        _write(folder, "ca", key, self._certificate)

    def server(self, hosts: Sequence[str], days: int) -> None:
        """Create `server.pem` and `server.key` for a server with these names or addresses."""
        self._issue("server", hosts[0], _alternatives(hosts), ExtendedKeyUsageOID.SERVER_AUTH, days)

    def client(self, name: str, days: int) -> None:
        """Create `NAME.pem` and `NAME.key` for the client of that name."""
        self._issue(name, name, None, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _issue(
        self,
        file: str,
        common_name: str,
        alternatives: x509.SubjectAlternativeName | None,
        usage: x509.ObjectIdentifier,
        days: int,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(common_name), key, self._certificate.subject, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        _write(self._folder, file, key, builder.sign(self._key, hashes.SHA256()))  # type: ignore[arg-type]


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternatives(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Write the key, then the certificate; servers load the pair only when both match."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for suffix, data, mode in ((".key", private, 0o600), (".pem", certificate.public_bytes(Encoding.PEM), 0o644)):
        with replacing(folder / f"{name}{suffix}") as temporary:
            temporary.touch(mode=mode)
            temporary.write_bytes(data)
