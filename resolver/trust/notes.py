"""Signed notes (C2SP signed-note) and checkpoints (C2SP tlog-checkpoint): the head of a journal's tree, signed.

Only Ed25519 signs notes here (signature type 0x01). Signatures by keys that are not asked for are passed over, so
that witnesses can add theirs.
"""

import binascii
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Final

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey, PublicKey

NOTE_BYTES: Final = 64 * 1024
"""No note is longer: a checkpoint with sixteen signatures and more."""

_ED25519: Final = b"\x01"
_DASH: Final = "\u2014 "
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class TreeHead(Struct, frozen=True):
    """Which journal (`origin`), how many entries, and the root of the tree over them."""

    origin: str
    size: int
    root: bytes


def origin_of(node: str) -> str:
    """Give the origin of a node's journal, which also names its key."""
    return "topnode/" + "".join(_spelled(character) for character in node)


def sign_checkpoint(origin: str, size: int, root: bytes, key: PrivateKey) -> bytes:
    """Write the signed head of a tree.

    Raises:
        Fault: KEY_INVALID, where the key is not an Ed25519 key, or this can be no key's name.
    """
    _check_name(origin)
    text = f"{origin}\n{size}\n{b64encode(root).decode()}\n"
    sig = b64encode(_key_hash(origin, key.public.raw) + key.sign(text.encode())).decode()
    return f"{text}\n{_DASH}{origin} {sig}\n".encode()


def open_checkpoint(note: bytes, verifier_key: str) -> TreeHead:
    """Read a checkpoint, signed by the key of its origin.

    Raises:
        Fault: RECEIPT_INVALID (field `checkpoint`), KEY_INVALID (the verifier key cannot be read).
    """
    name, public = read_verifier_key(verifier_key)
    text, signatures = _parted(note)
    if not _is_signed(text, signatures, name, public):
        raise _invalid("The checkpoint is not signed by the key that was given.")
    head = _tree_head(text)
    if head.origin != name:
        raise _invalid("The checkpoint is of another journal.")
    return head


def verifier_key(name: str, public: PublicKey) -> str:
    """Write what others verify a note's signatures with: "NAME+HASH+BASE64".

    Raises:
        Fault: KEY_INVALID, where the key is not an Ed25519 key.
    """
    _check_name(name)
    return f"{name}+{_key_hash(name, public.raw).hex()}+{b64encode(_ED25519 + public.raw).decode()}"


def read_verifier_key(text: str) -> tuple[str, PublicKey]:
    """Read a verifier key: whose it is, and the key.

    Raises:
        Fault: KEY_INVALID.
    """
    name, _, rest = text.partition("+")
    key_hash, _, encoded = rest.partition("+")
    _check_name(name)
    octets = _decoded(encoded)
    if octets is None or octets[:1] != _ED25519 or len(octets) != 33:
        raise Fault(Reason.KEY_INVALID, "The verifier key is not that of an Ed25519 key.")
    if _key_hash(name, octets[1:]).hex() != key_hash:
        raise Fault(Reason.KEY_INVALID, "The verifier key was altered: its hash does not fit.")
    return name, PublicKey.from_raw(octets[1:])


def _key_hash(name: str, raw: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:4]


def _check_name(name: str) -> None:
    if not name or not name.isprintable() or any(each.isspace() or each == "+" for each in name):
        raise Fault(Reason.KEY_INVALID, "A key's name has no space and no plus.")


def _spelled(character: str) -> str:
    """Leave what may stand in a name, and write the bytes of everything else in hexadecimal digits."""
    if character.isprintable() and not character.isspace() and character not in "+%":
        return character
    return "".join(f"%{octet:02X}" for octet in character.encode())


def _parted(note: bytes) -> tuple[bytes, list[str]]:
    """Part a note into its text and the lines of its signatures, at the last empty line."""
    text, gap, tail = note.rpartition(b"\n\n")
    if len(note) > NOTE_BYTES or not gap or not tail.endswith(b"\n"):
        raise _invalid("The checkpoint is not a signed note.")
    if _CONTROL.search(note):
        raise _invalid("A control character stands in the checkpoint.")
    try:
        text.decode()
        return text + b"\n", tail.decode().split("\n")[:-1]
    except UnicodeDecodeError:
        raise _invalid("The checkpoint is not UTF-8.") from None


def _is_signed(text: bytes, signatures: list[str], name: str, public: PublicKey) -> bool:
    """Verify the signature by this key; all that others signed is passed over."""
    key_hash, is_signed = _key_hash(name, public.raw), False
    for line in signatures:
        by, _, encoded = line.removeprefix(_DASH).partition(" ")
        sig = _decoded(encoded)
        if not line.startswith(_DASH) or not by or sig is None or len(sig) <= 4:
            raise _invalid("A line of the checkpoint is not a signature.")
        if by == name and sig[:4] == key_hash:
            if not public.verify(sig[4:], text):
                raise _invalid("The checkpoint's signature does not hold.")
            is_signed = True
    return is_signed


def _tree_head(text: bytes) -> TreeHead:
    origin, size, root, *extensions = text.decode().split("\n")[:-1] + [""] * 3
    octets = _decoded(root)
    if not origin or not _SIZE.fullmatch(size) or octets is None or len(octets) != 32 or "" in extensions[:-3]:
        raise _invalid("The checkpoint is not origin, size and root.")
    return TreeHead(origin, int(size), octets)


def _decoded(text: str) -> bytes | None:
    """Read base64 as it is written, and nothing else that would be read as the same."""
    try:
        octets = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return octets if b64encode(octets).decode() == text else None


def _invalid(detail: str) -> Fault:
    return Fault(Reason.RECEIPT_INVALID, detail, field="checkpoint")
