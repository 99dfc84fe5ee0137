"""Copies of a store: taken while it is in use, and checked before they are put back.

A backup is a folder with the compacted store and a manifest. Every file appears under its name only when all of it
is there and durable, the manifest last: a copy that was interrupted is no backup, and half a store is none.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import lmdb
import msgspec
from msgspec import Struct

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.private_files import FOLDER_MODE, open_private
from resolver.store import FORMAT
from resolver.store.embedded.border import DATA_FILE, Border
from resolver.store.embedded.layout import HEAD_ROW, number
from resolver.store.embedded.opening import open_to_read, sync_folder

MANIFEST_FILE: Final = "manifest.json"

_PART: Final = ".part"
_CHUNK: Final = 1 << 20

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes that there will be; those of a backup are an estimate until the end."""


class BackupManifest(Struct, frozen=True, kw_only=True):
    """What a backup holds: format, journal index, rows (deleted identifiers too), and the store's size and checksum.

    `created_at` is Unix time in seconds. New fields have a default, so that what an older version wrote can be read.
    """

    format: int
    index: int
    identifiers: int
    prefixes: int
    bytes: int
    sha256: str
    created_at: int
    entries: int = 0


def backup(source: Path, target: Path, *, clock: Clock, progress: Progress) -> BackupManifest:
    """Copy the store in `source`, which others may read and write meanwhile, into a new or empty folder.

    Not for a process that has the store open itself.

    Raises:
        Fault: STORE_EXISTS when there is something in the target; STORE_MISSING, STORE_FORMAT_UNKNOWN, STORE_FULL,
            FILE_UNREADABLE, STORE_UNAVAILABLE.
    """
    with Border(source):
        environment = open_to_read(source).environment
    with Border(target), closing(environment), _empty_folder(target):
        pages = environment.info()["last_pgno"] + 1
        with _complete(target / DATA_FILE) as file, _compacted(environment) as stream:
            size, digest = _pour(stream, file, progress, pages * environment.stat()["psize"])
        with _gone_on_failure(target / DATA_FILE), _complete(target / MANIFEST_FILE) as file:
            manifest = _manifest(target / DATA_FILE, size, digest, clock)
            file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        progress(size, size)
    return manifest


def restore(source: Path, target: Path, *, progress: Progress) -> BackupManifest:
    """Put the store of a backup into a new or empty folder.

    Raises:
        Fault: STORE_EXISTS when there is something in the target; BACKUP_DAMAGED when the backup is not what it was
            when it was made; STORE_FORMAT_UNKNOWN, STORE_FULL, FILE_UNREADABLE, STORE_UNAVAILABLE.
    """
    with Border(source):
        manifest = _read_manifest(source)
        stream = _open_copy(source)
    with Border(target), stream, _empty_folder(target), _complete(target / DATA_FILE) as file:
        size, digest = _pour(stream, file, progress, manifest.bytes)
        if (size, digest) != (manifest.bytes, manifest.sha256):
            raise _damaged(source, f"{DATA_FILE} is not what the manifest says")
    return manifest


def _manifest(copy: Path, size: int, digest: str, clock: Clock) -> BackupManifest:
    """Describe a copy by what is in it, which also shows that it can be opened."""
    with closing(lmdb.open(str(copy), map_size=0, subdir=False, readonly=True, lock=False, max_dbs=4)) as environment:
        meta, records, prefixes, entries = (
            environment.open_db(name, create=False) for name in (b"meta", b"records", b"prefixes", b"entries")
        )
        with environment.begin() as transaction:
            return BackupManifest(
                format=FORMAT,
                index=int.from_bytes(transaction.get(HEAD_ROW, number(0), meta), "big"),
                identifiers=transaction.stat(records)["entries"],
                prefixes=transaction.stat(prefixes)["entries"],
                bytes=size,
                sha256=digest,
                created_at=int(clock.wall()),
                entries=transaction.stat(entries)["entries"],
            )


def _read_manifest(source: Path) -> BackupManifest:
    try:
        manifest = msgspec.json.decode((source / MANIFEST_FILE).read_bytes(), type=BackupManifest)
    except (FileNotFoundError, NotADirectoryError):
        raise _damaged(source, "it has no manifest, so it is not a finished backup") from None
    except msgspec.DecodeError:
        raise _damaged(source, "its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise Fault(
            Reason.STORE_FORMAT_UNKNOWN,
            f"The backup in {source} has the format {manifest.format}; this version knows {FORMAT}.",
            variables={"path": str(source), "format": str(manifest.format), "known": str(FORMAT)},
        )
    return manifest


def _open_copy(source: Path) -> BinaryIO:
    try:
        return (source / DATA_FILE).open("rb")
    except FileNotFoundError:
        raise _damaged(source, f"it has no {DATA_FILE}") from None


@contextmanager
def _compacted(environment: lmdb.Environment) -> Iterator[BinaryIO]:
    """Give the store's present state as a stream, which LMDB writes in a thread of its own."""
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as thread:
        copying = thread.submit(_copy, environment, writing)
        with open(reading, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
            yield stream
        copying.result()


def _copy(environment: lmdb.Environment, descriptor: int) -> None:
    try:
        environment.copyfd(descriptor, compact=True)
    finally:
        os.close(descriptor)


def _pour(stream: BinaryIO, file: BinaryIO, progress: Progress, expected: int) -> tuple[int, str]:
    """Copy a stream; give its size and its SHA-256."""
    digest, done = sha256(), 0
    while chunk := stream.read(_CHUNK):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        progress(done, max(done, expected))
    return done, digest.hexdigest()


@contextmanager
def _empty_folder(path: Path) -> Iterator[None]:
    """Make a folder or take an empty one; where something fails, what was made goes away again."""
    is_new = not path.exists()
    path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    if any(not found.name.endswith(_PART) for found in path.iterdir()):
        raise _occupied(path)
    try:
        yield
        sync_folder(path)
        sync_folder(path.absolute().parent)
    except BaseException:
        if is_new:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _complete(path: Path) -> Iterator[BinaryIO]:
    """Give a file to be written, which gets its name when all of it is durable, and is removed where that fails."""
    part = path.with_name(path.name + _PART)
    with _gone_on_failure(part):
        with os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            raise _occupied(path.parent)
        part.rename(path)


@contextmanager
def _gone_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _occupied(path: Path) -> Fault:
    return Fault(Reason.STORE_EXISTS, f"There is something in {path} already.", variables={"path": str(path)})


def _damaged(source: Path, what: str) -> Fault:
    return Fault(
        Reason.BACKUP_DAMAGED, f"The backup in {source} is not whole: {what}.", variables={"path": str(source)}
    )
