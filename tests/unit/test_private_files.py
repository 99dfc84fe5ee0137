"""What is made on a machine with others on it: nothing that they may read."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nodes.loading.line_files import LineFile
from nodes.registering.receipt_files import keep_receipt
from nodes.registering.resuming import Reached, StateFile
from registry.keyring import journal_key, read_operators
from registry.settings import RegistrySettings
from resolver.clock import SetClock
from resolver.store.embedded import EmbeddedWriter, Owner, backup, restore
from resolver.trust.keys import PrivateKey
from resolver.trust.receipts import Receipt

CLOCK = SetClock()


def own(path: Path) -> None:
    EmbeddedWriter.open(path, owner=Owner.here("test", clock=CLOCK)).close()


def told(_done: int, _expected: int) -> None:
    """Nobody looks."""


def a_store(folder: Path) -> None:
    own(folder / "data")


def keys_of_a_node(folder: Path) -> None:
    own(folder / "data")
    journal_key(RegistrySettings(), folder / "data")
    read_operators(RegistrySettings(), folder / "data")


def a_key(folder: Path) -> None:
    PrivateKey.generate().to_file(folder / "key.pem")


def a_backup_that_is_put_back(folder: Path) -> None:
    own(folder / "data")
    backup(folder / "data", folder / "copy", clock=CLOCK, progress=told)
    restore(folder / "copy", folder / "again", progress=told)


def rejects(folder: Path) -> None:
    with closing(LineFile(folder / "rejects", "--rejects")) as file:
        file.begin()
        file.write([{"row": "a secret"}])


def receipts(folder: Path) -> None:
    receipt = Receipt(index=1, statement=b"", leaf_hash=b"", checkpoint=b"", proof=[])
    keep_receipt(folder / "receipts", receipt, b"an envelope")


def a_state(folder: Path) -> None:
    StateFile(folder / "state").write(Reached.begin("a source"))


@pytest.fixture
def careless() -> Iterator[None]:
    """Nothing is taken away from what a program asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize(
    "make", [a_store, keys_of_a_node, a_key, a_backup_that_is_put_back, rejects, receipts, a_state]
)
def test_only_its_owner_may_read_what_is_made(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    made = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert made
    for path, mode in made.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path
