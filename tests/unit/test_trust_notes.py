"""Signed notes: what others sign and verify, and where a journal's name comes from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import Fault, Reason
from resolver.trust.keys import Algorithm, PrivateKey
from resolver.trust.notes import (
    TreeHead,
    open_checkpoint,
    origin_of,
    read_verifier_key,
    sign_checkpoint,
    verifier_key,
)

KEY = PrivateKey.generate()
nodes = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40)


def test_the_key_of_gos_checksum_database_is_read() -> None:
    """A verifier key that others made."""
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    name, public = read_verifier_key(text)
    assert name == "sum.golang.org"
    assert verifier_key(name, public) == text


@given(nodes, st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_comes_back_from_its_note(node: str, size: int, root: bytes) -> None:
    """Whatever a node is called: its journal has a name that a note can carry."""
    origin = origin_of(node)
    note = sign_checkpoint(origin, size, root, KEY)
    assert open_checkpoint(note, verifier_key(origin, KEY.public)) == TreeHead(origin, size, root)


@given(nodes, nodes)
def test_nodes_have_different_origins(a: str, b: str) -> None:
    assert (origin_of(a) == origin_of(b)) is (a == b)


def test_plain_names_stay_as_they_are() -> None:
    assert origin_of("88.111") == "topnode/88.111"
    assert origin_of("顶级节点") == "topnode/顶级节点"
    assert origin_of("a b+c%") == "topnode/a%20b%2Bc%25"


@given(st.binary(max_size=200))
def test_any_bytes_are_no_checkpoint(note: bytes) -> None:
    with pytest.raises(Fault) as caught:
        open_checkpoint(note, verifier_key("a", KEY.public))
    assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, "checkpoint")


@given(st.data())
def test_an_altered_checkpoint_is_refused(data: st.DataObject) -> None:
    note = bytearray(sign_checkpoint("topnode/top", 10_000_000, bytes(32), KEY))
    at = data.draw(st.integers(0, len(note) - 1))
    note[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Fault) as caught:
        open_checkpoint(bytes(note), verifier_key("topnode/top", KEY.public))
    assert caught.value.reason is Reason.RECEIPT_INVALID


def test_a_checkpoint_may_have_many_signatures_but_not_endlessly_many() -> None:
    note = sign_checkpoint("topnode/top", 1, bytes(32), KEY)
    others = "".join(f"\u2014 witness{number} {'A' * 96}\n" for number in range(16)).encode()
    assert open_checkpoint(note + others, verifier_key("topnode/top", KEY.public)).size == 1
    with pytest.raises(Fault):
        open_checkpoint(note + others * 100, verifier_key("topnode/top", KEY.public))


@pytest.mark.parametrize("algorithm", [Algorithm.ECDSA_P256, Algorithm.ML_DSA_65])
def test_only_ed25519_signs_notes(algorithm: Algorithm) -> None:
    key = PrivateKey.generate(algorithm)
    with pytest.raises(Fault) as caught:
        sign_checkpoint("topnode/top", 1, bytes(32), key)
    assert caught.value.reason is Reason.KEY_INVALID


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u3000b"])
def test_what_can_be_no_name_signs_nothing(name: str) -> None:
    with pytest.raises(Fault):
        sign_checkpoint(name, 1, bytes(32), KEY)
    with pytest.raises(Fault):
        verifier_key(name, KEY.public)
