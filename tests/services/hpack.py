"""HPACK (RFC 7541) as far as a test needs it: writes literals only, reads all that comes without a dynamic table.

A reader says so beforehand, with SETTINGS_HEADER_TABLE_SIZE 0.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

Headers = tuple[tuple[bytes, bytes], ...]

_ENTRIES: Final = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|"
    ":status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|"
    "accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|"
    "authorization|cache-control|content-disposition|content-encoding|content-language|content-length|"
    "content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|"
    "proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
    "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
_STATIC: Final[Headers] = tuple(
    (name.encode(), value.encode()) for name, _, value in (entry.partition(" ") for entry in _ENTRIES.split("|"))
)
"""Appendix A: the entries from 1 on."""

_BITS: Final = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad677777777777777777777"
    "77878djde6f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmo"
    "lmnnllmlnmnnkmmmnmmnqqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq"
)
"""Appendix B: how many bits the code of each octet has, in digits of base 36. The code is canonical."""


class HpackError(Exception):
    """These octets are no header block that a reader without a dynamic table can read."""


def write(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers as literals that nobody keeps, without the Huffman code."""
    return b"".join(
        b"\x00" + _number(len(name), 7, 0) + name + _number(len(value), 7, 0) + value for name, value in headers
    )


def read(block: bytes) -> Headers:
    """Decode a header block.

    Raises:
        HpackError: it is damaged, or refers to a dynamic table.
    """
    try:
        return tuple(_Reader(block))
    except (IndexError, KeyError):
        raise HpackError(block.hex()) from None


def _number(number: int, bits: int, first: int) -> bytes:
    """Encode an integer (section 5.1) behind the bits that `first` has already."""
    largest = (1 << bits) - 1
    if number < largest:
        return bytes([first | number])
    octets = bytearray([first | largest])
    number -= largest
    while number >= 128:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes([*octets, number])


class _Reader:
    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        while self._at < len(self._block):
            first = self._block[self._at]
            if first & 0x80:
                yield _entry(self._number(7))
            elif first & 0xE0 == 0x20:
                self._number(5)  # the size of the table
            else:
                index = self._number(6 if first & 0x40 else 4)
                name = _entry(index)[0] if index else self._text()
                yield name, self._text()

    def _number(self, bits: int) -> int:
        largest = (1 << bits) - 1
        number = self._block[self._at] & largest
        self._at += 1
        if number < largest:
            return number
        for shift in count(0, 7):
            octet = self._block[self._at]
            self._at += 1
            number += (octet & 127) << shift
            if octet < 128:
                break
        return number

    def _text(self) -> bytes:
        is_coded = self._block[self._at] & 0x80
        length = self._number(7)
        octets = self._block[self._at : self._at + length]
        self._at += length
        if len(octets) < length:
            raise IndexError
        return _decoded(octets) if is_coded else octets


def _entry(index: int) -> tuple[bytes, bytes]:
    if not 0 < index <= len(_STATIC):
        raise IndexError
    return _STATIC[index - 1]


def _codes() -> dict[tuple[int, int], int]:
    """Give the octet of each code, by its length and the code itself."""
    codes = {}
    code, before = 0, 0
    for bits, octet in sorted((int(digit, 36), octet) for octet, digit in enumerate(_BITS)):
        code <<= bits - before
        codes[bits, code] = octet
        code, before = code + 1, bits
    return codes


_CODES: Final = _codes()


def _decoded(octets: bytes) -> bytes:
    """Decode what is in the Huffman code; what is left over at the end is padding of ones, less than an octet."""
    decoded = bytearray()
    bits, code = 0, 0
    for octet in octets:
        for shift in range(7, -1, -1):
            bits, code = bits + 1, code << 1 | octet >> shift & 1
            if (bits, code) in _CODES:
                decoded.append(_CODES[bits, code])
                bits, code = 0, 0
    if bits > 7 or code != (1 << bits) - 1:
        raise IndexError
    return bytes(decoded)
