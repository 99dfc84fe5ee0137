"""Cutting an input into parts: nothing lost, nothing double, whatever the chunks in which it comes."""

from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.chunks import ChunkWriter
from registry.csv_rows import Columns, read_csv, split_csv
from registry.parts import BOUNDS, Cutter, Part, PartBounds
from registry.rows import ROW_BYTES, IdentifierRow, RowFormat
from resolver.bounds import CHUNK_BYTES
from resolver.errors import Fault, Reason

NDJSON, CSV = RowFormat.NDJSON, RowFormat.CSV
SMALL = PartBounds(octets=64, lines=5, row=40)
"""Bounds so small that a short input has many parts."""


def cut(
    octets: bytes, row_format: RowFormat = NDJSON, chunk: int = 1 << 20, bounds: PartBounds = BOUNDS
) -> list[Part]:
    cutter = Cutter(row_format, bounds)
    return list(_cut(cutter, octets, chunk))


def _cut(cutter: Cutter, octets: bytes, chunk: int) -> Iterator[Part]:
    for first in range(0, len(octets), chunk):
        cutter.add(octets[first : first + chunk])
        yield from cutter.parts()
    cutter.end()
    yield from cutter.parts()


def check(cutting: list[Part], size: int) -> None:
    """Parts follow on each other in bytes and lines, up to the end of the input."""
    offset = 0
    for part, following in zip(cutting, [*cutting[1:], None], strict=True):
        assert part.offset == offset
        offset = part.end_offset
        assert len(part.rows) <= BOUNDS.octets
        assert part.is_last is (following is None)
        if following:
            assert part.rows.endswith(b"\n")
            assert following.first_line == part.last_line + 1
    assert offset == size


@pytest.mark.parametrize("chunk", [1_000, 1 << 20, 10 << 20])
def test_an_input_of_several_parts(chunk: int) -> None:
    octets = b"".join(b'{"identifier":"88.1/%d","values":[]}\n' % number for number in range(200_000))
    cutting = cut(octets, chunk=chunk)
    check(cutting, len(octets))
    assert b"".join(part.rows for part in cutting) == octets
    assert max(part.last_line - part.first_line + 1 for part in cutting) == BOUNDS.lines
    assert cutting[-1].last_line == 200_000


def test_long_rows_make_parts_by_their_bytes() -> None:
    octets = (b"x" * 100_000 + b"\n") * 200
    cutting = cut(octets)
    check(cutting, len(octets))
    assert [part.rows.count(b"\n") for part in cutting] == [83, 83, 34]


def test_an_empty_input_has_no_part() -> None:
    assert cut(b"") == []


def test_a_last_line_without_an_end_is_in_the_last_part() -> None:
    (part,) = cut(b"a\nb")
    assert (part.rows, part.last_line) == (b"a\nb", 2)


@pytest.mark.parametrize("row_format", [NDJSON, CSV])
@pytest.mark.parametrize("size", [BOUNDS.octets, 3 * BOUNDS.octets + 5, ROW_BYTES + 1])
@pytest.mark.parametrize("end", [b"\nafter\n", b"\n", b""])
def test_of_a_row_without_end_only_the_beginning_is_kept(row_format: RowFormat, size: int, end: bytes) -> None:
    header = b"identifier\n" if row_format is CSV else b""
    octets = header + b"before\n" + b"x" * size + end
    cutting = cut(octets, row_format, chunk=100_000)
    check(cutting, len(octets))
    before, long, *after = b"".join(part.rows for part in cutting).split(b"\n")
    assert before == b"before"
    assert ROW_BYTES < len(long) <= BOUNDS.octets
    assert b"\n".join([b"", *after]) == end


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b"a", b"bc" * 8, b"", b"d" * 39, b"e" * 200, b"\r"]), max_size=30), st.integers(1, 70)
)
def test_any_chunks_give_the_same_lines(lines: list[bytes], chunk: int) -> None:
    octets = b"\n".join(lines)
    cutting = cut(octets, chunk=chunk, bounds=SMALL)
    kept = b"".join(part.rows for part in cutting).split(b"\n")
    assert len(kept) == len(octets.split(b"\n"))
    for line, left in zip(octets.split(b"\n"), kept, strict=True):
        assert left == line or (len(line) > 40 and line.startswith(left) and len(left) > 40)
    offset = 0
    for number, part in enumerate(cutting, 1):
        assert part.offset == offset
        assert part.is_last is (number == len(cutting))
        offset = part.end_offset
    assert offset == len(octets)


@pytest.mark.parametrize("lines", [5, 10])
def test_a_part_waits_for_a_byte_behind_it(lines: int) -> None:
    """So that it is known whether it is the last one."""
    cutter = Cutter(NDJSON, SMALL)
    cutter.add(b"a\n" * lines)
    before = list(cutter.parts())
    assert not any(part.is_last for part in before)
    assert sum(part.rows.count(b"\n") for part in before) == lines - 5
    cutter.end()
    (last,) = cutter.parts()
    assert (last.rows, last.is_last) == (b"a\n" * 5, True)
    assert list(cutter.parts()) == []


# --- CSV ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"identifier,URL\n",
        b"\xef\xbb\xbfidentifier,URL\r\n",
        b'"identifier","URL"\n',
        b'\xef\xbb\xbf"identifier",URL\n',
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 1_000])
def test_a_header_is_taken_off(header: bytes, chunk: int) -> None:
    cutter = Cutter(CSV)
    (part,) = _cut(cutter, header + b"88.1/a,x\n", chunk)
    assert cutter.columns == ("identifier", "URL")
    assert part == Part(offset=0, end_offset=len(header) + 9, first_line=2, rows=b"88.1/a,x\n", is_last=True)


def test_a_header_of_two_lines() -> None:
    cutter = Cutter(CSV)
    (part,) = _cut(cutter, b'identifier,"a b",URL\n'.replace(b"a b", b"5:U RL") + b"88.1/a,x,y\n", 1)
    assert cutter.columns == ("identifier", "5:U RL", "URL")
    assert part.first_line == 2


@pytest.mark.parametrize("octets", [b"", b"\n", b"URL,identifier2\n", b'identifier,"x\n', b"x" * (ROW_BYTES + 10)])
def test_no_header_is_a_fault(octets: bytes) -> None:
    with pytest.raises(Fault) as raised:
        cut(octets, CSV)
    assert raised.value.reason is Reason.ROW_MALFORMED


def test_a_header_alone_has_no_part() -> None:
    assert cut(b"identifier,URL", CSV) == []


def test_a_quoted_line_end_is_not_cut_through() -> None:
    row = b'88.1/a,"one\ntwo\nthree"\n'
    cutting = cut(b"identifier,URL\n" + row * 10, CSV, bounds=PartBounds(octets=64, row=40))
    assert [part.rows for part in cutting] == [row * 2] * 5
    assert [part.first_line for part in cutting] == [2, 8, 14, 20, 26]


def test_a_row_of_very_many_lines_is_waited_for() -> None:
    """It has more lines than a part, and not more bytes than a row."""
    row = b'88.1/a,"' + b"\n" * 20_000 + b'"\n'
    cutting = cut(b"identifier,URL\n" + row + b"88.1/b,x\n", CSV, chunk=1_000)
    assert b"".join(part.rows for part in cutting) == row + b"88.1/b,x\n"
    assert cutting[0].rows.startswith(row)


def test_parts_of_many_columns_have_fewer_lines() -> None:
    """A chunk repeats the types of values in each row: even so it stays below its bound."""
    header = ",".join(["identifier", *(f"{number}:{'T' * 120}{number}" for number in range(1, 2_049))])
    rows = b"".join(b"88.1/%d" % number + b",x" * 2_048 + b"\n" for number in range(400))
    cutting = cut(header.encode() + b"\n" + rows, CSV)
    assert b"".join(part.rows for part in cutting) == rows
    columns = Columns.from_names(header.split(","))
    for part in cutting:
        writer = ChunkWriter()
        for line in read_csv(part.rows, part.first_line, columns):
            assert isinstance(line.row, IdentifierRow)
            writer.add(line.number, line.row)
        assert zstandard.frame_content_size(writer.finish()) < CHUNK_BYTES
    assert len(cutting) > 1


PIECES = st.sampled_from(
    [b"a,b\n", b'"a",b\n', b'"a\nb",c\n', b'"a""b",c\r\n', b'a"b,c\n', b'"open,b\n', b'"x"y,z\n', b"\n"]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=30), st.integers(1, 50))
def test_parts_of_csv_are_split_as_the_whole_is(pieces: list[bytes], chunk: int) -> None:
    """Except where a quote that is never closed reaches over more than a part: its end is sought no further."""
    octets = b"".join(pieces)
    cutting = cut(b"identifier\n" + octets, CSV, chunk, SMALL)
    assert b"".join(part.rows for part in cutting) == octets
    again = [row for part in cutting for row in split_csv(part.rows)]
    assert b"".join(row.octets for row in again) == octets
    if b'"open' not in octets and b'"x"y' not in octets:
        assert [row.cells for row in again] == [row.cells for row in split_csv(octets)]


# --- going on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row_format", [NDJSON, CSV])
@pytest.mark.parametrize("first", [1, 5, 10_000])
def test_going_on_gives_the_parts_that_are_left(row_format: RowFormat, first: int) -> None:
    header = b"identifier,URL\n" if row_format is CSV else b""
    octets = header + b"".join(b"88.1/%d,x\n" % number for number in range(30_000))
    whole = cut(octets, row_format)
    reached = whole[0]
    cutter = Cutter(row_format)
    cutter.add(octets[:first])
    fed = first
    while cutter.columns is None:
        cutter.add(octets[fed : fed + 1])
        fed += 1
    fed += cutter.skip_to(reached.end_offset, reached.last_line)
    assert list(_cut(cutter, octets[max(fed, 0) :], 1_000)) == whole[1:]


@pytest.mark.parametrize("row_format", [NDJSON, CSV])
def test_going_on_at_the_end_gives_an_empty_last_part(row_format: RowFormat) -> None:
    """So that the load is ended."""
    header = b"identifier,URL\n" if row_format is CSV else b""
    octets = header + b"88.1/a,x\n" * 3
    lines = octets.count(b"\n")
    cutter = Cutter(row_format)
    cutter.add(octets)
    assert cutter.skip_to(len(octets), lines) == 0
    cutter.end()
    (part,) = cutter.parts()
    assert part == Part(offset=len(octets), end_offset=len(octets), first_line=lines + 1, rows=b"", is_last=True)
    assert part.last_line == lines
    assert list(cutter.parts()) == []


def test_a_place_within_the_header_is_none() -> None:
    cutter = Cutter(CSV)
    cutter.add(b"identifier,URL\n")
    with pytest.raises(Fault) as raised:
        cutter.skip_to(3, 1)
    assert raised.value.reason is Reason.LOAD_OUT_OF_STEP
