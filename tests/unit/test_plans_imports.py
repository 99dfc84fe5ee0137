"""What the chunks of an import come to, row by row, over a real store in a folder of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.loading.loads import Manner
from registry import imports
from registry.chunks import BLOCK_ROWS, NO_CHUNKS, Block, Chunk, ChunkWriter, manifest_with
from registry.plans import Actor
from registry.rows import IdentifierRow, PrefixRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle
from resolver.record import Record, Relative, Tombstone, Value
from resolver.routes import Prefix, PrefixState
from resolver.store import Checkpoint, Write
from resolver.store.embedded import EmbeddedWriter
from resolver.wire import record_body
from tests.committing import NOW, Importing, Took
from tests.planning import node

PREFIX = {"prefix": "88.1", "holder": "maker"}
PLAIN, OVER = Manner(), Manner(overwrite=True)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Importing]:
    made = Importing(tmp_path / "store")
    yield made
    made.store.close()


def row(identifier: str, *values: Any, **more: Any) -> dict[str, Any]:
    """Make a row; a value is its data, or a dict of what is to be another way."""
    rows = [
        {"index": number, "type": "T", **(value if isinstance(value, dict) else {"data": value})}
        for number, value in enumerate(values, 1)
    ]
    return {"identifier": identifier, "values": rows, **more}


def counts(taken: Took) -> tuple[int, int, int, int]:
    return taken.registered, taken.replaced, taken.unchanged, len(taken.rejects)


def reasons(taken: Took) -> list[tuple[int, Reason, str]]:
    return [(line, fault.reason, fault.field) for line, fault, _ in taken.rejects]


def chunk(*rows: dict[str, Any]) -> bytes:
    """Make a chunk of these rows."""
    writer = ChunkWriter()
    for line, each in enumerate(rows, 1):
        writer.add(
            line, msgspec.convert(each, PrefixRow) if "prefix" in each else msgspec.convert(each, IdentifierRow)
        )
    return writer.finish()


def opened(octets: bytes, rows: int) -> list[Block]:
    """Read a chunk."""
    digest = sha256(octets).hexdigest()
    return list(Chunk.open(octets, digest=digest, size=len(octets), rows=rows).blocks())


def of(octets: bytes, rows: int, manifest: bytes = NO_CHUNKS, **said: Any) -> dict[str, Any]:
    """Make the body of a request for a chunk, behind those of this manifest."""
    usual = {"name": "load", "number": 1, "first_line": 1, "lines": 1, "offset": 0, "end_offset": 100}
    digest = sha256(octets).digest()
    hashes = {"chunk_sha256": digest.hex(), "manifest_sha256": manifest_with(manifest, digest).hex()}
    return {**usual, **hashes, "chunk_bytes": len(octets), "rows": rows, **said}


def body(*rows: dict[str, Any], **said: Any) -> dict[str, Any]:
    """Make the body of a request for a chunk of these rows."""
    return of(chunk(*rows), len(rows), **said)


def manifest(*chunks: dict[str, Any]) -> bytes:
    """Say the manifest of an import that came to chunks of one row each."""
    said = NO_CHUNKS
    for each in chunks:
        said = sha256(said + sha256(chunk(each)).digest()).digest()
    return said


async def refused(desk: Importing, said: dict[str, Any], octets: bytes) -> Fault:
    """Plan what must be refused as a whole, and give the reason."""
    with pytest.raises(Fault) as raised:
        await desk.plan(imports.plan, said, chunk=octets)
    return raised.value


# --- registering ---------------------------------------------------------------------------------------------------


async def test_a_row_becomes_a_record(desk: Importing) -> None:
    taken = await desk.take(PREFIX, row("88.1/aB", "x", {"data": "y", "ttl": 9, "timestamp": 5}))
    assert counts(taken) == (2, 0, 0, 0)
    held = await desk.record("88.1/AB")
    assert held == Record(
        identifier=Handle("88.1", "aB"),
        values=(
            Value(index=1, type="T", data=b"x", timestamp=NOW),
            Value(index=2, type="T", data=b"y", lifetime=Relative(9), timestamp=5),
        ),
        registrant="maker",
        registered_at=NOW,
        updated_at=NOW,
        version=taken.index,
    )


@pytest.mark.parametrize(
    ("said", "manner", "registrant"),
    [
        ({}, Manner(), "maker"),
        ({}, Manner(registrant="88.2"), "88.2"),
        ({"registrant": "88.3"}, Manner(registrant="88.2"), "88.3"),
    ],
)
async def test_who_registers(desk: Importing, said: dict[str, str], manner: Manner, registrant: str) -> None:
    await desk.take(PREFIX, row("88.1/a", **said), manner=manner)
    held = await desk.record("88.1/A")
    assert held
    assert held.registrant == registrant


async def test_restricted_values_are_in_the_full_body_only(desk: Importing) -> None:
    secret = {"data": "secret", "permissions": "1100"}
    await desk.take(PREFIX, row("88.1/a", "open", secret), row("88.1/b", "open"))
    full, public = await desk.record("88.1/A"), await desk.public("88.1/A")
    assert full
    assert public
    assert [value.data for value in full.values] == [b"open", b"secret"]
    assert [value.data for value in public.values] == [b"open"]
    (body,) = (await desk.store.public([b"88.1/A"])).bodies
    assert body
    assert b"secret" not in body


async def test_rows_of_csv(desk: Importing) -> None:
    await desk.take(PREFIX)
    rows = [b"88.1/a,http://x,\r", b"88.1/b,,\r", b"88.2/c,y,\r", b"88.1/d\r"]
    taken = await desk.take(*rows, columns=("identifier", "URL", "5:NAME"))
    assert counts(taken) == (2, 0, 0, 2)
    assert reasons(taken) == [
        (4, Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (5, Reason.ROW_MALFORMED, ""),
    ]
    held = await desk.record("88.1/A")
    assert held
    assert held.values == (Value(index=1, type="URL", data=b"http://x", timestamp=NOW),)


@pytest.mark.parametrize(
    ("refused", "reason", "field"),
    [
        (row(""), Reason.IDENTIFIER_EMPTY, "identifier"),
        (row("88.1"), Reason.IDENTIFIER_NO_SLASH, "identifier"),
        (row("88.1/"), Reason.IDENTIFIER_EMPTY_SUFFIX, "identifier"),
        (row("/a"), Reason.PREFIX_EMPTY_SEGMENT, "identifier"),
        (row("88..1/a"), Reason.PREFIX_EMPTY_SEGMENT, "identifier"),
        (row("88.1/a\tb"), Reason.IDENTIFIER_CONTROL_CHARACTER, "identifier"),
        (row("88.1/" + "a" * 2_044), Reason.IDENTIFIER_TOO_LONG, "identifier"),
        (row("88.2/a"), Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (row("88/a"), Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (row("88.12/a"), Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (row("88.1/a", {"data": "x", "index": 0}), Reason.VALUE_INVALID, "values[0].index"),
        (row("88.1/a", "x", {"data": "x", "index": 1}), Reason.VALUE_INVALID, "values"),
        (row("88.1/a", registrant="a\nb"), Reason.VALUE_INVALID, "registrant"),
        (row("88.1/a", *["x"] * 2_049), Reason.RECORD_TOO_LARGE, "values"),
        (row("88.1/a", *["x" * 60_000] * 5), Reason.RECORD_TOO_LARGE, "values"),
        (row("88.1/a", *[{"data": "x" * 60_000, "permissions": "1100"}] * 5), Reason.RECORD_TOO_LARGE, "values"),
        (b"{", Reason.ROW_MALFORMED, ""),
        ({"prefix": "88.1/a", "holder": "h"}, Reason.PREFIX_HAS_SLASH, "prefix"),
        ({"prefix": "", "holder": "h"}, Reason.IDENTIFIER_EMPTY, "prefix"),
        ({"prefix": "88.", "holder": "h"}, Reason.PREFIX_EMPTY_SEGMENT, "prefix"),
        ({"prefix": "89", "holder": ""}, Reason.FIELD_OUT_OF_RANGE, "holder"),
    ],
)
async def test_a_row_is_refused_for_itself(desk: Importing, refused: Any, reason: Reason, field: str) -> None:
    taken = await desk.take(PREFIX, row("88.1/before"), refused, row("88.1/after"))
    assert reasons(taken) == [(3, reason, field)]
    assert taken.registered == 3
    (reject,) = taken.rejects
    assert reject.row == (refused if isinstance(refused, bytes) else msgspec.json.encode(refused))


@pytest.mark.parametrize(
    ("state", "more", "reason"),
    [
        ("disabled", {}, Reason.PREFIX_DISABLED),
        ("to_delete", {}, Reason.PREFIX_DISABLED),
        ("pending", {}, Reason.PREFIX_NOT_ALLOCATED),
        ("in_review", {}, Reason.PREFIX_NOT_ALLOCATED),
        ("rejected", {}, Reason.PREFIX_NOT_ALLOCATED),
        ("enabled", {"expires_at": NOW}, Reason.PREFIX_EXPIRED),
        ("enabled", {"expires_at": NOW + 1}, None),
    ],
)
async def test_the_prefix_must_be_enabled(
    desk: Importing, state: str, more: dict[str, Any], reason: Reason | None
) -> None:
    taken = await desk.take({**PREFIX, "state": state, **more}, row("88.1/a"), row("88.1.7/a"))
    assert reasons(taken) == ([] if reason is None else [(2, reason, "identifier"), (3, reason, "identifier")])


async def test_a_term_ends_while_a_load_goes_on(desk: Importing) -> None:
    assert counts(await desk.take({**PREFIX, "expires_at": NOW + 10}, row("88.1/a"))) == (2, 0, 0, 0)
    desk.clock.advance(10)
    assert reasons(await desk.take(row("88.1/b"))) == [(3, Reason.PREFIX_EXPIRED, "identifier")]


async def test_rows_are_checked_by_the_prefixes_before_them(desk: Importing) -> None:
    """Also where the store knows nothing of those yet, and whatever parts the rows are in."""
    disabled = {**PREFIX, "state": "disabled"}
    taken = await desk.take(row("88.1/a"), PREFIX, row("88.1/b"), disabled, row("88.1/c"), manner=OVER)
    assert reasons(taken) == [
        (1, Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (5, Reason.PREFIX_DISABLED, "identifier"),
    ]
    assert await desk.record("88.1/B")
    (held,) = await desk.store.prefixes(None, 10)
    assert held.state is PrefixState.DISABLED


async def test_more_rows_than_are_taken_at_a_time(desk: Importing) -> None:
    rows = [row(f"88.1/{number:05}", "x") for number in range(3 * BLOCK_ROWS + 7)]
    taken = await desk.take(PREFIX, *rows, rows[0])
    assert counts(taken) == (len(rows) + 1, 0, 1, 0)
    assert len((await desk.store.identifiers(b"88.1", derived=False, after=None, limit=10_000)).identifiers) == len(
        rows
    )


async def test_others_have_their_turns_while_a_part_is_taken(desk: Importing) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    await asyncio.sleep(0)
    await desk.take(PREFIX, *(row(f"88.1/{number}", "x") for number in range(20 * BLOCK_ROWS)))
    counting.cancel()
    assert turns > 20


# --- what is registered already -----------------------------------------------------------------------------------


async def test_the_same_again_changes_nothing(desk: Importing) -> None:
    rows = [PREFIX, row("88.1/a", "x", {"data": "s", "permissions": "1100"}), row("88.1/b")]
    first = await desk.take(*rows)
    before = await desk.record("88.1/A")
    desk.clock.advance(60)
    again = await desk.take(*rows)
    assert counts(again) == (0, 0, 3, 0)
    assert before
    assert before.version == first.index
    assert counts(await desk.take(*rows, manner=OVER)) == (0, 0, 3, 0)
    assert await desk.record("88.1/A") == before
    desk.reopen()
    assert counts(await desk.take(*rows)) == (0, 0, 3, 0)


@pytest.mark.parametrize(
    "other",
    [
        row("88.1/a", "y"),
        row("88.1/a", "x", "y"),
        row("88.1/a"),
        row("88.1/A", "x"),
        row("88.1/a", "x", registrant="another"),
        row("88.1/a", {"data": "x", "type": "U"}),
        row("88.1/a", {"data": "x", "ttl": 1}),
        row("88.1/a", {"data": "x", "timestamp": 1}),
        row("88.1/a", {"data": "x", "permissions": "1100"}),
    ],
)
async def test_other_content_is_refused_unless_it_is_to_be_replaced(desk: Importing, other: dict[str, Any]) -> None:
    await desk.take(PREFIX, row("88.1/a", "x"))
    before = await desk.record("88.1/A")
    desk.clock.advance(60)
    taken = await desk.take(other)
    assert reasons(taken) == [(3, Reason.IDENTIFIER_EXISTS, "identifier")]
    assert await desk.record("88.1/A") == before
    taken = await desk.take(other, manner=OVER)
    assert counts(taken) == (0, 1, 0, 0)
    after = await desk.record("88.1/A")
    assert after
    assert after != before
    assert (after.registered_at, after.updated_at, after.version) == (NOW, NOW + 60, taken.index)


async def test_only_values_that_change_get_another_time(desk: Importing) -> None:
    await desk.take(PREFIX, row("88.1/a", "x", "y", "z"))
    desk.clock.advance(60)
    await desk.take(row("88.1/a", "x", "other", {"data": "z", "timestamp": 7}, "new"), manner=OVER)
    held = await desk.record("88.1/A")
    assert held
    assert [value.timestamp for value in held.values] == [NOW, NOW + 60, 7, NOW + 60]


async def test_a_restricted_value_that_becomes_public_is_public(desk: Importing) -> None:
    await desk.take(PREFIX, row("88.1/a", {"data": "x", "permissions": "1100"}))
    assert counts(await desk.take(row("88.1/a", "x"), manner=OVER)) == (0, 1, 0, 0)
    assert await desk.public("88.1/A") == await desk.record("88.1/A")


async def test_what_was_deleted_is_not_given_out_silently(desk: Importing) -> None:
    await desk.take(PREFIX)
    gone = Record(identifier=Handle("88.1", "a"), registered_at=5, tombstone=Tombstone(reason="sold", deleted_at=NOW))
    await desk.write(writes=[Write(b"88.1/A", record_body(gone, public=True))])
    assert reasons(await desk.take(row("88.1/a", "x"))) == [(2, Reason.IDENTIFIER_DELETED, "identifier")]
    assert counts(await desk.take(row("88.1/a", "x"), manner=OVER)) == (0, 1, 0, 0)
    held = await desk.record("88.1/A")
    assert held
    assert held.tombstone is None
    assert held.registered_at == NOW


@pytest.mark.parametrize(
    ("manner", "expected", "left"),
    [(Manner(), (2, 0, 1, 2), b"1"), (OVER, (2, 2, 1, 0), b"3")],
)
async def test_one_identifier_in_several_rows_of_a_part(
    desk: Importing, manner: Manner, expected: tuple[int, ...], left: bytes
) -> None:
    """As if they came one after another."""
    taken = await desk.take(
        PREFIX, row("88.1/a", "1"), row("88.1/a", "1"), row("88.1/a", "2"), row("88.1/a", "3"), manner=manner
    )
    assert counts(taken) == expected
    held = await desk.record("88.1/A")
    assert held
    assert held.values[0].data == left


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["88.1/a", "88.1/A", "88.1/b", "88.2/a"]), st.sampled_from(["", "x", "y"]), st.booleans()
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(STEPS, st.sampled_from([PLAIN, OVER]), st.integers(1, 12))
async def test_parts_of_any_size_come_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bool]], manner: Manner, size: int
) -> None:
    """A part of many rows and parts of a row each leave the same store and the same counts."""
    rows = [
        row(identifier, *([{"data": data, "permissions": "1100" if secret else "1110"}] if data else []))
        for identifier, data, secret in steps
    ]
    seen = []
    for step in (max(len(rows), 1), size):
        desk = Importing(tmp_path_factory.mktemp("desk"))
        await desk.take(PREFIX)
        total: Sequence[int] = (0, 0, 0, 0)
        for first in range(0, len(rows), step):
            taken = await desk.take(*rows[first : first + step], manner=manner)
            total = [before + now for before, now in zip(total, counts(taken), strict=True)]
        held = [await desk.record(key) for key in ("88.1/A", "88.1/B", "88.2/A")]
        seen.append((list(total), [each and _without_version(each) for each in held]))
        desk.store.close()
    assert seen[0] == seen[1]


def _without_version(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("identifier", "values", "registrant", "registered_at")}


# --- prefixes ------------------------------------------------------------------------------------------------------


async def test_a_prefix_has_its_parents_rule_when_it_does_not_say(desk: Importing) -> None:
    await desk.take(
        {"prefix": "88", "holder": "h", "case": "sensitive"},
        {"prefix": "88.1", "holder": "h"},
        {"prefix": "88.2", "holder": "h", "case": "insensitive"},
        {"prefix": "88.2.5", "holder": "h"},
        {"prefix": "89", "holder": "h"},
    )
    rules = {prefix.text: prefix.case for prefix in await desk.store.prefixes(None, 10)}
    sensitive, insensitive = CaseRule.SENSITIVE, CaseRule.INSENSITIVE
    assert rules == {
        "88": sensitive,
        "88.1": sensitive,
        "88.2": insensitive,
        "88.2.5": insensitive,
        "89": insensitive,
    }


async def test_keys_follow_the_rule_of_the_longest_allocated_prefix(desk: Importing) -> None:
    taken = await desk.take(
        {"prefix": "88", "holder": "h"},
        {"prefix": "88.Big", "holder": "h", "case": "sensitive"},
        row("88/aB"),
        row("88.big/aB"),
        row("88.BIG.x/aB"),
        row("88.big/AB"),
    )
    assert counts(taken) == (6, 0, 0, 0)
    for key in ("88/AB", "88.BIG/aB", "88.BIG.X/aB", "88.BIG/AB"):
        assert await desk.record(key)


async def test_a_prefix_that_is_allocated_already(desk: Importing) -> None:
    await desk.take(PREFIX)
    other = {**PREFIX, "holder": "another"}
    assert reasons(await desk.take(PREFIX, other)) == [(3, Reason.PREFIX_EXISTS, "prefix")]
    assert counts(await desk.take(other, manner=OVER)) == (0, 1, 0, 0)
    (held,) = await desk.store.prefixes(None, 10)
    assert held.holder == "another"
    await desk.take(row("88.1/a"))
    record = await desk.record("88.1/A")
    assert record
    assert record.registrant == "another"


SENSITIVE = {"holder": "h", "case": "sensitive"}
BELOW = {"prefix": "88.1.2", **SENSITIVE}


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        # The rule of a prefix that is there stays.
        ([PREFIX, {"prefix": "88.1", **SENSITIVE}], 2),
        # A new prefix in between may not change the keys of what is registered below it.
        ([PREFIX, row("88.1.2/a"), BELOW], 3),
        ([PREFIX, row("88.1.2.3/a"), BELOW], 3),
        # Nor may one that was only applied for.
        ([PREFIX, {**BELOW, "state": "pending"}, row("88.1.2/a"), BELOW], 4),
        # Nor may one that goes away.
        ([PREFIX, BELOW, row("88.1.2/a"), {**BELOW, "state": "rejected"}], 4),
    ],
)
async def test_the_case_rule_of_what_is_registered_never_changes(
    desk: Importing, rows: list[Any], line: int, size: int
) -> None:
    refused = []
    for first in range(0, len(rows), size):
        refused += reasons(await desk.take(*rows[first : first + size], manner=OVER))
    assert refused == [(line, Reason.PREFIX_RULE_FIXED, "case")]


@pytest.mark.parametrize(
    "rows",
    [
        [PREFIX, row("88.1/a"), row("88.12/a"), BELOW, row("88.1.2/a")],
        [BELOW, row("88.1.2/a"), PREFIX, row("88.1/a")],
        [PREFIX, {"prefix": "88.1.2", "holder": "h"}, {"prefix": "88.1.2.3", **SENSITIVE}, row("88.1.2.3/a")],
    ],
)
async def test_another_rule_where_nothing_is_registered(desk: Importing, rows: list[Any]) -> None:
    taken = await desk.take(*rows)
    assert [reject.fault.reason for reject in taken.rejects if reject.fault.reason is Reason.PREFIX_RULE_FIXED] == []
    desk.reopen()
    again = await desk.take(*rows)
    assert again.registered == 0
    assert again.unchanged == taken.registered


async def test_a_tombstone_keeps_the_rule_too(desk: Importing) -> None:
    await desk.take(PREFIX)
    gone = Record(identifier=Handle("88.1.2", "a"), tombstone=Tombstone(reason="", deleted_at=1))
    await desk.write(writes=[Write(b"88.1.2/A", record_body(gone, public=True))])
    taken = await desk.take(BELOW, row("88.1/b"))
    assert reasons(taken) == [(2, Reason.PREFIX_RULE_FIXED, "case")]
    assert taken.registered == 1


async def test_prefixes_written_by_others_are_seen(desk: Importing) -> None:
    await desk.take(PREFIX)
    await desk.write(prefixes=[Prefix("88.5", "other")])
    assert counts(await desk.take(row("88.5/a"))) == (1, 0, 0, 0)


# --- the import as a whole -----------------------------------------------------------------------------------------


async def test_an_import_knows_how_far_it_has_come(desk: Importing) -> None:
    await desk.take(PREFIX, row("88.1/a"), row("88.1/a"), b"{", row("88.1/a", "x"))
    reached = await desk.store.checkpoint("load")
    manifest = reached.manifest
    assert reached == Checkpoint(
        reached.offset, 5, 2, replaced=0, unchanged=1, rejected=2, chunks=1, manifest=manifest
    )
    await desk.take(row("88.1/b"))
    reached = await desk.store.checkpoint("load")
    assert manifest != reached.manifest
    manifest = reached.manifest
    assert reached == Checkpoint(
        reached.offset, 6, 3, replaced=0, unchanged=1, rejected=2, chunks=2, manifest=manifest
    )
    assert await desk.store.checkpoint("another") == Checkpoint()


async def test_after_its_last_chunk_an_import_begins_afresh(desk: Importing) -> None:
    await desk.take(PREFIX)
    await desk.take(row("88.1/a"), is_last=True)
    assert await desk.store.checkpoint("load") == Checkpoint()
    assert counts(await desk.take(PREFIX)) == (0, 0, 1, 0)


async def test_the_last_chunk_may_have_no_row(desk: Importing) -> None:
    await desk.take(PREFIX)
    assert counts(await desk.take(is_last=True)) == (0, 0, 0, 0)
    assert await desk.store.checkpoint("load") == Checkpoint()


async def test_chunks_that_are_planned_together_follow_on_each_other(desk: Importing) -> None:
    """The second is planned before the first is written."""
    first = await desk.plan(imports.plan, body(PREFIX), chunk=chunk(PREFIX))
    desk.state.add(first)
    said = body(row("88.1/a"), manifest=manifest(PREFIX), number=2, offset=100, end_offset=150)
    second = await imports.plan(desk.request(said, chunk=chunk(row("88.1/a"))), desk.state)
    assert second.refusals == {}
    both = manifest(PREFIX, row("88.1/a"))
    assert dict(second.checkpoints)["load"] == Checkpoint(150, 1, registered=2, chunks=2, manifest=both)


async def test_an_import_proves_which_chunks_it_was_made_of_in_their_order(desk: Importing) -> None:
    """Each envelope names all of them by one hash, which whoever holds the input can make again."""
    await desk.commit(await desk.plan(imports.plan, body(PREFIX), chunk=chunk(PREFIX)))
    following = row("88.1/a")
    for other in (NO_CHUNKS, manifest(following), manifest(PREFIX, PREFIX)):
        said = body(following, manifest=other, number=2, offset=100)
        fault = await refused(desk, said, chunk(following))
        assert (fault.reason, fault.field) == (Reason.LOAD_OUT_OF_STEP, "manifest_sha256")
        assert fault.variables == {"manifest": manifest(PREFIX).hex()}
    right = body(following, manifest=manifest(PREFIX), number=2, offset=100)
    assert right["manifest_sha256"] == manifest(PREFIX, following).hex()
    await desk.commit(await desk.plan(imports.plan, right, chunk=chunk(following)))
    assert (await desk.store.checkpoint("load")).manifest == manifest(PREFIX, following)


@pytest.mark.parametrize(
    "said",
    [
        {"number": 1, "offset": 0},
        {"number": 3, "offset": 100},
        {"number": 2, "offset": 99},
        {"number": 2, "offset": 0},
        {"number": 2, "offset": 101, "restart": True},
    ],
)
async def test_a_chunk_that_does_not_follow_is_refused(desk: Importing, said: dict[str, Any]) -> None:
    await desk.commit(await desk.plan(imports.plan, body(PREFIX), chunk=chunk(PREFIX)))
    fault = await refused(desk, body(PREFIX, **said), chunk(PREFIX))
    assert fault.reason is Reason.LOAD_OUT_OF_STEP
    assert fault.variables == {"offset": str(said["offset"]), "reached": "100", "chunks": "1"}


async def test_the_first_chunk_can_begin_afresh(desk: Importing) -> None:
    await desk.commit(await desk.plan(imports.plan, body(PREFIX), chunk=chunk(PREFIX)))
    again = await desk.plan(imports.plan, body(PREFIX, restart=True), chunk=chunk(PREFIX))
    assert dict(again.checkpoints)["load"] == Checkpoint(100, 1, unchanged=1, chunks=1, manifest=manifest(PREFIX))


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb"])
async def test_a_name_that_cannot_be_one(desk: Importing, name: str) -> None:
    fault = await refused(desk, body(PREFIX, name=name), chunk(PREFIX))
    assert (fault.reason, fault.field) == (Reason.FIELD_OUT_OF_RANGE, "name")


async def test_nodes_do_not_import(desk: Importing) -> None:
    with pytest.raises(Fault) as raised:
        await desk.plan(imports.plan, body(PREFIX), chunk=chunk(PREFIX), actor=Actor("maker", node("maker")))
    assert raised.value.reason is Reason.NOT_AUTHORISED


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"what": 1}, "what"),
        ({"number": 0}, "number"),
        ({"rows": 65_537}, "rows"),
        ({"chunk_bytes": (64 << 20) + 1}, "chunk_bytes"),
        ({"offset": -1}, "offset"),
        ({"chunk_sha256": "ab"}, "chunk_sha256"),
        ({"manifest_sha256": "0" * 64 + "\n"}, "manifest_sha256"),
        ({"name": None}, "name"),
    ],
)
async def test_a_body_that_cannot_be_read(desk: Importing, said: dict[str, Any], field: str) -> None:
    fault = await refused(desk, {**body(PREFIX), **said}, chunk(PREFIX))
    assert (fault.reason, fault.field) == (Reason.PAYLOAD_MALFORMED, field)


# --- chunks --------------------------------------------------------------------------------------------------------


def pack(content: Any, **options: Any) -> bytes:
    octets = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    return zstandard.ZstdCompressor(**options).compress(octets)


BLOCK = msgspec.msgpack.encode([[1], [], [{"identifier": "88.1/a", "values": []}]])
WIDE = msgspec.msgpack.encode(
    [
        list(range(BLOCK_ROWS + 1)),
        [],
        [{"identifier": f"88.1/{each}", "values": []} for each in range(BLOCK_ROWS + 1)],
    ]
)


@pytest.mark.parametrize(
    ("octets", "rows"),
    [
        (b"", 0),
        (b"no frame", 0),
        (pack([BLOCK])[:-1], 1),
        (pack([BLOCK]) + b"x", 1),
        (pack([BLOCK]) + pack([BLOCK]), 2),
        (pack([BLOCK], write_content_size=False), 1),
        (pack(b"\x00" * ((64 << 20) + 1)), 1),
        (pack({"blocks": []}), 0),
        (pack([BLOCK], level=3), 2),
        (pack([BLOCK, BLOCK]), 1),
        (pack([b"\xc1"]), 1),
        (pack([msgspec.msgpack.encode([[1, 2], [], [{"identifier": "88.1/a", "values": []}]])]), 2),
        (pack([msgspec.msgpack.encode([[], [], []])]), 0),
        (pack([msgspec.msgpack.encode([[1], [], [{"identifier": "88.1/a", "values": [], "what": 1}]])]), 1),
        (pack([b"\x93\x91\x01\x90\x91\x82\xaaidentifier\xa1\xff\xa6values\x90"]), 1),
        (pack([WIDE]), BLOCK_ROWS + 1),
    ],
)
async def test_a_chunk_that_cannot_be_read(desk: Importing, octets: bytes, rows: int) -> None:
    """Also one that would come to more bytes, or more rows at a time, than are allowed."""
    fault = await refused(desk, of(octets, rows), octets)
    assert (fault.reason, fault.field) == (Reason.CHUNK_MISMATCH, "chunk")


async def test_a_chunk_of_other_bytes(desk: Importing) -> None:
    fault = await refused(desk, body(PREFIX), chunk(row("88.1/a")))
    assert fault.reason is Reason.CHUNK_MISMATCH
    fault = await refused(desk, body(PREFIX, chunk_bytes=5), chunk(PREFIX))
    assert fault.reason is Reason.CHUNK_MISMATCH


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200)), max_size=6))
def test_rows_come_out_as_they_went_in(runs: list[tuple[bool, int]]) -> None:
    """In their order, with the numbers of their lines."""
    writer = ChunkWriter()
    rows: list[PrefixRow | IdentifierRow] = []
    for is_prefix, count in runs:
        for _ in range(count):
            text = f"88.{len(rows)}"
            rows.append(
                PrefixRow(prefix=text, holder="h", case="sensitive")
                if is_prefix
                else IdentifierRow(identifier=f"{text}/a", values=[])
            )
            writer.add(3 * len(rows), rows[-1])
    octets = writer.finish()
    blocks = opened(octets, len(rows))
    assert [each for block in blocks for each in (*block.prefixes, *block.identifiers)] == rows
    assert [line for block in blocks for line in block.lines] == [3 * number for number in range(1, len(rows) + 1)]
    assert all(len(block.lines) <= BLOCK_ROWS for block in blocks)


def test_binary_data_and_all_that_a_value_says_survive() -> None:
    said = {
        "index": 1,
        "type": "T",
        "data_base64": "AP8=",
        "expires_at": 7,
        "timestamp": 0,
        "permissions": "1110",
        "references": [{"handle": "88.1/b", "index": 0}],
    }
    before = msgspec.json.decode(msgspec.json.encode(row("88.1/a", said)), type=IdentifierRow)
    writer = ChunkWriter()
    writer.add(1, before)
    octets = writer.finish()
    (block,) = opened(octets, 1)
    assert block.identifiers == [before]


# --- stores that fail ----------------------------------------------------------------------------------------------


class Unwilling(EmbeddedWriter):
    """A store whose disk is full when it is told to be."""

    is_full = False

    async def commit(self, *arguments: Any, **more: Any) -> Any:
        if self.is_full:
            raise Fault(Reason.STORE_FULL)
        return await super().commit(*arguments, **more)


def fill(desk: Importing, *, is_full: bool) -> None:
    assert isinstance(desk.store, Unwilling)
    desk.store.is_full = is_full


@pytest.fixture
def unwilling(tmp_path: Path) -> Iterator[Importing]:
    made = Importing(tmp_path / "store", Unwilling)
    yield made
    made.store.close()


@pytest.mark.parametrize("rows", [[PREFIX, row("88.1/a")], [PREFIX, BELOW], [BELOW], [b"{"]])
async def test_a_store_that_fails_is_no_reason_to_refuse_a_row(unwilling: Importing, rows: list[Any]) -> None:
    fill(unwilling, is_full=True)
    with pytest.raises(Fault) as raised:
        await unwilling.take(*rows)
    assert raised.value.reason is Reason.STORE_FULL
    assert await unwilling.store.checkpoint("load") == Checkpoint()
    fill(unwilling, is_full=False)
    taken = await unwilling.take(*rows)
    assert taken.registered + len(taken.rejects) == len(rows)


async def test_prefixes_of_a_chunk_that_was_not_written_are_forgotten(unwilling: Importing) -> None:
    fill(unwilling, is_full=True)
    with pytest.raises(Fault):
        await unwilling.take(PREFIX)
    fill(unwilling, is_full=False)
    taken = await unwilling.take(row("88.1/a"), name="other")
    assert reasons(taken) == [(1, Reason.PREFIX_NOT_ALLOCATED, "identifier")]
    assert counts(await unwilling.take(PREFIX)) == (1, 0, 0, 0)
