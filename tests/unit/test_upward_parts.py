"""The parts of the push upward that decide: rows, verdicts, steps, watermark, outbox, the file of refusals."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.upward.identity import check_upward, endpoints_of
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.naming import request_id
from nodes.upward.outbox import Outbox
from nodes.upward.refused import FILE as REFUSED
from nodes.upward.refused import Refused, RefusedFile
from nodes.upward.routes import next_step
from nodes.upward.rows import row_of
from nodes.upward.settings import UpwardSettings
from nodes.upward.verdicts import Verdict, of_route, of_row, of_rows
from nodes.upward.watermark import FILE as WATERMARK
from nodes.upward.watermark import Watermark, WatermarkFile
from registry.heartbeats import NODES_MAX, Heartbeats
from registry.rows import to_values
from registry.state import State
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle
from resolver.record import Absolute, Record, Reference, Relative, Tombstone, Value
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from resolver.rpc.tls import ClientTls
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.wire import record_body, version_field
from tests.small_registry import write_history

ENDPOINT = Endpoint(Protocol.GRPC, "192.0.2.7", 3641)
HELD = Prefix("88.111.7", "88.111", hosting=Hosting.DELEGATED, endpoints=(ENDPOINT,), epoch=9)
WANTED = Prefix("88.111.7", "88.111.7")


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_row_says_all_that_everybody_may_read_and_is_read_as_the_same() -> None:
    public = (
        Value(index=1, type="URL", data="武汉".encode(), lifetime=Relative(7), timestamp=5),
        Value(index=3, type="KEY", data=b"\xff\x00", lifetime=Absolute(9), references=(Reference("88.1/a", 2),)),
    )
    secret = Value(index=2, type="SECRET", data=b"only for its holder", permissions=0b1100)
    record = Record(
        identifier=Handle.from_text("88.111/A"), values=(public[0], secret, public[1]), registrant="88.111"
    )
    row = row_of(record_body(record, public=True) + version_field(4))
    assert (row.identifier, row.op, row.overwrite, row.registrant) == ("88.111/A", "register", True, "88.111")
    assert isinstance(row.values, list)
    assert to_values(row.values, now=77) == public
    assert msgspec.json.decode(msgspec.json.encode(row), type=type(row)) == row


def test_a_tombstone_becomes_a_deletion_with_its_reason() -> None:
    tombstone = Tombstone(reason="scrapped", deleted_at=3)
    record = Record(identifier=Handle.from_text("88.111/A"), tombstone=tombstone)
    row = row_of(record_body(record, public=True) + version_field(4))
    assert (row.identifier, row.op, row.reason) == ("88.111/A", "delete", "scrapped")


# --- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "deletes", "verdict"),
    [
        (Reason.PREFIX_NOT_ALLOCATED, False, Verdict.OWED),
        (Reason.PREFIX_DISABLED, True, Verdict.OWED),
        (Reason.STORE_UNAVAILABLE, False, Verdict.OWED),
        (Reason.IDENTIFIER_UNKNOWN, True, Verdict.DONE),
        (Reason.IDENTIFIER_DELETED, True, Verdict.DONE),
        (Reason.IDENTIFIER_DELETED, False, Verdict.FINAL),
        (Reason.RECORD_TOO_LARGE, False, Verdict.FINAL),
    ],
)
def test_what_the_refusal_of_a_row_means(reason: Reason, deletes: bool, verdict: Verdict) -> None:  # noqa: FBT001 - a table
    assert of_row(Fault(reason), deletes=deletes) is verdict


@pytest.mark.parametrize("reason", list(Reason))
def test_a_request_is_given_up_for_what_it_says_and_for_nothing_else(reason: Reason) -> None:
    content = {"PAYLOAD_MALFORMED", "REQUEST_TOO_LARGE", "BATCH_TOO_LARGE", "RECORD_TOO_LARGE", "VALUE_INVALID"}
    expected = Verdict.FINAL if reason.name in {*content, "ROW_MALFORMED"} else Verdict.AGAIN
    assert of_rows(Fault(reason)) is expected


def test_a_route_waits_where_it_is_refused_for_its_prefix_and_is_sent_again_where_for_the_node() -> None:
    assert of_route(Fault(Reason.NOT_AUTHORISED)) is Verdict.FINAL
    assert of_route(Fault(Reason.PREFIX_TERM_INVALID)) is Verdict.FINAL
    for reason in (Reason.NODE_NOT_ENABLED, Reason.KEY_UNKNOWN, Reason.ENVELOPE_EXPIRED, Reason.NODE_UNREACHABLE):
        assert of_route(Fault(reason)) is Verdict.AGAIN


# --- steps of routes -----------------------------------------------------------------------------------------------


def step(held: Prefix | None, wanted: Prefix = WANTED, **more: Any) -> tuple[str, Any] | None:
    said = {"node": "88.111", "is_below": True, "is_changed": True, **more}
    found = next_step(wanted, held, [ENDPOINT], **said)
    return None if found is None else (found.kind, json.loads(msgspec.json.encode(found.body)))


def test_a_prefix_that_is_not_there_above_is_allocated_with_rule_and_term() -> None:
    wanted = replace(WANTED, case=CaseRule.SENSITIVE, expires_at=9)
    for held in (None, replace(HELD, state=PrefixState.PENDING)):
        found = step(held, wanted)
        assert found is not None
        kind, body = found
        assert kind == "prefix-allocate.v1"
        endpoint = {"protocol": "grpc", "address": "192.0.2.7", "port": 3641}
        row = {"holder": "88.111", "case": "sensitive", "hosting": "delegated", "expires_at": 9}
        assert body == {"rows": [{"prefix": "88.111.7", **row, "endpoints": [endpoint]}]}
    assert step(None, replace(WANTED, state=PrefixState.DISABLED)) is None


def test_what_differs_above_is_brought_one_step_after_another() -> None:
    assert step(HELD) is None
    elsewhere = replace(HELD, endpoints=(replace(ENDPOINT, port=1),))
    assert (step(elsewhere) or ("",))[0] == "route.v1"
    assert (step(replace(HELD, hosting=Hosting.HERE)) or ("",))[0] == "route.v1"
    renewed = replace(WANTED, expires_at=9)
    assert step(HELD, renewed) == ("prefix-renew.v1", {"prefix": "88.111.7", "expires_at": 9})
    assert step(HELD, renewed, is_below=False) is None
    disabled = replace(WANTED, state=PrefixState.DISABLED)
    assert step(HELD, disabled) == ("prefix-state.v1", {"prefix": "88.111.7", "state": "disabled"})
    assert step(HELD, disabled, is_below=False) is None


def test_what_was_disabled_above_comes_back_to_life_only_by_a_change_here() -> None:
    held = replace(HELD, state=PrefixState.DISABLED, endpoints=())
    assert step(held) == ("prefix-state.v1", {"prefix": "88.111.7", "state": "enabled"})
    assert step(held, is_changed=False) is None
    assert step(held, is_below=False) is None


def test_a_prefix_of_somebody_else_is_left_to_them() -> None:
    with pytest.raises(Fault, match=r"held by 88\.112") as caught:
        step(replace(HELD, holder="88.112"))
    assert caught.value.reason is Reason.PREFIX_NOT_HELD


# --- the watermark -------------------------------------------------------------------------------------------------


async def test_the_watermark_is_kept_for_its_parent_and_begins_where_nothing_is_known(tmp_path: Path) -> None:
    file = WatermarkFile(tmp_path / "data")
    begun = await file.read("top")
    assert (begun.index, begun.owed) == (0, {})
    mark = replace(begun, index=7).owing("88.111", since=3).owing("88.111.7", lists=True)
    await file.write(mark)
    assert await file.read("top") == mark
    assert (await file.read("another")).index == 0
    (tmp_path / "data" / WATERMARK).write_bytes(b"{")
    again = await file.read("top")
    assert again.index == 0
    assert again.life != begun.life


def test_debts_are_merged_from_the_beginning_and_named_anew() -> None:
    mark = Watermark.begin("top").owing("88.111", lists=True)
    first = mark.owed["88.111"]
    mark = mark.paid("88.111", replace(first, after=b"x")).owing("88.111", since=5).owing("88.111", since=9)
    owed = mark.owed["88.111"]
    assert (owed.since, owed.lists, owed.after) == (5, True, None)
    assert owed.serial > first.serial
    mark = mark.owing("88.111.7", since=2).under("88.111", "88.111.7")
    assert list(mark.owed) == ["88.111"]
    assert mark.owed["88.111"].since == 2
    assert mark.paid("88.111", replace(owed, since=None, lists=False)).owed == {}


def test_the_same_request_has_the_same_id_and_no_other_has_it() -> None:
    ids = {
        request_id(*said)
        for said in (("a", "1-2/0", b"x"), ("a", "1-2/0", b"y"), ("b", "1-2/0", b"x"), ("a", "1", b"x"))
    }
    assert len(ids) == 4
    assert request_id("a", "1-2/0", b"x") in ids
    assert all(len(each) <= 128 for each in ids)


# --- the outbox ----------------------------------------------------------------------------------------------------


async def test_the_journal_names_what_the_feed_has_forgotten(tmp_path: Path) -> None:
    size = await write_history(tmp_path)
    with closing(EmbeddedWriter.open(tmp_path, owner=Owner.here("a test", clock=SystemClock()))) as store:
        state = State(store, own_name="top")
        await state.begin(0)
        outbox = Outbox(store, state)
        told: set[bytes] = set()
        index = 0
        while index < size:
            window = await outbox.after(index)
            assert index < window.end <= window.head == size
            told.update(window.keys)
            index = window.end
        assert (await outbox.after(size)).end == size
        signed: set[bytes] = set()
        index = 0
        while index < size:
            window = await outbox._from_journal(index, size, 0)
            signed.update(window.keys)
            index = window.end
        held = [key for key, body in zip(signed, (await store.public(list(signed))).bodies, strict=True) if body]
        assert told <= signed
        # What was refused is signed for too, and not held.
        assert set(held) == told
        bounded = await outbox.after(3, until=5)
        assert (bounded.start, bounded.end) == (3, 5)
        assert (await outbox.after(size + 1)).is_foreign
        assert outbox.topmost(b"88.111.5.6") == b"88.111"


# --- the file of refusals ------------------------------------------------------------------------------------------


async def test_refused_rows_are_noted_and_the_file_is_bounded(tmp_path: Path) -> None:
    dropped = UpwardMetrics(CollectorRegistry()).dropped
    file = RefusedFile(tmp_path, dropped, bytes_max=300)
    fault = Fault(Reason.VALUE_INVALID, "x" * 5_000, field="values[0].type")
    row = Refused.of("88.111/A", "register", fault, 7.9)
    assert (row.at, len(row.detail), row.reason) == (7, 1_000, "VALUE_INVALID")
    for number in range(3):
        await file.add([replace(row, about=str(number), detail="no")] * 3)
    kept = [json.loads(line) for name in (REFUSED, f"{REFUSED}.1") for line in lines(tmp_path / name)]
    assert {each["about"] for each in kept} <= {"0", "1", "2"}
    assert len(kept) <= 6
    assert (tmp_path / f"{REFUSED}.1").stat().st_mode & 0o77 == 0
    broken = RefusedFile(tmp_path / "absent", dropped)
    await broken.add([row])
    assert dropped._value.get() == 1


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- who this node is ----------------------------------------------------------------------------------------------


def test_where_this_node_is_found_follows_from_where_it_serves_or_must_be_said() -> None:
    assert endpoints_of(UpwardSettings(), "192.0.2.7:3641", has_tls=False) == (ENDPOINT,)
    said = UpwardSettings(endpoints=("grpc://192.0.2.9:1?tls=node.example.cn",))
    assert endpoints_of(said, "0.0.0.0:3641", has_tls=True)[0].tls_name == "node.example.cn"
    for settings, address, has_tls in (
        (UpwardSettings(), "0.0.0.0:3641", False),
        (UpwardSettings(), "192.0.2.7:3641", True),
        (UpwardSettings(endpoints=("ftp://a",)), "192.0.2.7:3641", False),
    ):
        with pytest.raises(Fault) as caught:
            endpoints_of(settings, address, has_tls=has_tls)
        assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, "upward.endpoints")


def test_nothing_is_above_a_top_level_node(tmp_path: Path) -> None:
    settings = UpwardSettings(registry="192.0.2.1:3643")
    check_upward(settings, tmp_path, "127.0.0.1:0", tier="enterprise", has_tls=False)
    with pytest.raises(Fault) as caught:
        check_upward(settings, tmp_path, "127.0.0.1:0", tier="top", has_tls=False)
    assert caught.value.field == "upward.registry"
    pinned = UpwardSettings(registry="192.0.2.1:3643", verifier_key="topnode/top+no")
    with pytest.raises(Fault) as caught:
        check_upward(pinned, tmp_path, "127.0.0.1:0", tier="secondary", has_tls=False)
    assert (caught.value.reason, caught.value.field) == (Reason.KEY_INVALID, "upward.verifier_key")
    secured = UpwardSettings(registry="192.0.2.1:3643", tls=ClientTls(server_ca="/absent/ca.pem"))
    with pytest.raises(Fault) as caught:
        check_upward(secured, tmp_path, "127.0.0.1:0", tier="secondary", has_tls=False)
    assert (caught.value.reason, caught.value.field) == (Reason.FILE_UNREADABLE, "upward.tls.server_ca")


# --- signs of life, as they are heard ------------------------------------------------------------------------------


def beat(
    heartbeats: Heartbeats, clock: SetClock, node: str = "88.111", *, late: float = 0, version: str = "1"
) -> int:
    given_at = int((clock.wall() - late) * 1_000)
    heard = heartbeats.hear(node, given_at=given_at, applied_index=7, software_version=version)
    return heard.given_at


def test_a_sign_of_life_grows_old_and_an_older_one_makes_it_no_younger() -> None:
    clock, metrics = SetClock(), CollectorRegistry()
    heartbeats = Heartbeats(clock, metrics)
    first = beat(heartbeats, clock)
    clock.advance(20)
    assert beat(heartbeats, clock, late=20) == first
    assert metrics.get_sample_value("topnode_child_heartbeat_age_seconds", {"child": "88.111"}) == 20
    assert beat(heartbeats, clock) > first
    assert metrics.get_sample_value("topnode_child_heartbeat_age_seconds", {"child": "88.111"}) == 0
    assert (heartbeats.heard, heartbeats.passed_over) == (2, 1)
    assert heartbeats.of("88.112") is None


@pytest.mark.parametrize(
    ("late", "version", "reason"),
    [
        (3_600, "1", Reason.ENVELOPE_EXPIRED),
        (-3_600, "1", Reason.ENVELOPE_NOT_YET_VALID),
        (0, "x" * 65, Reason.FIELD_OUT_OF_RANGE),
        (0, "a\nb", Reason.FIELD_OUT_OF_RANGE),
    ],
)
def test_a_sign_of_life_that_is_none(late: float, version: str, reason: Reason) -> None:
    clock = SetClock()
    with pytest.raises(Fault) as caught:
        beat(Heartbeats(clock, CollectorRegistry()), clock, late=late, version=version)
    assert caught.value.reason is reason


def test_so_many_nodes_are_kept_and_the_one_that_is_silent_for_longest_is_forgotten() -> None:
    clock = SetClock()
    heartbeats = Heartbeats(clock, CollectorRegistry())
    for number in range(NODES_MAX):
        beat(heartbeats, clock, str(number))
    clock.advance(1)
    beat(heartbeats, clock, "0")
    beat(heartbeats, clock, "another")
    assert heartbeats.of("1") is None
    assert heartbeats.of("0")
    assert len(list(heartbeats.ages())) == NODES_MAX
