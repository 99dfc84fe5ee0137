"""A folder, opened: the LMDB environment in it, its databases, and the check of its format."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb

from resolver.errors import Fault, Reason
from resolver.private_files import FILE_MODE
from resolver.store import FORMAT
from resolver.store.embedded.border import DATA_FILE
from resolver.store.embedded.layout import FORMAT_ROW, HEAD_ROW, SECRET_ROW, TREE_HEAD_ROW, number

if TYPE_CHECKING:
    from lmdb import _Database

MAP_START: Final = 1 << 30
"""Bytes of address space for a new store; the writer doubles it whenever it is used up."""

_READERS_MAX: Final = 1_024
_NAMES: Final = (
    "records",
    "full",
    "long_keys",
    "prefixes",
    "nodes",
    "feed",
    "entries",
    "artefacts",
    "tiles",
    "answered",
    "answers",
    "nonces",
    "meta",
)


@dataclass(frozen=True, slots=True)
class Store:
    """An open environment and its databases (`resolver.store.embedded.layout` says what is in them)."""

    environment: lmdb.Environment
    records: "_Database"
    full: "_Database"
    long_keys: "_Database"
    prefixes: "_Database"
    nodes: "_Database"
    feed: "_Database"
    entries: "_Database"
    artefacts: "_Database"
    tiles: "_Database"
    answered: "_Database"
    answers: "_Database"
    nonces: "_Database"
    meta: "_Database"


def open_to_read(path: Path) -> Store:
    """Open a store that is there.

    Raises:
        Fault: STORE_MISSING, STORE_FORMAT_UNKNOWN.
        lmdb.Error, OSError: for the border.
    """
    if not is_there(path):
        raise _missing(path)
    return _checked(_environment(path, map_size=0, readonly=True), path)


def open_to_write(path: Path, *, map_size: int) -> Store:
    """Open a store, or make one where there is none. The caller holds the owner's lock.

    Raises:
        Fault: STORE_FORMAT_UNKNOWN.
        lmdb.Error, OSError: for the border.
    """
    # Where there is more in the file already, LMDB takes a map that holds it.
    environment = _environment(path, map_size=map_size, readonly=False)
    if environment.stat()["entries"] == 0:
        _make(environment, path)
    return _checked(environment, path)


def is_there(path: Path) -> bool:
    """Is there a store in this folder, or at least a file that should be one?"""
    try:
        return (path / DATA_FILE).stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def damaged(what: str) -> Fault:
    """Say what is wrong with a store that can be opened."""
    return Fault(Reason.STORE_UNAVAILABLE, f"The store is damaged: {what}.")


def torn(what: str) -> Fault:
    """Say what of the journal does not fit to the rest of the store."""
    return Fault(Reason.JOURNAL_DAMAGED, f"{what}.")


def sync_folder(path: Path) -> None:
    """Make durable which files are in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _environment(path: Path, *, map_size: int, readonly: bool) -> lmdb.Environment:
    environment = lmdb.open(
        str(path),
        map_size=map_size,
        readonly=readonly,
        create=False,
        mode=FILE_MODE,
        # And the one with the counts, which is not of the store's format.
        max_dbs=len(_NAMES) + 1,
        max_readers=_READERS_MAX,
        # Between reads one read transaction is kept reset: it holds a reader's slot and no pages. Renewing it takes
        # 0.25 us, where a new one takes 0.30 and the lock that all readers share.
        max_spare_txns=1,
    )
    environment.reader_check()
    return environment


def _make(environment: lmdb.Environment, path: Path) -> None:
    with environment.begin(write=True) as transaction:
        for name in _NAMES:
            environment.open_db(name.encode(), txn=transaction)
        meta = environment.open_db(b"meta", txn=transaction)
        transaction.put(FORMAT_ROW, number(FORMAT), db=meta)
        transaction.put(HEAD_ROW, number(0), db=meta)
        transaction.put(TREE_HEAD_ROW, b"", db=meta)
        transaction.put(SECRET_ROW, secrets.token_bytes(32), db=meta)
    sync_folder(path)
    sync_folder(path.absolute().parent)


def _checked(environment: lmdb.Environment, path: Path) -> Store:
    try:
        if environment.stat()["entries"] == 0:
            raise _missing(path)
        _check_format(environment, path)
        return Store(environment, *(environment.open_db(name.encode(), create=False) for name in _NAMES))
    except BaseException:
        environment.close()
        raise


def _check_format(environment: lmdb.Environment, path: Path) -> None:
    try:
        meta = environment.open_db(b"meta", create=False)
    except lmdb.NotFoundError:
        raise _unknown(path, "no number") from None
    with environment.begin() as transaction:
        row = transaction.get(FORMAT_ROW, db=meta)
    if row is None:
        raise _unknown(path, "no number")
    if row != number(FORMAT):
        raise _unknown(path, str(int.from_bytes(row, "big")))


def _missing(path: Path) -> Fault:
    return Fault(Reason.STORE_MISSING, f"There is no store in {path}.", variables={"path": str(path)})


def _unknown(path: Path, found: str) -> Fault:
    return Fault(
        Reason.STORE_FORMAT_UNKNOWN,
        f"The store in {path} has the format {found}; this version knows {FORMAT}.",
        variables={"path": str(path), "format": found, "known": str(FORMAT)},
    )
