"""Inputs read piece by piece, each ready to be a chunk; and inputs that change meanwhile."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from nodes.loading.inputs import Input
from nodes.loading.loads import Manner, body_of
from nodes.loading.pieces import read_pieces
from registry.chunks import NO_CHUNKS, Chunk
from registry.parts import BOUNDS
from registry.rows import RowFormat
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint

COUNT = 2 * BOUNDS.lines + 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Rows of three pieces; one row of the second cannot be read."""
    path = tmp_path / "rows.ndjson"
    with path.open("w") as rows:
        for number in range(COUNT):
            said = {"identifier": f"88.1/{number}", "values": []}
            rows.write("{\n" if number == BOUNDS.lines + 3 else json.dumps(said) + "\n")
    return path


@pytest.fixture
def source(file: Path) -> Iterator[Input]:
    with closing(Input.open(str(file))) as opened:
        yield opened


async def test_pieces_hold_all_rows_once_in_their_order(source: Input) -> None:
    pieces = [piece async for piece in read_pieces(source, RowFormat.NDJSON, Checkpoint())]
    assert [len(piece.rows) for piece in pieces] == [BOUNDS.lines, BOUNDS.lines - 1, 10]
    assert [reject.line for piece in pieces for reject in piece.rejects] == [BOUNDS.lines + 4]
    numbers = []
    for piece in pieces:
        digest = sha256(piece.chunk).hexdigest()
        chunk = Chunk.open(piece.chunk, digest=digest, size=len(piece.chunk), rows=len(piece.rows))
        numbers += [line for block in chunk.blocks() for line in block.lines]
    assert numbers == [number for number in range(1, COUNT + 1) if number != BOUNDS.lines + 4]
    bodies = [body_of(piece, Manner(), NO_CHUNKS, name="n", number=number) for number, piece in enumerate(pieces, 1)]
    assert [body.is_last for body in bodies] == [False, False, True]
    assert [body.rejected for body in bodies] == [0, 1, 0]
    assert [(body.first_line, body.lines) for body in bodies] == [
        (1, BOUNDS.lines),
        (BOUNDS.lines + 1, 2 * BOUNDS.lines),
        (2 * BOUNDS.lines + 1, COUNT),
    ]
    assert [body.offset for body in bodies] == [0, *(body.end_offset for body in bodies[:-1])]
    assert bodies[-1].end_offset == source.size


async def test_reading_goes_on_where_a_load_has_come(source: Input, file: Path) -> None:
    whole = [piece async for piece in read_pieces(source, RowFormat.NDJSON, Checkpoint())]
    part = whole[0].part
    with closing(Input.open(str(file))) as again:
        reached = Checkpoint(offset=part.end_offset, lines=part.last_line, chunks=1)
        rest = [piece async for piece in read_pieces(again, RowFormat.NDJSON, reached)]
    assert [(piece.part, piece.chunk) for piece in rest] == [(piece.part, piece.chunk) for piece in whole[1:]]


def append(file: Path) -> None:
    with file.open("a") as rows:
        rows.write("\n")


def overwrite(file: Path) -> None:
    """The same size, and another time."""
    with file.open("r+") as rows:
        rows.write("#")
    changed = file.stat().st_mtime_ns + 1_000_000
    os.utime(file, ns=(changed, changed))


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def put_another_in_its_place(file: Path) -> None:
    """Of the same content and time, as rsync does it."""
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [append, overwrite, shorten, put_another_in_its_place])
async def test_a_file_that_changes_is_read_no_further(
    source: Input, file: Path, change: Callable[[Path], None]
) -> None:
    pieces = read_pieces(source, RowFormat.NDJSON, Checkpoint())
    await anext(pieces)
    change(file)
    with pytest.raises(Fault) as raised:
        await anext(pieces)
    assert raised.value.reason is Reason.INPUT_CHANGED
    assert raised.value.variables == {"path": str(file)}


async def test_a_file_that_was_removed_is_read_to_its_end(source: Input, file: Path) -> None:
    """Nobody can change it any more but those who have it open, and they would be seen."""
    remove(file)
    assert len([piece async for piece in read_pieces(source, RowFormat.NDJSON, Checkpoint())]) == 3
