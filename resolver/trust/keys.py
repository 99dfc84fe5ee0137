"""Keys: what signs and what verifies, each bound to its one algorithm. What is signed is elsewhere.

The algorithm is the key's, never the message's: it stands in the SubjectPublicKeyInfo from which a PublicKey is made.
One key has one encoding and so one name: whatever does not come out again as it was read is refused.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from resolver.errors import Fault, Reason

KEY_FILE_BYTES: Final = 64 * 1024
"""No key's file is larger."""


class Algorithm(Enum):
    """What a key signs by.

    P-256 signatures are ECDSA with SHA-256, in DER. Of each there is a second one, with the negative s, that anybody
    can make; it is taken too, because many libraries make either. So nothing may rely on there being one signature.
    ML-DSA-65 is pure, with an empty context (FIPS 204).
    """

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    ML_DSA_65 = "ml-dsa-65"


_Public = Ed25519PublicKey | EllipticCurvePublicKey | MLDSA65PublicKey
_Private = Ed25519PrivateKey | EllipticCurvePrivateKey | MLDSA65PrivateKey

_ECDSA: Final = ECDSA(SHA256())

_FIELD: Final = 2**255 - 19
"""The prime of Ed25519's coordinates."""

_SMALL_ORDER: Final = frozenset(
    (
        0,
        1,
        _FIELD - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    )
)
"""The y of Ed25519's points whose order divides 8: anybody can sign for such a key."""


class PublicKey:
    """Verifies. Equal where the key is the same.

    `spki` is the SubjectPublicKeyInfo (DER), `key_id` its SHA-256 in hexadecimal digits.
    """

    __slots__ = ("_key", "algorithm", "key_id", "spki")

    def __init__(self, key: _Public) -> None:
        self._key = key
        self.algorithm = _algorithm_of(key)
        self.spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(self.spki).hexdigest()

    @classmethod
    def from_spki(cls, der: bytes) -> Self:
        """Read a key of one of the known algorithms, in its one encoding.

        Raises:
            Fault: KEY_INVALID.
        """
        key = cls(_read_public(der))
        if key.spki != der:
            raise Fault(Reason.KEY_INVALID, "The key is not encoded as DER has it: it would have a second name.")
        return key

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a PEM file ("PUBLIC KEY").

        Raises:
            Fault: FILE_UNREADABLE, KEY_INVALID.
        """
        pem = _read_file(path)
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise Fault(Reason.KEY_INVALID, f"{path} is not the PEM file of a public key.") from None
        return cls(_checked(key))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Tell whether the signature is this key's, over exactly this message."""
        key = self._key
        try:
            if isinstance(key, EllipticCurvePublicKey):
                key.verify(signature, message, _ECDSA)
            else:
                key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> str:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def raw(self) -> bytes:
        """The 32 bytes of an Ed25519 key (RFC 8032); KEY_INVALID for the others."""
        if not isinstance(self._key, Ed25519PublicKey):
            raise Fault(Reason.KEY_INVALID, "An Ed25519 key is needed here.")
        return self._key.public_bytes_raw()

    @classmethod
    def from_raw(cls, octets: bytes) -> Self:
        """Read the 32 bytes of an Ed25519 key.

        Raises:
            Fault: KEY_INVALID.
        """
        try:
            return cls(_checked(Ed25519PublicKey.from_public_bytes(octets)))
        except ValueError:
            raise Fault(Reason.KEY_INVALID, "An Ed25519 key has 32 bytes.") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.spki == self.spki

    def __hash__(self) -> int:
        return hash(self.spki)

    def __repr__(self) -> str:
        return f"PublicKey({self.algorithm.value} {self.key_id})"


class PrivateKey:
    """Signs. Its secret shows in no text of it."""

    __slots__ = ("_key", "public")

    def __init__(self, key: _Private) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.ED25519) -> Self:
        """Make a key.

        Raises:
            Fault: KEY_INVALID, where the installed OpenSSL is too old for ML-DSA-65.
        """
        try:
            return cls(_MAKERS[algorithm]())
        except UnsupportedAlgorithm:
            raise Fault(Reason.KEY_INVALID, f"This machine's OpenSSL has no {algorithm.value}.") from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a PEM file ("PRIVATE KEY", PKCS #8, not encrypted) that nobody but its owner may read.

        Raises:
            Fault: FILE_UNREADABLE, KEY_INVALID.
        """
        return cls.from_pem(_read_file(path, is_secret=True), name=str(path))

    @classmethod
    def from_pem(cls, pem: bytes, *, name: str = "This") -> Self:
        """Read PKCS #8 in PEM; `name` is what an error calls it.

        Raises:
            Fault: KEY_INVALID.
        """
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Fault(Reason.KEY_INVALID, f"{name} is not an unencrypted private key in PEM.") from None
        _checked(key.public_key())
        if not isinstance(key, _Private):
            raise Fault(Reason.KEY_INVALID)
        return cls(key)

    def to_file(self, path: Path) -> None:
        """Write a PEM file that only its owner may read: whole or not at all, and never over another file.

        Raises:
            Fault: FILE_UNREADABLE, also where a file of this name is there.
        """
        try:
            _write_secret(path, self.to_pem())
        except FileExistsError:
            raise Fault(Reason.FILE_UNREADABLE, f"{path} is there already; no key is written over it.") from None
        except OSError as error:
            raise Fault(Reason.FILE_UNREADABLE, f"{path} cannot be written: {error.strerror}.") from error

    def to_pem(self) -> bytes:
        """Give the secret itself, as PKCS #8 in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        key = self._key
        if isinstance(key, EllipticCurvePrivateKey):
            return key.sign(message, _ECDSA)
        return key.sign(message)

    def __repr__(self) -> str:
        return f"PrivateKey(of {self.public!r})"


_MAKERS: Final[Mapping[Algorithm, Callable[[], _Private]]] = {
    Algorithm.ED25519: Ed25519PrivateKey.generate,
    Algorithm.ECDSA_P256: partial(generate_private_key, SECP256R1()),
    Algorithm.ML_DSA_65: MLDSA65PrivateKey.generate,
}


def _algorithm_of(key: _Public) -> Algorithm:
    if isinstance(key, Ed25519PublicKey):
        return Algorithm.ED25519
    return Algorithm.ECDSA_P256 if isinstance(key, EllipticCurvePublicKey) else Algorithm.ML_DSA_65


def _read_public(der: bytes) -> _Public:
    try:
        return _checked(load_der_public_key(der))
    except (ValueError, UnsupportedAlgorithm):
        raise Fault(Reason.KEY_INVALID, "This is not the SubjectPublicKeyInfo of a key, in DER.") from None


def _checked(key: object) -> _Public:
    """Check that a key is of a known algorithm, and that only its owner can sign with it."""
    if isinstance(key, EllipticCurvePublicKey) and not isinstance(key.curve, SECP256R1):
        raise Fault(Reason.KEY_INVALID, f"Of elliptic curves only P-256 is taken, not {key.curve.name}.")
    if isinstance(key, Ed25519PublicKey) and _is_weak(key.public_bytes_raw()):
        raise Fault(Reason.KEY_INVALID, "The key is a point for which anybody could sign.")
    if not isinstance(key, _Public):
        raise Fault(Reason.KEY_INVALID, "The key is of another algorithm.")
    return key


def _is_weak(raw: bytes) -> bool:
    """Has this point a small order, or a y that could be written as a smaller number too?"""
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    return y >= _FIELD or y in _SMALL_ORDER


def _read_file(path: Path, *, is_secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            if is_secret and os.fstat(file.fileno()).st_mode & 0o077:
                raise Fault(
                    Reason.FILE_UNREADABLE,
                    f"Others than its owner have rights on {path}: a private key that others may know proves nothing"
                    " (chmod 600).",
                )
            return file.read(KEY_FILE_BYTES)
    except OSError as error:
        raise Fault(Reason.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}.") from error


def _write_secret(path: Path, octets: bytes) -> None:
    """Write beside it first: linking makes the name appear with all the bytes, and fails where there is one."""
    # mkstemp makes files that only their owner may read and write.
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        os.link(beside, path)
    finally:
        with suppress(FileNotFoundError):
            Path(beside).unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
