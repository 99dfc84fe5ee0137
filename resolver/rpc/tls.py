"""TLS by file paths: reading certificates and keys, checking that they fit, and noticing that they were replaced."""

import logging
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from msgspec import Struct

from resolver.errors import Fault, Reason

_log: Final = logging.getLogger(__name__)


class ServerTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files by which a server proves itself, and by which it knows its callers. PEM; read again when replaced."""

    certificate: str
    """Path of the server's certificate, followed by those between it and the root."""

    key: str
    """Path of the certificate's private key, not encrypted."""

    client_ca: str = ""
    """Path of the authorities of client certificates. When given, a caller without such a certificate is refused."""


class ClientTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files by which a client knows a server, and by which it proves itself. PEM."""

    server_ca: str = ""
    """Path of the authorities of server certificates. Empty: those that gRPC brings along."""

    certificate: str = ""
    """Path of the client's certificate, where the server asks for one."""

    key: str = ""
    """Path of the client certificate's private key, not encrypted."""


class Pem(Struct, frozen=True):
    """What stands in a server's files; None where no clients are to be proven."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class ClientPem(Struct, frozen=True):
    """What stands in a client's files: authorities, certificate and key; None where there are none."""

    server_ca: bytes | None
    pair: tuple[bytes, bytes] | None


def read_server(tls: ServerTls) -> Pem:
    """Read a server's files.

    Raises:
        Fault: FILE_UNREADABLE with the path in its variables; the field is `tls.certificate`, `.key` or `.client_ca`.
    """
    certificate, key = _read_pair(tls.certificate, tls.key)
    return Pem(certificate, key, _read_ca(tls.client_ca, "tls.client_ca") if tls.client_ca else None)


def read_client(tls: ClientTls) -> ClientPem:
    """Read a client's files.

    Raises:
        Fault: as `read_server`; the field is `tls.server_ca`, `.certificate` or `.key`.
    """
    ca = _read_ca(tls.server_ca, "tls.server_ca") if tls.server_ca else None
    return ClientPem(ca, _read_pair(tls.certificate, tls.key) if tls.certificate or tls.key else None)


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Make credentials that follow their files.

    Raises:
        Fault: as `read_server`.
    """
    files = WatchedFiles(tls)

    def replaced() -> grpc.ServerCertificateConfiguration | None:
        pem = files.replaced()
        return _configuration(pem) if pem else None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files.pem),
        replaced,  # type: ignore[arg-type] # None means "as before"; the stubs miss it
        require_client_authentication=bool(tls.client_ca),
    )


def client_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Make credentials of what the files hold now.

    Raises:
        Fault: as `read_client`.
    """
    files = read_client(tls)
    certificate, key = files.pair or (None, None)
    return grpc.ssl_channel_credentials(files.server_ca, key, certificate)


class WatchedFiles:
    """A server's files as last read (`pem`). Whoever serves asks what is new, gRPC before each handshake."""

    def __init__(self, tls: ServerTls) -> None:
        """Read them.

        Raises:
            Fault: as `read_server`.
        """
        self._tls = tls
        self._stamps = self._read_stamps()
        self.pem = read_server(tls)

    def replaced(self) -> Pem | None:
        """Give what is new, None where the files stand as they were.

        Fails closed: files that cannot be read or do not fit (a replacement half done) leave what is in use, and are
        looked at again at the next handshake.
        """
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return None
            pem = read_server(self._tls)
        except Fault as fault:
            _log.warning("TLS files were replaced and cannot be used; those in use stay: %s", fault)
            return None
        self._stamps = stamps
        if pem == self.pem:
            return None
        self.pem = pem
        _log.info("TLS files were replaced and are in use from now on")
        return pem

    def _read_stamps(self) -> list[tuple[int, int, int]]:
        paths = {"certificate": self._tls.certificate, "key": self._tls.key, "client_ca": self._tls.client_ca}
        return [_stamp(path, f"tls.{name}") for name, path in paths.items() if path]


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)


def _stamp(path: str, field: str) -> tuple[int, int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise _unreadable(path, field, error.strerror or "it cannot be read") from None
    # The inode too: a link that is turned to another folder may keep the time.
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read_pair(certificate_path: str, key_path: str) -> tuple[bytes, bytes]:
    certificate_pem = _read(certificate_path, "tls.certificate")
    key_pem = _read(key_path, "tls.key")
    certificate = _parse_certificates(certificate_pem, certificate_path, "tls.certificate")[0]
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(key_path, "tls.key", "it is not a private key in PEM without a password") from None
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise _unreadable(key_path, "tls.key", f"it is not the key of the certificate in {certificate_path}")
    return certificate_pem, key_pem


def _read_ca(path: str, field: str) -> bytes:
    octets = _read(path, field)
    _parse_certificates(octets, path, field)
    return octets


def _parse_certificates(octets: bytes, path: str, field: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise _unreadable(path, field, "it does not hold a certificate in PEM") from None


def _read(path: str, field: str) -> bytes:
    if not path:
        raise _unreadable(path, field, "none is given, and the other file of the pair is")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, field, error.strerror or "it cannot be read") from None


def _unreadable(path: str, field: str, why: str) -> Fault:
    return Fault(Reason.FILE_UNREADABLE, f"{path or 'The path'}: {why}.", field=field, variables={"path": path})


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
