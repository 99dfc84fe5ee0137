"""What requests about identifiers come to, row by row, over a real store in a folder of its own."""

import asyncio
import json
from base64 import b32decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import identifiers
from registry.identifiers import Row
from registry.plans import Actor, Outcome, Plan
from registry.rows import ValueRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle
from resolver.record import Record, Tombstone, Value
from resolver.routes import Prefix, PrefixState
from tests.committing import NOW, Committing
from tests.planning import node

REGISTERED, REPLACED, UNCHANGED = Outcome.REGISTERED, Outcome.REPLACED, Outcome.UNCHANGED
DELETED, REFUSED = Outcome.DELETED, Outcome.REFUSED

PREFIXES = (
    Prefix("88.1", "maker"),
    Prefix("88.1.5", "enterprise"),
    Prefix("88.2", "other"),
    Prefix("88.3", "maker", case=CaseRule.SENSITIVE),
    Prefix("88.4", "maker", state=PrefixState.DISABLED),
    Prefix("88.5", "maker", expires_at=NOW),
)
SECRET = {"permissions": "1100"}


class Desk(Committing):
    """Plans and commits requests of one node, which holds 88.1."""

    maker = Actor("maker", node("maker"))

    async def take(self, *rows: dict[str, Any], partial: bool = False, actor: Actor | None = None) -> Plan:
        """Plan a request, and commit it unless all of it is refused."""
        plan = await self.plan(identifiers.plan, {"rows": rows, "partial": partial}, actor=actor or self.maker)
        if any(outcome is not REFUSED for outcome in plan.outcomes):
            await self.commit(plan)
        return plan

    async def one(self, row: dict[str, Any], actor: Actor | None = None) -> Outcome:
        """Take a row, which is not refused."""
        plan = await self.take(row, actor=actor)
        assert plan.refusals == {}
        (outcome,) = plan.outcomes
        return outcome

    async def fault(self, row: dict[str, Any], actor: Actor | None = None) -> tuple[Reason, str]:
        """Have a row refused, and give reason and field."""
        plan = await self.take(row, actor=actor)
        assert (list(plan.outcomes), plan.writes, plan.minted) == ([REFUSED], (), {})
        fault = plan.refusals[0]
        return fault.reason, fault.field

    async def held(self, key: str) -> Record:
        record = await self.record(key)
        assert record
        return record


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "store")
    await made.write(prefixes=PREFIXES)
    yield made
    made.store.close()


def row(identifier: str, *values: Any, **more: Any) -> dict[str, Any]:
    """Make a row; a value is its data, or a dict of what is to be another way."""
    rows = [
        {"index": number, "type": "T", **(value if isinstance(value, dict) else {"data": value})}
        for number, value in enumerate(values, 1)
    ]
    return {"identifier": identifier, "values": rows, **more}


def data(record: Record) -> dict[int, bytes]:
    return {value.index: value.data for value in record.values}


# --- registering -------------------------------------------------------------------------------------------------


async def test_a_row_becomes_a_record(desk: Desk) -> None:
    assert await desk.one(row("88.1/aB", "x", {"data": "y", "timestamp": 5})) is REGISTERED
    assert await desk.held("88.1/AB") == Record(
        identifier=Handle("88.1", "aB"),
        values=(
            Value(index=1, type="T", data=b"x", timestamp=NOW),
            Value(index=2, type="T", data=b"y", timestamp=5),
        ),
        registrant="maker",
        registered_at=NOW,
        updated_at=NOW,
        version=await desk.store.head(),
    )


async def test_who_registers(desk: Desk) -> None:
    """The holder of the prefix, unless the row says another."""
    await desk.one(row("88.1/a"), Actor("local"))
    await desk.one(row("88.1/b", registrant="88.1.77"))
    assert (await desk.held("88.1/A")).registrant == "maker"
    assert (await desk.held("88.1/B")).registrant == "88.1.77"


async def test_restricted_values_are_in_the_full_body_only(desk: Desk) -> None:
    await desk.one(row("88.1/a", "open", {"data": "secret", **SECRET}))
    public = await desk.public("88.1/A")
    assert public
    assert data(public) == {1: b"open"}
    assert data(await desk.held("88.1/A")) == {1: b"open", 2: b"secret"}


async def test_keys_follow_the_case_rule_of_the_prefix(desk: Desk) -> None:
    plan = await desk.take(row("88.3/a", "x"), row("88.3/A", "y"), row("88.1.x/a", "z"))
    assert list(plan.outcomes) == [REGISTERED] * 3
    assert data(await desk.held("88.3/a")) == {1: b"x"}
    assert data(await desk.held("88.1.X/A")) == {1: b"z"}


async def test_a_thousand_rows_let_others_have_their_turns(desk: Desk) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    plan = await desk.plan(
        identifiers.plan, {"rows": [row(f"88.1/{each}", "x") for each in range(1_000)]}, actor=desk.maker
    )
    counting.cancel()
    assert list(plan.outcomes) == [REGISTERED] * 1_000
    assert turns >= 7


async def test_what_is_there_is_not_replaced_silently(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x"))
    desk.clock.advance(60)
    assert await desk.one(row("88.1/a", "x")) is UNCHANGED
    assert await desk.fault(row("88.1/a", "y")) == (Reason.IDENTIFIER_EXISTS, "identifier")
    assert await desk.one(row("88.1/a", "y", overwrite=True)) is REPLACED
    held = await desk.held("88.1/A")
    assert data(held) == {1: b"y"}
    assert (held.registered_at, held.updated_at) == (NOW, NOW + 60)


async def test_what_was_deleted_is_not_given_out_silently(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x"))
    await desk.one({"op": "delete", "identifier": "88.1/a", "reason": "scrapped"})
    assert await desk.fault(row("88.1/a", "x")) == (Reason.IDENTIFIER_DELETED, "identifier")
    desk.clock.advance(60)
    assert await desk.one(row("88.1/a", "x", overwrite=True)) is REPLACED
    held = await desk.held("88.1/A")
    assert (held.tombstone, held.registered_at) == (None, NOW + 60)


async def test_a_restricted_value_that_becomes_public_leaves_nothing_behind(desk: Desk) -> None:
    await desk.one(row("88.1/a", {"data": "x", **SECRET}))
    await desk.one(row("88.1/a", "x", overwrite=True))
    assert await desk.public("88.1/A") == await desk.record("88.1/A")


# --- changing ----------------------------------------------------------------------------------------------------


async def test_update_replaces_all_values(desk: Desk) -> None:
    await desk.one(row("88.1/aB", "x", "y", registrant="88.1.7"))
    desk.clock.advance(60)
    assert await desk.one(row("88.1/AB", "x", {"index": 5, "data": "z"}, op="update")) is REPLACED
    held = await desk.held("88.1/AB")
    assert data(held) == {1: b"x", 5: b"z"}
    assert [value.timestamp for value in held.values] == [NOW, NOW + 60]
    assert (held.registrant, held.registered_at, held.updated_at) == ("88.1.7", NOW, NOW + 60)
    assert held.identifier.to_text() == "88.1/aB"  # the spelling stays


async def test_update_can_name_another_registrant(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x"))
    assert await desk.one(row("88.1/a", "x", op="update", registrant="88.1.8")) is REPLACED
    assert (await desk.held("88.1/A")).registrant == "88.1.8"


async def test_set_values_adds_and_replaces_by_index(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x", "y", "z"))
    desk.clock.advance(60)
    values = [{"index": 9, "type": "T", "data": "new"}, {"index": 2, "type": "T", "data": "other"}]
    assert await desk.one({"op": "set_values", "identifier": "88.1/a", "values": values}) is REPLACED
    held = await desk.held("88.1/A")
    assert data(held) == {1: b"x", 2: b"other", 3: b"z", 9: b"new"}
    assert [value.timestamp for value in held.values] == [NOW, NOW + 60, NOW, NOW + 60]


async def test_remove_values_takes_those_away_that_are_there(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x", {"data": "s", **SECRET}, "z"))
    assert await desk.one({"op": "remove_values", "identifier": "88.1/a", "indexes": [2, 3, 77]}) is REPLACED
    assert data(await desk.held("88.1/A")) == {1: b"x"}
    assert await desk.public("88.1/A") == await desk.record("88.1/A")


async def test_delete_leaves_a_tombstone(desk: Desk) -> None:
    await desk.one(row("88.1/a", "x", {"data": "s", **SECRET}))
    desk.clock.advance(60)
    assert await desk.one({"op": "delete", "identifier": "88.1/a", "reason": "scrapped"}) is DELETED
    held = await desk.held("88.1/A")
    assert held.tombstone == Tombstone(reason="scrapped", deleted_at=NOW + 60)
    assert (held.values, held.registered_at, held.updated_at) == ((), NOW, NOW + 60)
    assert await desk.public("88.1/A") == held


@pytest.mark.parametrize(
    "change",
    [
        row("88.1/a", "x", "y", op="update"),
        row("88.1/a", "x", op="set_values"),
        {"op": "set_values", "identifier": "88.1/a", "values": []},
        {"op": "remove_values", "identifier": "88.1/a", "indexes": [3]},
        {"op": "remove_values", "identifier": "88.1/a", "indexes": []},
    ],
)
async def test_a_change_that_changes_nothing(desk: Desk, change: dict[str, Any]) -> None:
    await desk.one(row("88.1/a", "x", "y"))
    before = await desk.held("88.1/A")
    desk.clock.advance(60)
    assert await desk.one(change) is UNCHANGED
    assert await desk.held("88.1/A") == before


CHANGES: list[dict[str, Any]] = [
    row("88.1/a", "z", op="update"),
    row("88.1/a", "z", op="set_values"),
    {"op": "remove_values", "identifier": "88.1/a", "indexes": [1]},
    {"op": "delete", "identifier": "88.1/a", "reason": "sold"},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_only_what_is_there_can_be_changed(desk: Desk, change: dict[str, Any]) -> None:
    assert await desk.fault(change) == (Reason.IDENTIFIER_UNKNOWN, "identifier")
    await desk.one(row("88.1/a", "x"))
    await desk.one({"op": "delete", "identifier": "88.1/a"})
    assert await desk.fault(change) == (Reason.IDENTIFIER_DELETED, "identifier")


@pytest.mark.parametrize("change", CHANGES)
async def test_the_expected_version(desk: Desk, change: dict[str, Any]) -> None:
    await desk.one(row("88.1/a", "x"))
    version = (await desk.held("88.1/A")).version
    plan = await desk.take({**change, "expected_version": version + 1})
    fault = plan.refusals[0]
    assert (fault.reason, fault.field) == (Reason.VERSION_MISMATCH, "expected_version")
    assert fault.variables == {"version": str(version), "expected": str(version + 1)}
    assert await desk.one({**change, "expected_version": version}) in {REPLACED, DELETED}
    assert await desk.fault({**change, "expected_version": version}) != (Reason.IDENTIFIER_UNKNOWN, "identifier")


async def test_the_version_of_what_is_planned_in_the_same_group(desk: Desk) -> None:
    """Two requests expect the same version: the second of the group is refused."""
    await desk.one(row("88.1/a", "x"))
    change = row("88.1/a", "y", op="update", expected_version=await desk.store.head())
    body = {"rows": [change]}
    desk.state.add(await desk.plan(identifiers.plan, body, actor=desk.maker))
    second = await identifiers.plan(desk.request(body, actor=desk.maker), desk.state)
    assert second.refusals[0].reason is Reason.VERSION_MISMATCH


# --- minting -----------------------------------------------------------------------------------------------------


async def test_suffixes_that_the_node_makes_up(desk: Desk) -> None:
    """Different in each row, and the same when the same request is planned again."""
    rows = [{"mint": "88.1", "values": []}, row("88.1/a"), {"mint": "88.1.x", "values": []}]
    plan = await desk.take(*rows)
    assert list(plan.minted) == [0, 2]
    first, second = (Handle.from_text(identifier) for identifier in plan.minted.values())
    assert (first.prefix, second.prefix) == ("88.1", "88.1.x")
    assert first.suffix != second.suffix
    assert {len(b32decode(each.suffix)) for each in (first, second)} == {identifiers.MINTED_BYTES}
    for minted in plan.minted.values():
        assert (await desk.held(minted.upper())).identifier.to_text() == minted
    again = await desk.plan(identifiers.plan, {"rows": rows, "partial": False}, actor=desk.maker)
    assert again.minted == plan.minted
    assert list(again.outcomes) == [UNCHANGED] * 3


async def test_nothing_is_made_up_below_the_prefix_of_another(desk: Desk) -> None:
    plan = await desk.take({"mint": "88.2", "values": []}, {"mint": "88.1", "values": []}, partial=True)
    assert list(plan.outcomes) == [REFUSED, REGISTERED]
    assert plan.refusals[0].reason is Reason.PREFIX_NOT_HELD
    assert list(plan.minted) == [1]


# --- who may, and where --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        ("88.2/a", Reason.PREFIX_NOT_HELD),
        ("88.1.5/a", Reason.PREFIX_NOT_HELD),
        ("88.1.5.6/a", Reason.PREFIX_NOT_HELD),
        ("88.11/a", Reason.PREFIX_NOT_ALLOCATED),
        ("88/a", Reason.PREFIX_NOT_ALLOCATED),
        ("99/a", Reason.PREFIX_NOT_ALLOCATED),
        ("88.4/a", Reason.PREFIX_DISABLED),
        ("88.5/a", Reason.PREFIX_EXPIRED),
        ("", None),
        ("88.1", Reason.IDENTIFIER_NO_SLASH),
        ("88.1/", Reason.IDENTIFIER_EMPTY_SUFFIX),
        ("/a", Reason.PREFIX_EMPTY_SEGMENT),
        ("88..1/a", Reason.PREFIX_EMPTY_SEGMENT),
        ("88.1/a\x7f", Reason.IDENTIFIER_CONTROL_CHARACTER),
        ("88.1\n/a", Reason.IDENTIFIER_CONTROL_CHARACTER),
        ("88.1/" + "ü" * 1_022, Reason.IDENTIFIER_TOO_LONG),
    ],
)
@pytest.mark.parametrize("op", ["register", "delete"])
async def test_an_identifier_that_cannot_be_written(
    desk: Desk, identifier: str, reason: Reason | None, op: str
) -> None:
    said = row(identifier) if op == "register" else {"identifier": identifier, "op": op}
    if reason is None:
        with pytest.raises(Fault) as raised:
            await desk.take(said)
        assert raised.value.reason is Reason.PAYLOAD_MALFORMED
        return
    assert await desk.fault(said) == (reason, "identifier")


async def test_what_is_not_printable_is_not_what_is_forbidden(desk: Desk) -> None:
    """A no-break space is neither printable nor a control character."""
    assert await desk.one(row("88.1/a\u00a0b")) is REGISTERED
    assert await desk.one(row("88.1/" + "a" * 2_043)) is REGISTERED


async def test_operators_write_below_any_prefix(desk: Desk) -> None:
    assert await desk.one(row("88.2/a"), Actor("local")) is REGISTERED
    assert await desk.one(row("88.1.5/a"), Actor("enterprise", node("enterprise", parent="maker"))) is REGISTERED


# --- all or none, or some ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (row("88.2/a"), Reason.PREFIX_NOT_HELD, "identifier"),
        (row("88.1/a", {"data": "x", "index": 0}), Reason.VALUE_INVALID, "values[0].index"),
        (row("88.1/a", "x", {"data": "x", "index": 1}), Reason.VALUE_INVALID, "values"),
        (row("88.1/a", {"data": "x", "type": "a."}), Reason.VALUE_INVALID, "values[0].type"),
        (row("88.1/a", "x", {}), Reason.ROW_MALFORMED, "values[1].data"),
        (row("88.1/a", {"data": "x", "ttl": -1}), Reason.VALUE_INVALID, "values[0].lifetime"),
        (row("88.1/a", {"data": "x", "timestamp": 1 << 33}), Reason.VALUE_INVALID, "values[0].timestamp"),
        (row("88.1/a", {"data": "x", "permissions": "2"}), Reason.VALUE_INVALID, "values[0].permissions"),
        (row("88.1/a", {"data": "x" * 65_537}), Reason.VALUE_INVALID, "values[0].data"),
        (row("88.1/a", registrant="a\nb"), Reason.VALUE_INVALID, "registrant"),
        (row("88.1/a", *["x"] * 2_049), Reason.RECORD_TOO_LARGE, "values"),
        (row("88.1/a", *["x" * 60_000] * 5), Reason.RECORD_TOO_LARGE, "values"),
        (row("88.1/there", "x"), Reason.IDENTIFIER_EXISTS, "identifier"),
        (row("88.1/there", *["x"] * 2_049, op="set_values"), Reason.RECORD_TOO_LARGE, "values"),
        (row("88.1/there", {"data": "x", "index": 0}, op="update"), Reason.VALUE_INVALID, "values[0].index"),
        ({"op": "delete", "identifier": "88.1/there", "reason": "\n"}, Reason.VALUE_INVALID, "reason"),
        ({"op": "delete", "identifier": "88.1/nowhere"}, Reason.IDENTIFIER_UNKNOWN, "identifier"),
    ],
)
async def test_one_row_that_is_refused(desk: Desk, bad: dict[str, Any], reason: Reason, field: str) -> None:
    """It refuses all others where all or none were asked for, else only itself."""
    await desk.one(row("88.1/there"))
    rows = [row("88.1/before"), bad, row("88.1/after")]
    whole = await desk.take(*rows)
    assert list(whole.outcomes) == [REFUSED] * 3
    assert [(fault.reason, fault.field) for _, fault in sorted(whole.refusals.items())] == [
        (Reason.ROW_NOT_TAKEN, ""),
        (reason, field),
        (Reason.ROW_NOT_TAKEN, ""),
    ]
    assert (whole.writes, whole.minted, whole.prefixes, whole.checkpoints) == ((), {}, (), ())
    assert await desk.record("88.1/BEFORE") is None
    part = await desk.take(*rows, partial=True)
    assert list(part.outcomes) == [REGISTERED, REFUSED, REGISTERED]
    assert [(row, fault.reason) for row, fault in part.refusals.items()] == [(1, reason)]
    assert await desk.record("88.1/AFTER")


async def test_two_rows_for_one_identifier_are_both_refused(desk: Desk) -> None:
    rows = [row("88.1/a", "x"), row("88.1/b"), {"op": "delete", "identifier": "88.1/A"}]
    plan = await desk.take(*rows, partial=True)
    assert list(plan.outcomes) == [REFUSED, REGISTERED, REFUSED]
    assert {fault.reason for fault in plan.refusals.values()} == {Reason.ROW_REPEATED}
    assert list((await desk.take(*rows)).outcomes) == [REFUSED] * 3


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"{", Reason.PAYLOAD_MALFORMED, "body"),
        (b"[]", Reason.PAYLOAD_MALFORMED, "body"),
        (b"{}", Reason.PAYLOAD_MALFORMED, "rows"),
        (b'{"rows":[],"what":1}', Reason.PAYLOAD_MALFORMED, "what"),
        (b'{"rows":[{"identifier":"88.1/a","values":[],"what":1}]}', Reason.PAYLOAD_MALFORMED, "rows[0].what"),
        (b'{"rows":[{"identifier":"88.1/\xff","values":[]}]}', Reason.PAYLOAD_MALFORMED, "body"),
        (
            b'{"rows":[{"identifier":"88.1/a","values":[{"index":1}]}]}',
            Reason.PAYLOAD_MALFORMED,
            "rows[0].values[0].type",
        ),
        (b'{"rows":[{"identifier":"88.1/a","op":"drop"}]}', Reason.PAYLOAD_MALFORMED, "rows[0].op"),
        (b'{"rows":[]}', Reason.BATCH_EMPTY, "rows"),
        (json.dumps({"rows": [row("88.1/a")] * 1_001}).encode(), Reason.BATCH_TOO_LARGE, "rows"),
    ],
)
async def test_a_body_that_cannot_be_taken(desk: Desk, body: bytes, reason: Reason, field: str) -> None:
    with pytest.raises(Fault) as raised:
        await desk.plan(identifiers.plan, body, actor=desk.maker)
    assert (raised.value.reason, raised.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ({"identifier": "88.1/a"}, "has `values`"),
        ({"identifier": "88.1/a", "op": "update"}, "has `values`"),
        ({"identifier": "88.1/a", "op": "set_values"}, "has `values`"),
        ({"identifier": "88.1/a", "op": "remove_values"}, "has `indexes`"),
        ({"values": []}, "names an identifier"),
        ({"values": [], "identifier": "88.1/a", "mint": "88.1"}, "names an identifier"),
        ({"values": [], "identifier": "88.1/a", "expected_version": 1}, "no `expected_version`"),
        ({"values": [], "identifier": "88.1/a", "indexes": [1]}, "no `indexes`"),
        ({"values": [], "identifier": "88.1/a", "reason": "x"}, "no `reason`"),
        ({"op": "update", "values": [], "mint": "88.1"}, "no `mint`"),
        ({"op": "update", "values": [], "identifier": "88.1/a", "overwrite": True}, "no `overwrite`"),
        ({"op": "delete", "identifier": "88.1/a", "values": [{"index": 1, "type": "T", "data": ""}]}, "no `values`"),
        ({"op": "set_values", "identifier": "88.1/a", "values": [], "registrant": "x"}, "no `registrant`"),
        ({"op": "delete", "identifier": "88.1/a", "expected_version": 0}, ">= 1"),
    ],
)
async def test_fields_that_do_not_belong_together(desk: Desk, said: dict[str, Any], detail: str) -> None:
    with pytest.raises(Fault) as raised:
        await desk.take(row("88.1/x"), said, partial=True)
    assert raised.value.reason is Reason.PAYLOAD_MALFORMED
    assert raised.value.field.startswith("rows[1]")
    assert detail in raised.value.detail


def test_a_row_is_written_as_it_is_read() -> None:
    """For those who make requests: what is left unsaid stays unsaid."""
    said = Row(op="remove_values", identifier="88.1/a", indexes=[1], expected_version=3)
    octets = msgspec.json.encode(said)
    assert octets == b'{"identifier":"88.1/a","op":"remove_values","indexes":[1],"expected_version":3}'
    assert msgspec.json.decode(octets, type=Row) == said
    assert msgspec.json.encode(Row(identifier="88.1/a", values=[ValueRow(index=1, type="T", data="x")])) == (
        b'{"identifier":"88.1/a","values":[{"index":1,"type":"T","data":"x"}]}'
    )


# --- any order of changes ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register", "overwrite", "update", "set_values", "remove_values", "delete"]),
        st.sampled_from(["88.1/a", "88.1/B"]),
        st.sampled_from(["x", "y"]),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
async def test_any_changes_come_to_what_a_plain_model_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str, int, bool]]
) -> None:
    """The model: a dict of values by index for each identifier, None for a deleted one."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    await desk.write(prefixes=PREFIXES)
    model: dict[str, dict[int, tuple[str, bool]] | None] = {}
    for op, identifier, text, index, secret in steps:
        plan = await desk.take(_row(op, identifier, text, index, secret=secret))
        is_taken = _step(model, op, identifier.upper(), {index: (text, secret)})
        assert (plan.outcomes[0] is not REFUSED) is is_taken
        for key, values in model.items():
            full, public = await desk.held(key), await desk.public(key)
            assert public
            assert bool(full.tombstone) is (values is None)
            assert data(full) == {each: said.encode() for each, (said, _) in (values or {}).items()}
            assert data(public) == {
                each: said.encode() for each, (said, hidden) in (values or {}).items() if not hidden
            }
    desk.store.close()


def _row(op: str, identifier: str, text: str, index: int, *, secret: bool) -> dict[str, Any]:
    value = {"index": index, "type": "T", "data": text, **(SECRET if secret else {})}
    match op:
        case "overwrite":
            return {"identifier": identifier, "values": [value], "overwrite": True}
        case "remove_values":
            return {"op": op, "identifier": identifier, "indexes": [index]}
        case "delete":
            return {"op": op, "identifier": identifier, "reason": text}
        case _:
            return {"op": op, "identifier": identifier, "values": [value]}


def _step(
    model: dict[str, dict[int, tuple[str, bool]] | None], op: str, key: str, values: dict[int, tuple[str, bool]]
) -> bool:
    held = model.get(key)
    if op == "register" and key in model and held != values:
        return False
    if op in {"register", "overwrite"}:
        model[key] = values
        return True
    if held is None:
        return False
    match op:
        case "update":
            model[key] = values
        case "set_values":
            model[key] = held | values
        case "remove_values":
            model[key] = {index: value for index, value in held.items() if index not in values}
        case "delete":
            model[key] = None
    return True
