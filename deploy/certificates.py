"""A small certificate authority for the nodes of one network: `python deploy/certificates.py --help`.

    certificates.py init  FOLDER                                an authority: authority.pem, and authority.key
    certificates.py issue FOLDER NAME [--dns D] [--ip I]        a node's certificate: NAME.pem, and NAME.key
    certificates.py show  FOLDER                                what was issued, and until when

Every certificate is good for both sides of a connection: a node is the server of those who ask it and the client of
the nodes below and above it. Only the folder's owner can read keys. Keep authority.key where no node runs; a node
gets its own two files and authority.pem. It takes up replaced files by itself: issue anew before the end of the term.

It needs nothing but the `cryptography` that topnode brings along: /opt/topnode/bin/python runs it anywhere.
"""

import argparse
import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY: Final = "authority"
AUTHORITY_DAYS: Final = 3_650
NODE_DAYS: Final = 365

EARLIER: Final = timedelta(hours=1)
"""Certificates are good from so long ago, for machines whose clocks are behind."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class RefusedError(Exception):
    """What was asked for cannot be done; says why."""


def init(folder: Path, name: str, days: int = AUTHORITY_DAYS) -> None:
    """Make an authority in a folder, which is made too.

    Raises:
        RefusedError: there is one already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _file(folder, AUTHORITY, "key").exists() or _file(folder, AUTHORITY, "pem").exists():
        raise RefusedError(
            f"There is an authority in {folder} already; another one would not be trusted by its nodes."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _begun(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(is_authority=True), critical=True)
    _write(folder, AUTHORITY, key, builder.sign(key, SHA256()))


def issue(
    folder: Path, name: str, *, dns: Sequence[str] = (), ips: Sequence[str] = (), days: int = NODE_DAYS
) -> None:
    """Issue a certificate with a new key to a node, in the place of the one it may have.

    `dns` and `ips` are what callers may know it by; without any of them its name, as a DNS name.

    Raises:
        RefusedError: there is no authority in the folder, its term ends sooner, or a name is none.
    """
    if not _NAME.fullmatch(name) or name == AUTHORITY:
        raise RefusedError(f"{name!r} cannot be the name of a node's files: letters, digits, '.', '-', '_'.")
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = datetime.now(UTC) + timedelta(days=days)
    if end > authority.not_valid_after_utc:
        raise RefusedError(f"The authority ends on {authority.not_valid_after_utc:%Y-%m-%d}, before {days} days.")
    builder = _begun(subject, authority.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(is_authority=False), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(
        x509.SubjectAlternativeName(_names(dns or (() if ips else (name,)), ips)), critical=False
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    _write(folder, name, key, builder.sign(authority_key, SHA256()))


def issued(folder: Path) -> list[tuple[str, datetime, list[str]]]:
    """Give the name, the end of the term, and the names and addresses of each certificate in a folder, by name.

    Raises:
        RefusedError: there is no authority in it.
    """
    _authority(folder)
    found = []
    for path in sorted(folder.glob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            known_by = []
        else:
            known_by = names.get_values_for_type(x509.DNSName)
            known_by += [str(each) for each in names.get_values_for_type(x509.IPAddress)]
        found.append((path.stem, certificate.not_valid_after_utc, known_by))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="certificates.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("init", help="make an authority")
    made.add_argument("folder", type=Path)
    made.add_argument("--name", default="topnode authority", help="how it is called in certificates")
    made.add_argument("--days", type=_days, default=AUTHORITY_DAYS)
    given = commands.add_parser("issue", help="issue a certificate to a node, or anew")
    given.add_argument("folder", type=Path)
    given.add_argument("name", help="of the files, such as the node's identifier")
    given.add_argument("--dns", action="append", default=[], help="a name that callers know it by; may be repeated")
    given.add_argument("--ip", action="append", default=[], help="an address that callers know it by; likewise")
    given.add_argument("--days", type=_days, default=NODE_DAYS)
    shown = commands.add_parser("show", help="show what was issued")
    shown.add_argument("folder", type=Path)
    said = parser.parse_args(arguments)
    try:
        if said.command == "init":
            init(said.folder, said.name, said.days)
        elif said.command == "issue":
            issue(said.folder, said.name, dns=said.dns, ips=said.ip, days=said.days)
        else:
            for name, end, known_by in issued(said.folder):
                print(f"{name:20} until {end:%Y-%m-%d}  {' '.join(known_by)}")
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 100 * 365:
        raise argparse.ArgumentTypeError("a term is 1 day to 100 years")
    return days


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    """Begin a certificate with what all of them have."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(dns: Sequence[str], ips: Sequence[str]) -> list[x509.GeneralName]:
    try:
        addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ips]
        return [*(x509.DNSName(each) for each in dns), *addresses]
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(_file(folder, AUTHORITY, "pem").read_bytes())
        key = load_pem_private_key(_file(folder, AUTHORITY, "key").read_bytes(), password=None)
    except FileNotFoundError as error:
        raise RefusedError(
            f"There is no {error.filename}: `certificates.py init {folder}` makes an authority."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise RefusedError(f"{_file(folder, AUTHORITY, 'key')} was not made by this script.")
    return certificate, key


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Write both files, each whole or not at all; the key first, for a node looks at both when one is replaced."""
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _put(_file(folder, name, "key"), secret, 0o600)
    _put(_file(folder, name, "pem"), certificate.public_bytes(Encoding.PEM), 0o644)


def _put(path: Path, octets: bytes, mode: int) -> None:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _file(folder: Path, name: str, kind: str) -> Path:
    """Give the path of a file; names have points of their own, so this is no suffix that is exchanged."""
    return folder / f"{name}.{kind}"


if __name__ == "__main__":
    sys.exit(main())
