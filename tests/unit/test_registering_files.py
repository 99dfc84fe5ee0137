"""What `topnode register` makes of a file: envelopes, the state by which it goes on, what it leaves; and words."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodes.client import Fault, Outcome, PrivateKey, Reason, RegistryClient, RegistryClientSettings, Signer
from nodes.loading.inputs import Input
from nodes.registering.envelope_rows import LINES_MAX, EnvelopeRows, read_envelopes
from nodes.registering.kept_files import KeptFiles
from nodes.registering.receipt_files import KeptReceipt, ReceiptRow, keep_receipt, read_receipts
from nodes.registering.resuming import Reached, StateFile
from nodes.registering.runs import Run
from nodes.registering.words import WhenParam, endpoint_from_text, endpoint_to_text
from registry.rows import ROW_BYTES
from registry.service import RegistryService
from registry.settings import RegistrySettings
from resolver.bounds import ENVELOPE_ROWS
from resolver.clock import SetClock, SystemClock
from resolver.routes import Endpoint, Protocol
from resolver.rpc.calls import Context
from resolver.rpc.serving import ServingSettings, build_server
from resolver.units import Duration
from tests.small_registry import SmallRegistry, opened

NODE = "88.111"


def row(name: object, **more: Any) -> bytes:
    return json.dumps({"identifier": f"88.111/{name}", "values": [], **more}).encode()


async def cut(path: Path, *, offset: int = 0, line: int = 0, number: int = 0) -> list[EnvelopeRows]:
    with closing(Input.open(str(path))) as source:
        return [rows async for rows in read_envelopes(source, offset=offset, line=line, number=number)]


# --- envelopes -----------------------------------------------------------------------------------------------------


async def test_a_file_is_cut_into_envelopes_of_a_thousand(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"".join(row(number) + b"\n" for number in range(2 * ENVELOPE_ROWS + 3)))
    gotten = await cut(file)
    assert [len(rows.encoded) for rows in gotten] == [ENVELOPE_ROWS, ENVELOPE_ROWS, 3]
    assert [rows.number for rows in gotten] == [0, 1, 2]
    assert gotten[1].lines == list(range(ENVELOPE_ROWS + 1, 2 * ENVELOPE_ROWS + 1))
    assert gotten[-1].end_offset == file.stat().st_size
    assert gotten[-1].end_line == 2 * ENVELOPE_ROWS + 3
    assert b"".join(each + b"\n" for rows in gotten for each in rows.encoded) == file.read_bytes()


async def test_a_file_begun_at_the_end_of_an_envelope_is_cut_the_same(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"\xef\xbb\xbf" + b"".join(row(number) + b"\r\n\n" for number in range(3_000)))
    whole = await cut(file)
    for before, after in zip(whole, range(1, len(whole)), strict=False):
        begun = await cut(file, offset=before.end_offset, line=before.end_line, number=before.number + 1)
        assert begun == whole[after:]


async def test_what_is_no_row_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    lines = [
        row("a"),
        b"{bad}",
        b"",
        b'{"identifier": "88.111/b", "values": [], "colour": 1}',
        b'{"identifier": "88.111/\xff", "values": []}',
        b'{"identifier": "88.111/d"}',
        b'{"prefix": "88.1", "holder": "x"}',
        row("x", values=[{"index": 1, "type": "T", "data": "y" * ROW_BYTES}]),
        row("e"),
        b'{"identifier": "88.111/f", "val',
    ]
    file.write_bytes(b"\n".join(lines))
    (rows,) = await cut(file)
    assert rows.lines == [1, 9]
    refused = {reject.line: (reject.fault.reason, reject.fault.field) for reject in rows.rejects}
    assert refused == {
        2: (Reason.ROW_MALFORMED, ""),
        4: (Reason.ROW_MALFORMED, "colour"),
        5: (Reason.ROW_MALFORMED, ""),
        6: (Reason.ROW_MALFORMED, ""),
        7: (Reason.ROW_MALFORMED, "prefix"),
        8: (Reason.ROW_MALFORMED, ""),
        10: (Reason.ROW_TRUNCATED, ""),
    }


async def test_rows_about_one_identifier_never_share_an_envelope(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    mint = b'{"mint": "88.111", "values": []}'
    file.write_bytes(b"\n".join([row("a"), row("b"), row("A"), mint, mint, row("a"), row("c")]))
    assert [rows.lines for rows in await cut(file)] == [[1, 2], [3, 4, 5], [6, 7]]


async def test_an_envelope_is_never_too_large(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    large = [{"index": number, "type": "T", "data": "x" * 60_000} for number in range(1, 5)]
    file.write_bytes(b"\n".join(row(number, values=large) for number in range(40)))
    gotten = await cut(file)
    assert sum(len(rows.encoded) for rows in gotten) == 40
    assert max(sum(map(len, rows.encoded)) for rows in gotten) < 4 * 1024 * 1024


async def test_an_envelope_of_refused_rows_ends_too(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"{\n" * (LINES_MAX + 1))
    assert [len(rows.rejects) for rows in await cut(file)] == [LINES_MAX, 1]
    file.write_bytes(b"")
    assert await cut(file) == []


@pytest.mark.parametrize("longer", [1, ROW_BYTES, 9 * ROW_BYTES, 30 * ROW_BYTES])
@pytest.mark.parametrize("lines", [[False, True, False], [True, False, True, True, False], [False, True]])
@pytest.mark.parametrize("end", [b"\n", b""])
async def test_a_row_that_is_too_long_is_refused_alone(
    tmp_path: Path, longer: int, lines: list[bool], end: bytes
) -> None:
    """However long it is, and wherever it stands: the others are taken, and reading goes on behind it."""
    file = tmp_path / "rows"
    octets = [b"x" * (ROW_BYTES + longer) if is_long else row(number) for number, is_long in enumerate(lines)]
    file.write_bytes(b"\n".join(octets) + end)
    (rows,) = await cut(file)
    numbered = list(enumerate(lines, 1))
    assert rows.lines == [number for number, is_long in numbered if not is_long]
    assert [reject.line for reject in rows.rejects] == [number for number, is_long in numbered if is_long]
    assert {reject.fault.reason for reject in rows.rejects} == {Reason.ROW_MALFORMED}
    assert (rows.end_line, rows.end_offset) == (len(lines), file.stat().st_size)


async def test_a_file_with_rows_that_are_too_long_is_cut_the_same_wherever_it_is_begun(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    long = [b"x" * (ROW_BYTES + 1), b"y" * (9 * ROW_BYTES)]
    file.write_bytes(b"\n".join([row("a"), long[1], row("a"), long[0], row("a"), row("a"), long[1], long[1], b""]))
    whole = await cut(file)
    assert [rows.lines for rows in whole] == [[1], [3], [5], [6]]
    assert [[reject.line for reject in rows.rejects] for rows in whole] == [[2], [4], [], [7, 8]]
    for before, after in zip(whole, range(1, len(whole)), strict=False):
        begun = await cut(file, offset=before.end_offset, line=before.end_line, number=before.number + 1)
        assert [_comparable(rows) for rows in begun] == [_comparable(rows) for rows in whole[after:]]


def _comparable(rows: EnvelopeRows) -> tuple[EnvelopeRows, list[dict[str, Any]]]:
    return replace(rows, rejects=[]), [reject.plain() for reject in rows.rejects]


# --- running it ----------------------------------------------------------------------------------------------------


class Failing(RegistryService):
    """A registry that ends a run: after so many requests everything is refused. `taken` are all that came."""

    lasts = 10**9
    taken: list[bytes]

    async def _submit(self, octets: bytes, context: Context) -> bytes:
        self.taken.append(octets)
        answer = await super()._submit(octets, context)
        if len(self.taken) > self.lasts:
            raise Fault(Reason.INTERNAL)
        return answer


class Place:
    """A registry with the node 88.111, and a folder with a file of rows."""

    def __init__(self, small: SmallRegistry, service: Failing, address: str, folder: Path) -> None:
        self.small = small
        self.service = service
        self.address = address
        self.folder = folder
        self.file = folder / "rows.ndjson"
        self.state = StateFile(folder / "state")

    def write(self, *rows: bytes) -> None:
        self.file.write_bytes(b"".join(each + b"\n" for each in rows))

    async def run(
        self,
        *,
        at_once: int = 2,
        with_envelopes: bool = False,
        tell: Callable[[Run], None] = lambda _: None,
        **files: Any,
    ) -> Run:
        """Run once, as the command does; a Fault leaves the state. `files` are other paths than the usual ones."""
        usual = {name: self.folder / name for name in ("rejects", "receipts", "minted")}
        kept = KeptFiles(state=self.state, with_envelopes=with_envelopes, **{**usual, **files})
        signer = Signer(NODE, self.small.keys[NODE])
        settings = RegistryClientSettings(timeout=Duration(20))
        with closing(Input.open(str(self.file))) as source:
            known = source.fingerprint() or ""
            run = Run(source, self.state.read(known) or Reached.begin(known), kept, SystemClock())
            is_done = False
            try:
                kept.begin(run.reached)
                async with RegistryClient(self.address, signer, settings, clock=self.small.clock) as client:
                    await run.register(client, at_once=at_once, tell=tell)
                is_done = True
            finally:
                kept.close(is_done=is_done)
        return run

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_bytes().splitlines()]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path / "store", SetClock()) as small:
        service = Failing(small.registry, RegistrySettings(), small.clock, small.metrics)
        service.taken = []
        server = build_server(ServingSettings(address="127.0.0.1:0"))
        service.add_to(server)
        await server.start()
        try:
            await small.join(NODE)
            yield Place(small, service, f"127.0.0.1:{server.port}", tmp_path)
        finally:
            await server.stop()


async def test_a_file_is_registered_and_everything_is_told(place: Place) -> None:
    place.write(*(row(number) for number in range(1_500)), b"{", b'{"identifier": "88.9/x", "values": []}')
    with place.file.open("ab") as file:
        file.write(b'{"mint": "88.111", "values": []}\n')
    run = await place.run(with_envelopes=True)
    assert (run.reached.registered, run.reached.rejected, run.reached.lines) == (1_501, 2, 1_503)
    assert run.reasons == {"ROW_MALFORMED": 1, "PREFIX_NOT_ALLOCATED": 1}
    assert [reject["line"] for reject in place.lines("rejects")] == [1_501, 1_502]
    (minted,) = place.lines("minted")
    assert minted["line"] == 1_503
    assert minted["identifier"].startswith("88.111/")
    key = place.small.registry.journal.verifier_key
    with (place.folder / "receipts").open("rb") as file:
        receipts = [kept for _, kept in read_receipts(file)]
    for kept in receipts:
        assert isinstance(kept, KeptReceipt)
        kept.check(key)
    assert [(kept.first_line, kept.rows) for kept in receipts if isinstance(kept, KeptReceipt)] == [
        (1, 1_000),
        (1_001, 502),
    ]
    assert not place.state.path.exists()


@pytest.mark.parametrize("lasts", range(6))
async def test_an_interrupted_run_goes_on_and_nothing_is_done_twice(place: Place, lasts: int) -> None:
    """Wherever it was ended, with answers lost: all files are as if it had run at once, and no row is in twice."""
    rows = [b'{"mint": "88.111", "values": []}' if number % 7 == 0 else row(number) for number in range(5_200)]
    place.write(*rows, b"{")
    before = place.small.registry.journal.size
    place.service.lasts = lasts
    with pytest.raises(Fault) as raised:
        await place.run(at_once=3)
    assert raised.value.reason is Reason.INTERNAL
    assert place.state.path.exists()
    place.service.lasts = 10**9
    run = await place.run(at_once=3)
    assert (run.reached.registered, run.reached.rejected) == (5_200, 1)
    assert place.small.registry.journal.size == before + 6
    minted = place.lines("minted")
    assert [each["line"] for each in minted] == list(range(1, 5_201, 7))
    assert len({each["identifier"] for each in minted}) == len(minted)
    assert [each["first_line"] for each in place.lines("receipts")] == list(range(1, 5_201, 1_000))
    assert len(place.lines("rejects")) == 1


async def test_rows_about_one_identifier_keep_their_order(place: Place) -> None:
    """However many envelopes are on their way at once."""
    values = [{"index": 1, "type": "T", "data": str(number)} for number in range(30)]
    place.write(row("a"), *(row("a", op="update", values=[value]) for value in values), row("a", op="delete"))
    run = await place.run(at_once=16)
    assert (run.reached.registered, run.reached.replaced, run.reached.deleted) == (1, 30, 1)
    assert run.reached.rejected == 0


async def test_an_input_that_changes_while_it_is_read_ends_the_run(place: Place) -> None:
    place.write(*(row(number) for number in range(3_000)))
    signer = Signer(NODE, place.small.keys[NODE])
    kept = KeptFiles(state=None, rejects=None, receipts=None, minted=None, with_envelopes=False)

    def change(_: Run) -> None:
        with place.file.open("ab") as file:
            file.write(row("late") + b"\n")

    with closing(Input.open(str(place.file))) as source:
        run = Run(source, Reached.begin(""), kept, SystemClock())
        async with RegistryClient(place.address, signer, clock=place.small.clock) as client:
            with pytest.raises(Fault) as raised:
                await run.register(client, at_once=1, tell=change)
    assert raised.value.reason is Reason.INPUT_CHANGED
    assert len(place.service.taken) == 1


# --- the files that are left ---------------------------------------------------------------------------------------


def rows_of_all_kinds(count: int) -> list[bytes]:
    """Of seven rows each, one without an identifier and one that is refused."""
    kinds = {0: b'{"mint": "88.111", "values": []}', 1: b'{"identifier": "88.9/x%d", "values": []}'}
    return [kinds.get(number % 7, row(number)).replace(b"%d", b"%d" % number) for number in range(count)]


async def interrupted(place: Place, after: int, **options: Any) -> None:
    """Run until so many requests were taken, and one more whose answer is lost."""
    place.service.lasts = len(place.service.taken) + after
    with pytest.raises(Fault) as raised:
        await place.run(at_once=1, **options)
    assert raised.value.reason is Reason.INTERNAL
    place.service.lasts = 10**9


async def test_proofs_of_an_earlier_registration_are_added_to(place: Place) -> None:
    """Also where the last line of the file has no end; only refused rows are told afresh."""
    names = ("receipts", "minted", "rejects")
    place.write(*rows_of_all_kinds(10))
    await place.run()
    first = {name: place.lines(name) for name in names}
    assert all(first.values())
    for name in names:
        path = place.folder / name
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    place.write(*rows_of_all_kinds(10), row("more"))
    await place.run()
    for name in ("receipts", "minted"):
        assert place.lines(name)[: len(first[name])] == first[name]
        assert len(place.lines(name)) == 2 * len(first[name])
    assert [each["line"] for each in place.lines("rejects")] == [each["line"] for each in first["rejects"]]


@pytest.mark.parametrize("name", ["receipts", "minted", "rejects"])
async def test_a_file_that_was_removed_meanwhile_is_told_and_not_made_up(place: Place, name: str) -> None:
    place.write(*rows_of_all_kinds(3_500))
    await interrupted(place, 2)
    taken, path = len(place.service.taken), place.folder / name
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(Fault) as raised:
        await place.run()
    assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, f"--{name}")
    assert f"had {len(kept):,} at the interruption" in raised.value.detail
    assert not path.exists()
    assert len(place.service.taken) == taken
    path.write_bytes(kept[:-1])
    with pytest.raises(Fault):
        await place.run()
    path.write_bytes(kept)
    run = await place.run()
    assert run.reached.lines == 3_500
    assert path.read_bytes().startswith(kept)
    assert b"\0" not in path.read_bytes()


async def test_another_file_takes_the_rest(place: Place) -> None:
    place.write(*(row(number) for number in range(3_500)))
    await interrupted(place, 2)
    other = place.folder / "other"
    other.write_bytes(b"{}\n")
    await place.run(receipts=other)
    assert [each["first_line"] for each in place.lines("receipts")] == [1, 1_001]
    assert [each.get("first_line") for each in place.lines("other")] == [None, 2_001, 3_001]


@pytest.mark.parametrize("name", ["receipts", "minted", "rejects"])
async def test_a_run_without_a_file_leaves_it_for_the_next_one(place: Place, name: str) -> None:
    place.write(*rows_of_all_kinds(5_500))
    await interrupted(place, 2)
    kept = place.lines(name)
    await interrupted(place, 2, **{name: None})
    assert place.lines(name) == kept
    await place.run()
    assert place.lines(name)[: len(kept)] == kept
    assert len(place.lines(name)) > len(kept)


async def test_what_others_added_meanwhile_stays(place: Place) -> None:
    place.write(*rows_of_all_kinds(3_500))
    await interrupted(place, 2)
    other = b'{"of": "another command"}\n'
    for name in ("receipts", "minted"):
        with (place.folder / name).open("ab") as file:
            file.write(other)
    await place.run()
    for name in ("receipts", "minted"):
        assert (place.folder / name).read_bytes().count(other) == 1
    assert [each.get("first_line") for each in place.lines("receipts")] == [1, 1_001, None, 2_001, 3_001]


async def test_what_a_killed_run_wrote_and_did_not_tell_is_not_written_twice(place: Place) -> None:
    """A process may be killed between the files and the state; then the state is the older one, and a line is cut."""
    place.write(*rows_of_all_kinds(4_500))
    states: list[bytes] = []

    def tell(_: Run) -> None:
        states.append(place.state.path.read_bytes())

    await interrupted(place, 3, tell=tell)
    place.state.path.write_bytes(states[0])
    for name in ("receipts", "minted", "rejects"):
        with (place.folder / name).open("ab") as file:
            file.write(b'{"line": 4')
    run = await place.run()
    assert (run.resumed_at, run.reached.lines) == (1_000, 4_500)
    assert [each["line"] for each in place.lines("minted")] == list(range(1, 4_501, 7))
    assert [each["line"] for each in place.lines("rejects")] == list(range(2, 4_501, 7))
    # Of the same entry there may be two proofs, since the journal has grown between them; none is missing.
    proven = [(each["first_line"], each["receipt"]["index"]) for each in place.lines("receipts")]
    assert [first for first, _ in sorted(set(proven))] == [1, 1_001, 2_001, 3_001, 4_001]


# --- the state -----------------------------------------------------------------------------------------------------


def test_the_state_is_found_again(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state")
    assert state.read("x") is None
    reached = replace(Reached.begin("x"), envelopes=3, offset=99, files={"/rejects": 7})
    state.write(reached)
    assert state.read("x") == reached
    with pytest.raises(Fault) as raised:
        state.read("another")
    assert raised.value.reason is Reason.INPUT_CHANGED
    state.path.write_text("{}")
    with pytest.raises(Fault) as raised:
        state.read("x")
    assert raised.value.reason is Reason.FILE_UNREADABLE
    state.remove()
    state.remove()
    assert state.read("x") is None
    assert list(tmp_path.iterdir()) == []


def test_an_envelope_is_the_same_request_in_each_run_and_another_one_in_another_registration() -> None:
    rows = EnvelopeRows(
        number=4, encoded=[row("a")], lines=[1], identifiers={"a"}, rejects=[], end_offset=1, end_line=1
    )
    reached = Reached.begin("x")
    assert reached.draft(rows) == reached.draft(rows)
    assert reached.draft(rows) != reached.draft(replace(rows, number=5))
    assert reached.draft(rows).request_id != Reached.begin("x").draft(rows).request_id


def test_files_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    for name in ("rejects", "receipts", "minted"):
        files: dict[str, Any] = dict.fromkeys(("rejects", "receipts", "minted")) | {name: tmp_path}
        kept = KeptFiles(state=None, with_envelopes=False, **files)
        with pytest.raises(Fault) as raised:
            kept.begin(Reached.begin("x"))
        assert raised.value.reason is Reason.FILE_UNREADABLE
        assert str(tmp_path) in raised.value.detail


# --- receipts ------------------------------------------------------------------------------------------------------


async def test_a_kept_receipt_that_was_touched_does_not_hold(place: Place, tmp_path: Path) -> None:
    signer = Signer(NODE, place.small.keys[NODE])
    async with RegistryClient(place.address, signer, clock=place.small.clock) as client:
        submitted = await client.register([{"identifier": "88.111/a", "values": []}])
    assert submitted.receipt
    assert submitted.outcomes == (Outcome.REGISTERED,)
    path = tmp_path / "receipts"
    keep_receipt(path, submitted.receipt, submitted.envelope)
    with path.open("rb") as file:
        ((number, kept),) = read_receipts(file)
    assert number == 1
    assert isinstance(kept, KeptReceipt)
    key = place.small.registry.journal.verifier_key
    kept.check(key)
    assert kept.receipt.to_receipt() == replace(submitted.receipt, proof=kept.receipt.to_receipt().proof)
    for touched in _touched(kept):
        with pytest.raises(Fault) as raised:
            touched.check(key)
        assert raised.value.reason is Reason.RECEIPT_INVALID


def _touched(kept: KeptReceipt) -> Iterator[KeptReceipt]:
    yield replace(kept, envelope=kept.envelope + b"x")
    changes: tuple[dict[str, Any], ...] = (
        {"index": kept.receipt.index + 1},
        {"statement": kept.receipt.statement + b"\x08\x01"},
        {"statement": b"\xff"},
        {"leaf_hash": "00" * 32},
        {"leaf_hash": "no"},
        {"checkpoint": kept.receipt.checkpoint.replace("\n3\n", "\n4\n").replace("\n4\n", "\n5\n")},
        {"inclusion_proof": []},
    )
    for change in changes:
        yield replace(kept, receipt=replace(kept.receipt, **change))


def test_a_line_that_is_no_receipt_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    path.write_bytes(b'\n{"receipt": 1}\n\xff\n')
    with path.open("rb") as file:
        gotten = list(read_receipts(file))
    assert [number for number, _ in gotten] == [2, 3]
    assert all(isinstance(fault, Fault) and fault.reason is Reason.RECEIPT_INVALID for _, fault in gotten)
    assert ReceiptRow(index=1, statement=b"", leaf_hash="", checkpoint="").inclusion_proof == []


# --- words ---------------------------------------------------------------------------------------------------------


@given(
    endpoint=st.builds(
        Endpoint,
        st.sampled_from(Protocol),
        st.sampled_from(["192.0.2.7", "node.example.cn", "2001:db8::7"]),
        st.integers(1, 65_535),
        st.integers(0, 65_535),
        st.sampled_from(["", "node.example.cn"]),
    )
)
def test_endpoints_are_read_as_they_are_written(endpoint: Endpoint) -> None:
    assert endpoint_from_text(endpoint_to_text(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.7:3641",
        "ftp://192.0.2.7:21",
        "grpc://192.0.2.7",
        "grpc://:3641",
        "grpc://192.0.2.7:99999",
        "grpc://192.0.2.7:3641/path",
        "grpc://me@192.0.2.7:3641",
        "grpc://192.0.2.7:3641?colour=red",
        "grpc://192.0.2.7:3641?priority=high",
        "grpc://[192.0.2.7:3641",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(Fault) as raised:
        endpoint_from_text(text)
    assert raised.value.reason is Reason.FIELD_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("never", 0),
        ("1800000000", 1_800_000_000),
        ("2027-01-15", 1_799_971_200),
        ("2027-01-15T08:00", 1_800_000_000),
        ("2027-01-15T16:00+08:00", 1_800_000_000),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert WhenParam().convert(text, None, None) == seconds


def test_what_is_no_time() -> None:
    with pytest.raises(click.BadParameter):
        WhenParam().convert("tomorrow", None, None)


def test_a_key_of_another_is_no_signer(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    PrivateKey.generate().to_file(path)
    assert Signer.from_file("a", path).key.public == PrivateKey.from_file(path).public
    path.chmod(0o644)
    with pytest.raises(Fault) as raised:
        Signer.from_file("a", str(path))
    assert raised.value.reason is Reason.FILE_UNREADABLE
