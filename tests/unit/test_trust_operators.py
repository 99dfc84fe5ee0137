"""Operators: their keys out of the settings."""

from pathlib import Path

import pytest

from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators, OperatorSettings

LOCAL, ALICE, BOB = (PrivateKey.generate() for _ in range(3))


def written(folder: Path, name: str, key: PrivateKey) -> OperatorSettings:
    path = folder / f"{key.public.key_id}.pub"
    path.write_text(key.public.to_pem())
    return OperatorSettings(name=name, key=path)


def test_operators_are_found_by_their_keys(tmp_path: Path) -> None:
    settings = [written(tmp_path, "alice", ALICE), written(tmp_path, "alice", BOB)]
    operators = Operators.read(settings, LOCAL.public)
    assert [operators.name_of(each.public.key_id) for each in (LOCAL, ALICE, BOB)] == ["local", "alice", "alice"]
    assert operators.keys[ALICE.public.key_id] == ALICE.public
    assert operators.names == {"local", "alice"}
    assert operators.name_of(PrivateKey.generate().public.key_id) is None


def test_the_name_local_is_taken_also_where_nobody_is_local() -> None:
    assert Operators.read([]).names == {"local"}


@pytest.mark.parametrize("name", ["local", "", "a\nb", "x" * 129])
def test_names_that_no_operator_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(Fault) as caught:
        Operators.read([written(tmp_path, name, ALICE)])
    assert caught.value.field == "registry.operators.name"


def test_one_key_is_one_operators(tmp_path: Path) -> None:
    """Else nobody could say who signed."""
    for settings in ([("alice", ALICE), ("bob", ALICE)], [("alice", LOCAL)]):
        with pytest.raises(Fault) as caught:
            Operators.read([written(tmp_path, *each) for each in settings], LOCAL.public)
        assert caught.value.reason is Reason.SETTING_INVALID


def test_a_file_that_is_no_public_key_is_told(tmp_path: Path) -> None:
    ALICE.to_file(tmp_path / "private.pem")
    with pytest.raises(Fault) as caught:
        Operators.read([OperatorSettings(name="alice", key=tmp_path / "private.pem")])
    assert caught.value.reason is Reason.KEY_INVALID
    with pytest.raises(Fault) as caught:
        Operators.read([OperatorSettings(name="alice", key=tmp_path / "missing.pem")])
    assert caught.value.reason is Reason.FILE_UNREADABLE
