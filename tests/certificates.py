"""Certificates for the tests of TLS, good and bad ones, made when they are wanted."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import raftlite
from raftlite.nodes.tls import TlsContext

DAY = datetime.timedelta(days=1)


class Files(NamedTuple):
    """The paths of a certificate, its key and the CA that its owner trusts."""

    cert: Path
    key: Path
    ca: Path

    @property
    def context(self) -> TlsContext:
        return raftlite.tls_context(cert=self.cert, key=self.key, ca=self.ca)

    @property
    def options(self) -> List[str]:
        """For the command line."""
        return [text for name, path in zip(self._fields, self) for text in (f"--{name}", str(path))]


class Authority:
    """A CA whose files are in `folder`."""

    def __init__(self, folder: Path, name: str = "the CA of the tests", lasts: datetime.timedelta = DAY) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        is_ca = [x509.BasicConstraints(ca=True, path_length=0)]
        self.path = self._write("ca.pem", _signed(self._name, self._name, self._key, self._key, lasts, is_ca))

    def files(
        self,
        node_id: str,
        *,
        common_name: Optional[str] = None,
        dns_names: Optional[List[str]] = None,
        lasts: datetime.timedelta = DAY,
        self_signed: bool = False,
        usage: Any = None,
    ) -> Files:
        """The files of a member: a certificate that names its id, unless other names are given.

        `lasts` is how long it is valid from now on. `usage` is its extended key usage, if it has any.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id if common_name is None else common_name)])
        names = [x509.DNSName(name) for name in dns_names or []]
        extensions: List[Any] = [x509.SubjectAlternativeName(names)] if names else []
        extensions += [] if usage is None else [x509.ExtendedKeyUsage([usage])]
        issuer, issuers_key = (subject, key) if self_signed else (self._name, self._key)
        certificate = _signed(subject, issuer, key, issuers_key, lasts, extensions)
        number = len(list(self.folder.iterdir()))
        return Files(
            self._write(f"{number}.pem", certificate), self._write(f"{number}.key", private_pem(key)), self.path
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


CLIENTS_ONLY, SERVERS_ONLY = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def password_pem() -> bytes:
    """A key that nobody can use without a password."""
    return private_pem(ec.generate_private_key(ec.SECP256R1()), b"password")


def private_pem(key: Any, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(pem, pkcs8, encryption_algorithm=encryption))


def _signed(subject: Any, issuer: Any, key: Any, issuers_key: Any, lasts: Any, extensions: List[Any]) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - 2 * DAY).not_valid_after(now + lasts)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return bytes(builder.sign(issuers_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
