"""The keys in a node's data folder, and who its operators are."""

from pathlib import Path

import pytest

from registry.keyring import JOURNAL_FILE, OPERATOR_FILE, journal_key, kept_key, read_operators
from registry.settings import RegistrySettings
from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import LOCAL, OperatorSettings


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    made = kept_key(tmp_path / OPERATOR_FILE)
    assert (tmp_path / OPERATOR_FILE).stat().st_mode & 0o777 == 0o600
    assert kept_key(tmp_path / OPERATOR_FILE).public == made.public


def test_the_folder_of_a_key_is_made_with_it(tmp_path: Path) -> None:
    """A node whose store is a ring has no other reason to make its data folder."""
    made = kept_key(tmp_path / "new" / "data" / OPERATOR_FILE)
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(Fault) as caught:
        kept_key(tmp_path / "file" / "data" / OPERATOR_FILE)
    assert (caught.value.reason, "file/data" in caught.value.detail) == (Reason.FILE_UNREADABLE, True)
    assert kept_key(tmp_path / "new" / "data" / OPERATOR_FILE).public == made.public


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    kept_key(tmp_path / OPERATOR_FILE)
    (tmp_path / OPERATOR_FILE).chmod(0o644)
    with pytest.raises(Fault) as caught:
        read_operators(RegistrySettings(), tmp_path)
    assert caught.value.reason is Reason.FILE_UNREADABLE


def test_a_journal_key_that_is_named_is_never_made(tmp_path: Path) -> None:
    """A file that is missing is a mistake; without a name the key is made in the data folder."""
    named = RegistrySettings(key=tmp_path / "absent.pem")
    with pytest.raises(Fault) as caught:
        journal_key(named, tmp_path)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    assert list(tmp_path.iterdir()) == []
    made = journal_key(RegistrySettings(), tmp_path)
    assert journal_key(RegistrySettings(key=tmp_path / JOURNAL_FILE), tmp_path).public == made.public


def test_operators_are_those_of_the_settings_and_the_local_one(tmp_path: Path) -> None:
    """Reading makes no key: before it was made there is no local one."""
    key = PrivateKey.generate().public
    (tmp_path / "wang.pem").write_text(key.to_pem())
    settings = RegistrySettings(operators=(OperatorSettings(name="wang", key=tmp_path / "wang.pem"),))
    assert read_operators(settings, tmp_path).keys.keys() == {key.key_id}
    assert not (tmp_path / OPERATOR_FILE).exists()
    kept_key(tmp_path / OPERATOR_FILE)
    operators = read_operators(settings, tmp_path)
    local = PrivateKey.from_file(tmp_path / OPERATOR_FILE).public
    assert (operators.name_of(key.key_id), operators.name_of(local.key_id)) == ("wang", LOCAL)
    assert operators.names == {"wang", LOCAL}


@pytest.mark.parametrize("field", ["waiting", "waiting_size", "import_time"])
def test_bounds_are_above_nothing(field: str) -> None:
    with pytest.raises(Fault) as caught:
        RegistrySettings(**{field: 0})  # type: ignore[arg-type] # zero of whichever type
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)
