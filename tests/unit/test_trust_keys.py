"""Keys in files, and what they sign."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.errors import Fault, Reason
from resolver.trust.keys import Algorithm, PrivateKey, PublicKey

MADE = {algorithm: PrivateKey.generate(algorithm) for algorithm in Algorithm}
algorithms = st.sampled_from(list(Algorithm))


@settings(deadline=None, max_examples=60)
@given(algorithms, st.binary(max_size=200), st.binary(max_size=200))
def test_a_signature_holds_for_its_message_and_key_only(algorithm: Algorithm, message: bytes, other: bytes) -> None:
    key = MADE[algorithm]
    signature = key.sign(message)
    assert key.public.verify(signature, message)
    assert key.public.verify(signature, other) is (other == message)
    assert not any(MADE[each].public.verify(signature, message) for each in Algorithm if each is not algorithm)


@settings(deadline=None, max_examples=100)
@given(algorithms, st.binary(max_size=4_000))
def test_any_bytes_are_a_signature_that_does_not_hold(algorithm: Algorithm, signature: bytes) -> None:
    """Whatever comes is answered with no, and never with an exception."""
    assert not MADE[algorithm].public.verify(signature, b"message")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_key(der: bytes) -> None:
    with pytest.raises(Fault) as caught:
        PublicKey.from_spki(der)
    assert caught.value.reason is Reason.KEY_INVALID


@settings(deadline=None, max_examples=200)
@given(algorithms, st.data())
def test_an_altered_key_is_refused_or_another_one(algorithm: Algorithm, data: st.DataObject) -> None:
    """No second encoding is taken for the same key: what is read is written the same."""
    spki = bytearray(MADE[algorithm].public.spki)
    at = data.draw(st.integers(0, len(spki) - 1))
    spki[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = PublicKey.from_spki(bytes(spki))
    except Fault as fault:
        is_told = fault.reason is Reason.KEY_INVALID
        assert is_told
    else:
        assert read.spki == bytes(spki)
        assert read.key_id != MADE[algorithm].public.key_id


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_comes_back_from_its_file(tmp_path: Path, algorithm: Algorithm) -> None:
    path = tmp_path / "key.pem"
    key = MADE[algorithm]
    key.to_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]
    read = PrivateKey.from_file(path)
    assert read.public == key.public
    assert read.public.algorithm is algorithm
    public = tmp_path / "key.pub"
    public.write_text(key.public.to_pem())
    assert PublicKey.from_file(public) == key.public


def test_no_umask_opens_a_key_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        PrivateKey.generate().to_file(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_no_key_is_written_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("somebody else's")
    with pytest.raises(Fault) as caught:
        PrivateKey.generate().to_file(path)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    assert path.read_text() == "somebody else's"
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]


def test_where_there_is_no_folder_no_key_is_written(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        PrivateKey.generate().to_file(tmp_path / "missing" / "key.pem")
    assert caught.value.reason is Reason.FILE_UNREADABLE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_private_key_that_others_have_rights_on_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    PrivateKey.generate().to_file(path)
    path.chmod(mode)
    with pytest.raises(Fault) as caught:
        PrivateKey.from_file(path)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    assert "chmod 600" in caught.value.detail
    path.chmod(0o400)
    assert PrivateKey.from_file(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for read in (PrivateKey.from_file, PublicKey.from_file):
        for path in (tmp_path / "missing.pem", tmp_path):
            with pytest.raises(Fault) as caught:
                read(path)
            assert caught.value.reason is Reason.FILE_UNREADABLE


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    """Nonsense, an encrypted key, and each kind of key in the place of the other."""
    key = PrivateKey.generate()
    texts = {
        "nonsense": ("hello", "hello"),
        "swapped": (key.public.to_pem(), key.to_pem().decode()),
        "encrypted": ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", ""),
    }
    for name, (private, public) in texts.items():
        for read, text in ((PrivateKey.from_file, private), (PublicKey.from_file, public)):
            path = tmp_path / name
            path.write_text(text)
            path.chmod(0o600)
            with pytest.raises(Fault) as caught:
                read(path)
            assert caught.value.reason is Reason.KEY_INVALID


def test_no_text_of_a_key_shows_its_secret() -> None:
    for key in MADE.values():
        secret = key.to_pem().decode().splitlines()[1]
        assert secret not in f"{key} {key!r}"
        assert key.public.key_id in repr(key)


def test_only_ed25519_keys_have_raw_bytes() -> None:
    raw = MADE[Algorithm.ED25519].public.raw
    assert PublicKey.from_raw(raw) == MADE[Algorithm.ED25519].public
    with pytest.raises(Fault):
        assert MADE[Algorithm.ECDSA_P256].public.raw
    for octets in (raw[:-1], raw + b"\x00", bytes(32)):
        with pytest.raises(Fault) as caught:
            PublicKey.from_raw(octets)
        assert caught.value.reason is Reason.KEY_INVALID
