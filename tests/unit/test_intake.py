"""What may be registered and what a part of a load comes to, over a real store in a folder of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from registry.intake import SLICE, Intake, Manner
from registry.loading import Loading, Taken
from registry.parts import Part
from registry.rows import RowFormat
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle
from resolver.record import Record, Relative, Tombstone, Value
from resolver.routes import Prefix, PrefixState
from resolver.store import Checkpoint, Write
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.wire import decode_record, record_body

NOW = 1_800_000_000
PREFIX = {"prefix": "88.1", "holder": "maker"}
PLAIN, OVER = Manner(), Manner(overwrite=True)


class Desk:
    """A store with its intake, and short ways to use them."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock(wall=NOW)
        self.registry = CollectorRegistry()
        self.store = EmbeddedWriter.open(folder, owner=Owner.here("test", clock=self.clock), clock=self.clock)
        self.reopen()

    def reopen(self) -> None:
        """Begin again without anything remembered but what is in the store."""
        self.registry = CollectorRegistry()
        self.loading = Loading(self.store, Intake(self.store, self.clock), self.registry)

    async def take(self, *rows: Any, manner: Manner = PLAIN, name: str = "load") -> Taken:
        """Take rows as the next part of a load."""
        lines = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        reached = await self.loading.begin(name)
        part = Part(
            offset=reached.offset,
            end_offset=reached.offset + len(lines),
            first_line=reached.lines + 1,
            rows=lines,
        )
        return await self.loading.take(name, part, manner)

    async def record(self, key: str) -> Record | None:
        """Give what is held with all values."""
        (body,) = (await self.store.full([key.encode()])).bodies
        return None if body is None else decode_record(body)

    async def public(self, key: str) -> Record | None:
        (body,) = (await self.store.public([key.encode()])).bodies
        return None if body is None else decode_record(body)

    def count(self, verdict: str) -> float:
        return self.registry.get_sample_value("topnode_load_rows_total", {"verdict": verdict}) or 0.0


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "store")
    yield made
    made.store.close()


def row(identifier: str, *values: Any, **more: Any) -> dict[str, Any]:
    """Make a row; a value is its data, or a dict of what is to be another way."""
    rows = [
        {"index": number, "type": "T", **(value if isinstance(value, dict) else {"data": value})}
        for number, value in enumerate(values, 1)
    ]
    return {"identifier": identifier, "values": rows, **more}


def counts(taken: Taken) -> tuple[int, int, int, int]:
    return taken.registered, taken.replaced, taken.unchanged, len(taken.rejects)


def reasons(taken: Taken) -> list[tuple[int, Reason, str]]:
    return [(line, fault.reason, fault.field) for line, fault, _ in taken.rejects]


# --- registering ---------------------------------------------------------------------------------------------------


async def test_a_row_becomes_a_record(desk: Desk) -> None:
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
async def test_who_registers(desk: Desk, said: dict[str, str], manner: Manner, registrant: str) -> None:
    await desk.take(PREFIX, row("88.1/a", **said), manner=manner)
    held = await desk.record("88.1/A")
    assert held
    assert held.registrant == registrant


async def test_restricted_values_are_in_the_full_body_only(desk: Desk) -> None:
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


async def test_a_csv_part(desk: Desk) -> None:
    await desk.take(PREFIX)
    rows = b"88.1/a,http://x,\r\n88.1/b,,\r\n88.2/c,y,\r\n88.1/d\r\n"
    manner = Manner(format=RowFormat.CSV, columns=("identifier", "URL", "5:NAME"))
    taken = await desk.loading.take("csv", Part(offset=0, end_offset=90, first_line=2, rows=rows), manner)
    assert counts(taken) == (2, 0, 0, 2)
    assert reasons(taken) == [
        (4, Reason.PREFIX_NOT_ALLOCATED, "identifier"),
        (5, Reason.ROW_MALFORMED, ""),
    ]
    held = await desk.record("88.1/A")
    assert held
    assert held.values == (Value(index=1, type="URL", data=b"http://x", timestamp=NOW),)


async def test_csv_columns_that_make_no_sense_refuse_the_part(desk: Desk) -> None:
    manner = Manner(format=RowFormat.CSV, columns=("URL",))
    with pytest.raises(Fault) as raised:
        await desk.loading.take("csv", Part(offset=0, end_offset=2, first_line=1, rows=b"x\n"), manner)
    assert (raised.value.reason, raised.value.field) == (Reason.ROW_MALFORMED, "identifier")


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
async def test_a_row_is_refused_for_itself(desk: Desk, refused: Any, reason: Reason, field: str) -> None:
    taken = await desk.take(PREFIX, row("88.1/before"), refused, row("88.1/after"))
    assert reasons(taken) == [(3, reason, field)]
    assert taken.registered == 3
    (reject,) = taken.rejects
    assert reject.row == (refused if isinstance(refused, bytes) else json.dumps(refused).encode())
    assert desk.count("rejected") == 1


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
    desk: Desk, state: str, more: dict[str, Any], reason: Reason | None
) -> None:
    taken = await desk.take({**PREFIX, "state": state, **more}, row("88.1/a"), row("88.1.7/a"))
    assert reasons(taken) == ([] if reason is None else [(2, reason, "identifier"), (3, reason, "identifier")])


async def test_a_term_ends_while_a_load_goes_on(desk: Desk) -> None:
    assert counts(await desk.take({**PREFIX, "expires_at": NOW + 10}, row("88.1/a"))) == (2, 0, 0, 0)
    desk.clock.advance(10)
    assert reasons(await desk.take(row("88.1/b"))) == [(3, Reason.PREFIX_EXPIRED, "identifier")]


async def test_rows_are_checked_by_the_prefixes_before_them(desk: Desk) -> None:
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


async def test_more_rows_than_are_taken_at_a_time(desk: Desk) -> None:
    rows = [row(f"88.1/{number:05}", "x") for number in range(3 * SLICE + 7)]
    taken = await desk.take(PREFIX, *rows, rows[0])
    assert counts(taken) == (len(rows) + 1, 0, 1, 0)
    assert len((await desk.store.identifiers(b"88.1", derived=False, after=None, limit=10_000)).identifiers) == len(
        rows
    )


async def test_others_have_their_turns_while_a_part_is_taken(desk: Desk) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    await asyncio.sleep(0)
    await desk.take(PREFIX, *(row(f"88.1/{number}", "x") for number in range(20 * SLICE)))
    counting.cancel()
    assert turns > 20


# --- what is registered already -----------------------------------------------------------------------------------


async def test_the_same_again_changes_nothing(desk: Desk) -> None:
    rows = [PREFIX, row("88.1/a", "x", {"data": "s", "permissions": "1100"}), row("88.1/b")]
    first = await desk.take(*rows)
    before = await desk.record("88.1/A")
    desk.clock.advance(60)
    again = await desk.take(*rows)
    assert counts(again) == (0, 0, 3, 0)
    assert again.index == first.index
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
async def test_other_content_is_refused_unless_it_is_to_be_replaced(desk: Desk, other: dict[str, Any]) -> None:
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


async def test_only_values_that_change_get_another_time(desk: Desk) -> None:
    await desk.take(PREFIX, row("88.1/a", "x", "y", "z"))
    desk.clock.advance(60)
    await desk.take(row("88.1/a", "x", "other", {"data": "z", "timestamp": 7}, "new"), manner=OVER)
    held = await desk.record("88.1/A")
    assert held
    assert [value.timestamp for value in held.values] == [NOW, NOW + 60, 7, NOW + 60]


async def test_a_restricted_value_that_becomes_public_is_public(desk: Desk) -> None:
    await desk.take(PREFIX, row("88.1/a", {"data": "x", "permissions": "1100"}))
    assert counts(await desk.take(row("88.1/a", "x"), manner=OVER)) == (0, 1, 0, 0)
    assert await desk.public("88.1/A") == await desk.record("88.1/A")


async def test_what_was_deleted_is_not_given_out_silently(desk: Desk) -> None:
    await desk.take(PREFIX)
    gone = Record(identifier=Handle("88.1", "a"), registered_at=5, tombstone=Tombstone(reason="sold", deleted_at=NOW))
    await desk.store.commit([Write(b"88.1/A", record_body(gone, public=True))])
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
    desk: Desk, manner: Manner, expected: tuple[int, ...], left: bytes
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
        desk = Desk(tmp_path_factory.mktemp("desk"))
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


async def test_a_prefix_has_its_parents_rule_when_it_does_not_say(desk: Desk) -> None:
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


async def test_keys_follow_the_rule_of_the_longest_allocated_prefix(desk: Desk) -> None:
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


async def test_a_prefix_that_is_allocated_already(desk: Desk) -> None:
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
    desk: Desk, rows: list[Any], line: int, size: int
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
async def test_another_rule_where_nothing_is_registered(desk: Desk, rows: list[Any]) -> None:
    taken = await desk.take(*rows)
    assert [reject.fault.reason for reject in taken.rejects if reject.fault.reason is Reason.PREFIX_RULE_FIXED] == []
    desk.reopen()
    again = await desk.take(*rows)
    assert again.registered == 0
    assert again.unchanged == taken.registered


async def test_a_tombstone_keeps_the_rule_too(desk: Desk) -> None:
    await desk.take(PREFIX)
    gone = Record(identifier=Handle("88.1.2", "a"), tombstone=Tombstone(reason="", deleted_at=1))
    await desk.store.commit([Write(b"88.1.2/A", record_body(gone, public=True))])
    taken = await desk.take(BELOW, row("88.1/b"))
    assert reasons(taken) == [(2, Reason.PREFIX_RULE_FIXED, "case")]
    assert taken.registered == 1


async def test_prefixes_written_by_others_are_seen(desk: Desk) -> None:
    await desk.take(PREFIX)
    await desk.store.commit(prefixes=[Prefix("88.5", "other")])
    assert counts(await desk.take(row("88.5/a"))) == (1, 0, 0, 0)


# --- the load as a whole -------------------------------------------------------------------------------------------


async def test_a_load_knows_how_far_it_has_come(desk: Desk) -> None:
    assert await desk.loading.begin("load") == Checkpoint()
    await desk.take(PREFIX, row("88.1/a"), row("88.1/a"), b"{", row("88.1/a", "x"))
    desk.reopen()
    reached = await desk.loading.begin("load")
    assert reached == Checkpoint(reached.offset, 5, registered=2, replaced=0, unchanged=1, rejected=2)
    assert await desk.loading.begin("another") == Checkpoint()
    assert await desk.loading.begin("load", restart=True) == Checkpoint()
    assert await desk.loading.begin("load") == Checkpoint()


@pytest.mark.parametrize("offset", [0, 3, 10_000])
async def test_rows_that_do_not_follow_are_refused(desk: Desk, offset: int) -> None:
    await desk.take(PREFIX)
    before = await desk.loading.begin("load")
    with pytest.raises(Fault) as raised:
        await desk.loading.take("load", Part(offset=offset, end_offset=99, first_line=2, rows=b"{}\n"), Manner())
    assert raised.value.reason is Reason.LOAD_OUT_OF_STEP
    assert raised.value.variables == {"offset": str(offset), "reached": str(before.offset)}
    assert await desk.loading.begin("load") == before


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb"])
async def test_a_name_that_cannot_be_one(desk: Desk, name: str) -> None:
    with pytest.raises(Fault) as raised:
        await desk.loading.begin(name)
    assert (raised.value.reason, raised.value.field) == (Reason.FIELD_OUT_OF_RANGE, "load")


class Unwilling(EmbeddedWriter):
    """A store whose disk is full when it is told to be."""

    is_full = False

    async def commit(self, *arguments: Any, **more: Any) -> Any:
        if self.is_full:
            raise Fault(Reason.STORE_FULL)
        return await super().commit(*arguments, **more)

    async def load(self, *arguments: Any, **more: Any) -> Any:
        if self.is_full:
            raise Fault(Reason.STORE_FULL)
        return await super().load(*arguments, **more)


@pytest.fixture
def unwilling(tmp_path: Path) -> Iterator[Unwilling]:
    store = Unwilling.open(tmp_path / "store", owner=Owner.here("test", clock=SetClock()))
    yield store
    store.close()


@pytest.mark.parametrize("rows", [[PREFIX, row("88.1/a")], [PREFIX, BELOW], [BELOW], [b"{"]])
async def test_a_store_that_fails_is_no_reason_to_refuse_a_row(unwilling: Unwilling, rows: list[Any]) -> None:
    unwilling.is_full = True
    loading = Loading(unwilling, Intake(unwilling, SetClock(wall=NOW)), CollectorRegistry())
    lines = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in rows)
    part = Part(offset=0, end_offset=len(lines), first_line=1, rows=lines)
    with pytest.raises(Fault) as raised:
        await loading.take("load", part, Manner())
    assert raised.value.reason is Reason.STORE_FULL
    assert await loading.begin("load") == Checkpoint()
    unwilling.is_full = False
    taken = await loading.take("load", part, Manner())
    assert taken.registered + taken.unchanged + len(taken.rejects) == len(rows)


async def test_prefixes_of_a_part_that_was_not_written_are_forgotten(unwilling: Unwilling) -> None:
    loading = Loading(unwilling, Intake(unwilling, SetClock(wall=NOW)), CollectorRegistry())
    lines = json.dumps(PREFIX).encode() + b"\n"
    part = Part(offset=0, end_offset=len(lines), first_line=1, rows=lines)
    unwilling.is_full = True
    with pytest.raises(Fault) as raised:
        await loading.take("load", part, Manner())
    assert raised.value.reason is Reason.STORE_FULL
    unwilling.is_full = False
    other = json.dumps(row("88.1/a")).encode() + b"\n"
    taken = await loading.take("other", Part(offset=0, end_offset=9, first_line=1, rows=other), Manner())
    assert reasons(taken) == [(1, Reason.PREFIX_NOT_ALLOCATED, "identifier")]
    assert counts(await loading.take("load", part, Manner())) == (1, 0, 0, 0)


class Shared(EmbeddedWriter):
    """A store to which somebody else writes the first row just before a load does."""

    async def load(self, writes: Sequence[Write], *arguments: Any, **more: Any) -> Any:
        await self.commit(writes[:1])
        return await super().load(writes, *arguments, **more)


async def test_what_others_registered_meanwhile_is_not_passed_over(tmp_path: Path) -> None:
    with closing(Shared.open(tmp_path / "store", owner=Owner.here("test", clock=SetClock()))) as store:
        await store.commit(prefixes=[Prefix("88.1", "maker")])
        loading = Loading(store, Intake(store, SetClock(wall=NOW)), CollectorRegistry())
        lines = json.dumps(row("88.1/a")).encode() + b"\n"
        with pytest.raises(Fault) as raised:
            await loading.take("load", Part(offset=0, end_offset=9, first_line=1, rows=lines), Manner())
        assert raised.value.reason is Reason.LOAD_OUT_OF_STEP


async def test_rows_are_counted_by_what_became_of_them(desk: Desk) -> None:
    await desk.take(PREFIX, row("88.1/a"), row("88.1/a"), row("88.1/a", "x"), b"{", manner=OVER)
    assert [desk.count(verdict) for verdict in ("registered", "replaced", "unchanged", "rejected")] == [2, 1, 1, 1]
    refused = desk.registry.get_sample_value("topnode_load_rejects_total", {"reason": "ROW_MALFORMED"})
    assert refused == 1
