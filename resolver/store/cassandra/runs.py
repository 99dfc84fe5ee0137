"""Run files: encoded rows on their way into SSTables, written as fast as Python can join bytes.

A load that goes around the servers writes here what each of its entries would write, in the order of the journal.
`deploy/cassandra/bulk` reads the files, sorts the rows and makes SSTables of them; its `RunFile.java` is the other
side of this module.

    file   = magic block*                                     numbers are big-endian
    block  = octets:u32 crc:u32 index:u64 rows:u32 prefixes:u32 payload
    payload = tail:u8+bytes                                   the version, which ends every body of the block
              (length:u16 rows:u32 bytes) * prefixes          how many of the rows lie below which folded prefix
              length:u16 * rows                               of the keys
              length:u32 * rows                               of the public bodies
              length:u32 * rows                               of the full bodies, 0 where there is none
              new:u8 * rows                                   1: nothing stood there when the write was planned
              keys, public bodies, full bodies, one behind the other

`octets` counts the payload; the CRC-32 is of everything behind it. Blocks lie in the order of their indices, and a
file that was cut off ends inside a block: whoever opens the folder to write goes on in front of that.
"""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self
from zlib import crc32

from resolver import wire
from resolver.errors import Fault, Reason
from resolver.store import Write

MAGIC: Final = b"TNRUNS\x00\x01"

FILE_BYTES: Final = 1 << 30
"""A file that has grown to this is closed, and the next one begun."""

BLOCK_ROWS: Final = 8_192
"""Rows in a block at most: what a reader holds at once."""

_SUFFIX: Final = ".run"
_BLOCK: Final = struct.Struct(">IIQII")
_CHECKED_FROM: Final = 8
_COUNTED: Final = struct.Struct(">HI")


class RunWriter:
    """Writes run files into a folder that nobody else writes. Not for several threads.

    Where there are files in it already, everything with an index above `through` is cut off, and so is a block that
    is not whole: what was written for entries that were never committed must not become rows.
    """

    def __init__(self, folder: Path, *, through: int = 0, file_bytes: int = FILE_BYTES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._below: Counter[bytes] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        for path in run_files(folder):
            self._keep(path, through)
        self._number = max((int(path.stem) for path in run_files(folder)), default=0)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def below(self) -> Mapping[bytes, int]:
        """How many rows there are below each folded prefix; a key that was written twice counts twice."""
        return self._below

    @property
    def rows(self) -> int:
        return self._below.total()

    def add(self, index: int, writes: Sequence[Write]) -> None:
        """Add what the entry with this index writes; indices go up.

        Raises:
            OSError: the disk is full, or fails.
        """
        for first in range(0, len(writes), BLOCK_ROWS):
            block, below = _block(index, writes[first : first + BLOCK_ROWS])
            self._room().write(block)
            self._below.update(below)

    def sync(self) -> None:
        """Return when everything that was added is on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync, and end the last file."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    def _room(self) -> BinaryIO:
        """Give a file that can still grow."""
        if self._file is not None and self._file.tell() >= self._file_bytes:
            self.close()
        if self._file is None:
            self._number += 1
            self._file = (self._folder / f"{self._number:06}{_SUFFIX}").open("xb")
            self._file.write(MAGIC)
        return self._file

    def _keep(self, path: Path, through: int) -> None:
        """Keep the whole blocks at the beginning of a file that belong to entries up to this one."""
        with path.open("r+b") as file:
            end = len(MAGIC)
            for index, below, end_of_block in _headers(file):
                if index > through:
                    break
                self._below.update(below)
                end = end_of_block
            file.truncate(end)
        if end == len(MAGIC):
            path.unlink()


def run_files(folder: Path) -> list[Path]:
    """Give the run files of a folder in their order."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def rows_through(folder: Path, index: int) -> int:
    """Count the rows of entries up to this index; nothing is changed.

    Raises:
        Fault: FILE_UNREADABLE when something there is no run file.
    """
    rows = 0
    for path in run_files(folder):
        with path.open("rb") as file:
            rows += sum(below.total() for each, below, _ in _headers(file) if each <= index)
    return rows


def last_key(folder: Path) -> bytes:
    """Give the key of the row that was written last, nothing where there is none.

    Raises:
        Fault: as `rows_through`.
    """
    for path in reversed(run_files(folder)):
        with path.open("rb") as file:
            start = len(MAGIC)
            for _, _, end in _headers(file):
                start, block = end, start
            if start > len(MAGIC):
                file.seek(block)
                return _last_key(file)
    return b""


def _last_key(file: BinaryIO) -> bytes:
    """Read the last key of the block that begins here."""
    _octets, _crc, _index, rows, prefixes = _BLOCK.unpack(file.read(_BLOCK.size))
    file.seek(file.read(1)[0], os.SEEK_CUR)
    for _ in range(prefixes):
        length, _count = _COUNTED.unpack(file.read(_COUNTED.size))
        file.seek(length, os.SEEK_CUR)
    lengths = struct.unpack(f">{rows}H", file.read(2 * rows))
    # Between the lengths of the keys and the keys: lengths of two bodies, and whether the row is new.
    file.seek(rows * 9 + sum(lengths[:-1]), os.SEEK_CUR)
    return file.read(lengths[-1])


def _block(index: int, writes: Sequence[Write]) -> tuple[bytes, Counter[bytes]]:
    keys = [write.key for write in writes]
    publics = [write.public for write in writes]
    fulls = [write.full for write in writes]
    below = Counter([key.partition(b"/")[0] for key in keys])
    tail, rows = wire.version_field(index), len(keys)
    payload = b"".join(
        (
            bytes((len(tail),)),
            tail,
            *[_COUNTED.pack(len(prefix), count) + prefix for prefix, count in below.items()],
            struct.pack(f">{rows}H", *map(len, keys)),
            struct.pack(f">{rows}I", *map(len, publics)),
            struct.pack(f">{rows}I", *map(len, fulls)),
            bytes([write.is_new for write in writes]),
            *keys,
            *publics,
            *fulls,
        )
    )
    header = _BLOCK.pack(len(payload), 0, index, rows, len(below))
    checked = crc32(payload, crc32(header[_CHECKED_FROM:]))
    return _BLOCK.pack(len(payload), checked, index, rows, len(below)) + payload, below


def _headers(file: BinaryIO) -> Iterator[tuple[int, Counter[bytes], int]]:
    """Go through the whole blocks at the beginning of a file: index, rows below each prefix, and where each ends.

    Raises:
        Fault: FILE_UNREADABLE when it is no run file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC[: min(size, len(MAGIC))]:
        raise Fault(Reason.FILE_UNREADABLE, f"{file.name} is no run file.", variables={"path": str(file.name)})
    while len(header := file.read(_BLOCK.size)) == _BLOCK.size:
        octets, _crc, index, _rows, prefixes = _BLOCK.unpack(header)
        start = file.tell()
        if start + octets > size:
            return
        file.seek(file.read(1)[0], os.SEEK_CUR)
        below: Counter[bytes] = Counter()
        for _ in range(prefixes):
            length, count = _COUNTED.unpack(file.read(_COUNTED.size))
            below[file.read(length)] = count
        yield index, below, start + octets
        file.seek(start + octets)
