"""Page tokens: where a listing goes on, sealed so that nobody can read, forge or move them to another listing.

token = base64url(version byte, AES-SIV(position)), bound to version, flag and prefix (RFC 5297). SIV and not GCM:
it needs no nonce, so no number of tokens under one key makes it unsafe, and an equal token only says what its holder
knows already: that the page begins at the same place.
"""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from resolver.errors import Fault, Reason

TOKEN_CHARACTERS: Final = 4_096
"""No token is longer: a position is a key, and a key has at most the bytes of an identifier."""

_VERSION: Final = b"\x01"
_PURPOSE: Final = b"topnode page tokens, version 1"


class PageTokens:
    """Seals positions under a key that all processes of a node derive from the store's secret."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(HKDF(SHA256(), 64, salt=None, info=_PURPOSE).derive(secret))

    def seal(self, position: bytes, prefix: bytes, *, derived: bool) -> str:
        """Make the token for a position (not empty) in the listing of a folded prefix."""
        sealed = self._cipher.encrypt(position, _listing(prefix, derived=derived))
        return urlsafe_b64encode(_VERSION + sealed).rstrip(b"=").decode()

    def open(self, token: str, prefix: bytes, *, derived: bool) -> bytes:
        """Give the position back.

        Raises:
            Fault: PAGE_TOKEN_INVALID with the field `page_token`.
        """
        try:
            octets = _decode(token)
            if octets[:1] != _VERSION:
                raise ValueError
            return self._cipher.decrypt(octets[1:], _listing(prefix, derived=derived))
        except (ValueError, InvalidTag):
            raise Fault(Reason.PAGE_TOKEN_INVALID, field="page_token") from None


def _listing(prefix: bytes, *, derived: bool) -> list[bytes]:
    return [_VERSION, b"derived" if derived else b"exact", prefix]


def _decode(token: str) -> bytes:
    """Read base64url without padding. A text that is not exactly what was given out is a ValueError."""
    if len(token) > TOKEN_CHARACTERS:
        raise ValueError
    try:
        octets = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except NotBase64:
        raise ValueError from None
    # The last character has bits that decoding drops.
    if urlsafe_b64encode(octets).rstrip(b"=").decode() != token:
        raise ValueError
    return octets
