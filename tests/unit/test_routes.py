"""Prefixes: the row of one, what is said under each, and the table that finds the longest."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver.bounds import SECONDS_MAX
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, ancestors
from resolver.routes import (
    SCOPES_MAX,
    SHAPES_MAX,
    Endpoint,
    Hosting,
    Prefix,
    PrefixState,
    Protocol,
    RouteTable,
    Verdict,
    verdict,
)
from tests.nouns import prefixes as prefix_texts

NOW = 1_800_000_000
REFUSED = {Verdict.REFUSE_DISABLED, Verdict.REFUSE_EXPIRED}
ENDPOINT = Endpoint(Protocol.GRPC, "192.0.2.1", 3_641)


def table(*rows: Prefix, now: float = NOW) -> RouteTable:
    made = RouteTable()
    made.put(rows)
    made.tell_time(now)
    return made


def row(text: str, **changes: Any) -> Prefix:
    return replace(Prefix(text, f"holder of {text}"), **changes)


def found(routes: RouteTable, asked: bytes) -> str | None:
    prefix = routes.scope(asked).prefix
    return prefix.text if prefix else None


# --- the row of a prefix -----------------------------------------------------------------------------------------

rows = st.builds(
    Prefix,
    prefix_texts,
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    st.sampled_from(PrefixState),
    st.sampled_from(CaseRule),
    st.sampled_from(Hosting),
    st.integers(0, SECONDS_MAX),
    st.lists(
        st.builds(
            Endpoint,
            st.sampled_from(Protocol),
            st.sampled_from(["192.0.2.1", "node.example.cn"]),
            st.integers(1, 65_535),
            st.integers(0, 65_535),
            st.sampled_from(["", "node.example.cn"]),
        ),
        max_size=2,
    ).map(tuple),
    st.integers(0, 2**40),
)


@given(rows)
def test_a_row_comes_back_out_of_its_bytes_and_out_of_the_table(prefix: Prefix) -> None:
    assert Prefix.from_bytes(prefix.to_bytes()) == prefix
    assert table(prefix).allocation(prefix.key) == prefix


def test_rows_of_the_first_format_are_read_for_ever() -> None:
    """Bytes as the first version wrote them, and as something older with fewer fields would have."""
    octets = bytes.fromhex("98a638382e313131a638382e313131010001ce6b49d200919501a93139322e302e322e31cd0e3900a007")
    assert Prefix.from_bytes(octets) == Prefix(
        "88.111", "88.111", hosting=Hosting.DELEGATED, expires_at=NOW, endpoints=(ENDPOINT,), epoch=7
    )
    assert Prefix.from_bytes(b"\x92\xa288\xa3top") == Prefix("88", "top")


def test_the_key_is_the_folded_text() -> None:
    assert row("0.na.ß").key == "0.NA.ß".encode()


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"text": ""}, Reason.IDENTIFIER_EMPTY, "prefix"),
        ({"text": "88/1"}, Reason.PREFIX_HAS_SLASH, "prefix"),
        ({"text": "88..1"}, Reason.PREFIX_EMPTY_SEGMENT, "prefix"),
        ({"text": "88\n"}, Reason.IDENTIFIER_CONTROL_CHARACTER, "prefix"),
        ({"text": "\ud800"}, Reason.IDENTIFIER_NOT_UTF8, "prefix"),
        ({"holder": ""}, Reason.FIELD_OUT_OF_RANGE, "holder"),
        ({"holder": "a\nb"}, Reason.FIELD_OUT_OF_RANGE, "holder"),
        ({"expires_at": -1}, Reason.FIELD_OUT_OF_RANGE, "expires_at"),
        ({"expires_at": SECONDS_MAX + 1}, Reason.FIELD_OUT_OF_RANGE, "expires_at"),
    ],
)
def test_a_row_out_of_bounds_is_refused_with_its_field(change: dict[str, Any], reason: Reason, field: str) -> None:
    with pytest.raises(Fault) as caught:
        replace(row("88"), **change)
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("address", ""),
        ("address", "two words"),
        ("address", "line\n"),
        ("address", "\ud800"),
        ("port", 0),
        ("port", -1),
        ("port", 65_536),
        ("priority", -1),
        ("priority", 65_536),
        ("tls_name", "two words"),
        ("tls_name", "\ud800"),
    ],
)
def test_an_endpoint_out_of_bounds_is_refused_with_its_field(field: str, wrong: object) -> None:
    with pytest.raises(Fault) as caught:
        replace(ENDPOINT, **{field: wrong})
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_OUT_OF_RANGE, field)


# --- what is said under a prefix ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "in_term", "expired"),
    [
        (PrefixState.ENABLED, Verdict.ANSWER, Verdict.REFUSE_EXPIRED),
        (PrefixState.TO_DELETE, Verdict.ANSWER, Verdict.REFUSE_EXPIRED),
        (PrefixState.DISABLED, Verdict.REFUSE_DISABLED, Verdict.REFUSE_DISABLED),
        (PrefixState.REJECTED, Verdict.NOT_ALLOCATED, Verdict.NOT_ALLOCATED),
        (PrefixState.PENDING, Verdict.NOT_ALLOCATED, Verdict.NOT_ALLOCATED),
        (PrefixState.IN_REVIEW, Verdict.NOT_ALLOCATED, Verdict.NOT_ALLOCATED),
    ],
)
def test_the_table_of_states(state: PrefixState, in_term: Verdict, expired: Verdict) -> None:
    """All six states, in their term and past it: by the function, and through the table."""
    assert verdict(state, is_expired=False) is in_term
    assert verdict(state, is_expired=True) is expired
    assert table(row("88", state=state, expires_at=NOW + 1)).scope(b"88").verdict is in_term
    assert table(row("88", state=state, expires_at=NOW)).scope(b"88").verdict is expired
    assert table(row("88", state=state)).scope(b"88").verdict is in_term


def test_every_state_is_in_the_table_of_states() -> None:
    """The numbers are those of the field's registration systems."""
    assert [state.name for state in sorted(PrefixState)] == [
        "DISABLED",
        "ENABLED",
        "TO_DELETE",
        "REJECTED",
        "PENDING",
        "IN_REVIEW",
    ]


@pytest.mark.parametrize("state", PrefixState)
@pytest.mark.parametrize("expires_at", [0, NOW])
def test_a_parent_silences_its_children_when_it_is_refused_itself(state: PrefixState, expires_at: int) -> None:
    """A parent that is an application only is as if it were not there."""
    routes = table(row("88.1", state=state, expires_at=expires_at), row("88.1.2"))
    parent = routes.scope(b"88.1").verdict
    child = routes.scope(b"88.1.2")
    assert child.verdict is (parent if parent in REFUSED else Verdict.ANSWER)
    assert child.prefix == row("88.1.2")
    assert routes.scope(b"88.2").verdict is Verdict.NOT_ALLOCATED


def test_the_nearest_refusal_is_the_one_that_is_told() -> None:
    routes = table(row("88", state=PrefixState.DISABLED), row("88.1", expires_at=NOW), row("88.1.2"))
    assert routes.scope(b"88.1.2").verdict is Verdict.REFUSE_EXPIRED
    assert routes.scope(b"88.3").verdict is Verdict.REFUSE_DISABLED


@pytest.mark.parametrize("state", [PrefixState.REJECTED, PrefixState.PENDING, PrefixState.IN_REVIEW])
def test_below_an_application_the_parent_answers(state: PrefixState) -> None:
    routes = table(row("88.1", case=CaseRule.SENSITIVE), row("88.1.2", state=state))
    scope = routes.scope(b"88.1.2")
    assert (scope.prefix, scope.verdict, scope.case_sensitive) == (
        row("88.1", case=CaseRule.SENSITIVE),
        Verdict.ANSWER,
        True,
    )


# --- the longest prefix ------------------------------------------------------------------------------------------


def test_the_longest_prefix_is_found_by_segments() -> None:
    routes = table(row("88"), row("88.1"), row("88.12"), row("88.1.0042"))
    assert found(routes, b"88.1") == "88.1"
    assert found(routes, b"88.12") == "88.12"
    assert found(routes, b"88.12.1") == "88.12"
    assert found(routes, b"88.123") == "88"
    assert found(routes, b"88.1.0042") == found(routes, b"88.1.0042.7.7.7") == "88.1.0042"
    assert found(routes, b"88.1.42") == "88.1"
    assert found(routes, b"8") is None
    assert found(routes, b"881") is None
    assert found(RouteTable(), b"88") is None


def test_a_prefix_is_found_folded_and_told_as_registered() -> None:
    routes = table(row("0.na"))
    assert found(routes, b"0.NA.1") == "0.na"
    assert routes.allocation(b"0.NA") == row("0.na")
    assert routes.allocation(b"0.NA.1") is None


def test_derived_prefixes_inherit_the_case_rule_until_one_has_its_own() -> None:
    routes = table(row("88.1", case=CaseRule.SENSITIVE), row("88.1.2", case=CaseRule.INSENSITIVE), row("88.3"))
    rules = {asked: routes.scope(asked).case_sensitive for asked in (b"88.1", b"88.1.9", b"88.1.2", b"88.3", b"99")}
    assert rules == {b"88.1": True, b"88.1.9": True, b"88.1.2": False, b"88.3": False, b"99": False}


@given(st.data())
def test_the_table_agrees_with_a_search_through_all_rows(data: st.DataObject) -> None:
    """Few segments and many rows, so that they stand above and below one another in every way."""
    texts = st.lists(st.sampled_from(["1", "12", "2"]), min_size=1, max_size=4).map(".".join)
    state = st.sampled_from([PrefixState.ENABLED, PrefixState.ENABLED, PrefixState.DISABLED, PrefixState.PENDING])
    ends = st.sampled_from([0, 0, NOW, NOW + 10])
    held = {
        text: row(text, state=data.draw(state), expires_at=data.draw(ends), case=data.draw(st.sampled_from(CaseRule)))
        for text in data.draw(st.sets(texts, max_size=8))
    }
    now = data.draw(st.sampled_from([0, NOW, NOW + 10]))
    routes = table(*held.values(), now=now)
    asked = data.draw(texts)
    scope = routes.scope(asked.encode())
    prefix, said = searched(held, asked, now)
    assert (scope.prefix, scope.verdict) == (prefix, said)
    assert scope.case_sensitive is (prefix is not None and prefix.case is CaseRule.SENSITIVE)


def searched(held: dict[str, Prefix], asked: str, now: float) -> tuple[Prefix | None, Verdict]:
    """The rule, said plainly: the nearest allocated row, and the nearest refusal at it or above."""
    chain = [held[key.decode()] for key in ancestors(asked.encode()) if key.decode() in held]
    said = [(each, verdict(each.state, is_expired=0 < each.expires_at <= now)) for each in chain]
    allocated = [(each, word) for each, word in said if word is not Verdict.NOT_ALLOCATED]
    if not allocated:
        return None, Verdict.NOT_ALLOCATED
    refusals = [word for _, word in allocated if word in REFUSED]
    return allocated[0][0], refusals[0] if refusals else Verdict.ANSWER


# --- changes -----------------------------------------------------------------------------------------------------


def test_an_older_row_is_passed_over_and_a_newer_one_taken() -> None:
    routes = table(row("88", epoch=5))
    routes.put([row("88", epoch=4, state=PrefixState.DISABLED)])
    assert routes.scope(b"88").verdict is Verdict.ANSWER
    routes.put([row("88", epoch=6, state=PrefixState.DISABLED)])
    assert routes.scope(b"88").verdict is Verdict.REFUSE_DISABLED
    assert len(routes) == 1


def test_every_change_makes_another_generation() -> None:
    routes = table(row("88", expires_at=NOW + 10))
    generations = [routes.generation]
    routes.put([row("88.1")])
    generations.append(routes.generation)
    routes.touch([b"88"], 3)
    generations.append(routes.generation)
    routes.replace([row("88", expires_at=NOW + 10)])
    generations.append(routes.generation)
    routes.tell_time(NOW + 10)
    generations.append(routes.generation)
    assert generations == sorted(set(generations))


def test_time_that_ends_no_term_changes_nothing() -> None:
    routes = table(row("88", expires_at=NOW + 10), row("88.1"))
    generation = routes.generation
    scope = routes.scope(b"88")
    routes.tell_time(NOW + 9.9)
    assert routes.generation == generation
    assert routes.scope(b"88") is scope


def epochs(routes: RouteTable, *asked: bytes) -> list[int]:
    return [routes.scope(each).epoch for each in asked]


def test_a_changed_row_raises_the_epoch_of_itself_and_below_only() -> None:
    routes = table(row("88", epoch=1), row("88.1", epoch=2), row("88.1.2", epoch=3), row("88.12", epoch=4))
    above, beside = epochs(routes, b"88", b"88.12")
    below = epochs(routes, b"88.1", b"88.1.2", b"88.1.7")
    routes.put([row("88.1", epoch=9)])
    assert epochs(routes, b"88", b"88.12") == [above, beside]
    assert all(new > old for new, old in zip(epochs(routes, b"88.1", b"88.1.2", b"88.1.7"), below, strict=True))


def test_a_touch_raises_epochs_at_and_below_it_but_not_beside_or_above() -> None:
    routes = table(row("88", epoch=1), row("88.1", epoch=2), row("88.12", epoch=3))
    still = epochs(routes, b"88", b"88.12", b"99")
    below = epochs(routes, b"88.1", b"88.1.7", b"88.1.7.8")
    routes.touch([b"88.1"], 9)
    assert epochs(routes, b"88", b"88.12", b"99") == still
    assert all(new > old for new, old in zip(epochs(routes, b"88.1", b"88.1.7", b"88.1.7.8"), below, strict=True))


def test_a_touch_of_a_prefix_that_has_no_row_counts_below_it() -> None:
    routes = table(row("88", epoch=1))
    before = epochs(routes, b"88", b"88.7", b"88.7.1")
    routes.touch([b"88.7"], 2)
    after = epochs(routes, b"88", b"88.7", b"88.7.1")
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert after[2] > before[2]
    assert found(routes, b"88.7.1") == "88"


def test_an_older_touch_lowers_nothing() -> None:
    routes = table(row("88", epoch=1))
    routes.touch([b"88"], 9)
    newest = epochs(routes, b"88")
    routes.touch([b"88"], 4)
    assert epochs(routes, b"88") == newest


@pytest.mark.parametrize("asked", [b"88", b"88.1", b"88.1.2", b"88.1.2.3"])
def test_the_end_of_a_term_makes_another_epoch_all_the_way_down(asked: bytes) -> None:
    """Also where a row below changed after the one whose term ends, or ended before it."""
    routes = table(
        row("88", epoch=1, expires_at=NOW + 10),
        row("88.1", epoch=50),
        row("88.1.2", epoch=60, expires_at=NOW - 10, state=PrefixState.PENDING),
    )
    before = routes.scope(asked)
    assert before.verdict is Verdict.ANSWER
    routes.tell_time(NOW + 10)
    after = routes.scope(asked)
    assert after.verdict is Verdict.REFUSE_EXPIRED
    assert after.epoch > before.epoch
    assert after.epoch < table(row("88", epoch=61)).scope(b"88").epoch


def test_a_clock_that_was_set_back_is_followed() -> None:
    routes = table(row("88", expires_at=NOW + 10))
    for wall, said in [(NOW + 10, Verdict.REFUSE_EXPIRED), (NOW, Verdict.ANSWER), (NOW + 11, Verdict.REFUSE_EXPIRED)]:
        routes.tell_time(wall)
        assert routes.scope(b"88").verdict is said


def test_a_renewed_term_ends_when_the_new_one_does() -> None:
    routes = table(row("88", epoch=1, expires_at=NOW + 10))
    routes.put([row("88", epoch=2, expires_at=NOW + 20)])
    routes.tell_time(NOW + 10)
    assert routes.scope(b"88").verdict is Verdict.ANSWER
    routes.tell_time(NOW + 20)
    assert routes.scope(b"88").verdict is Verdict.REFUSE_EXPIRED


@pytest.mark.parametrize("count", [1, 64, 65, 1_000])
def test_terms_end_in_their_order_however_many_rows_came_at_once(count: int) -> None:
    routes = table(row("77", expires_at=NOW + count + 5))
    routes.put(row(f"88.{number}", expires_at=NOW + 1 + number) for number in reversed(range(count)))
    for number in range(count):
        asked = b"88.%d" % number
        assert routes.scope(asked).verdict is Verdict.ANSWER
        routes.tell_time(NOW + 1 + number)
        assert routes.scope(asked).verdict is Verdict.REFUSE_EXPIRED
    assert routes.scope(b"77").verdict is Verdict.ANSWER
    routes.tell_time(NOW + count + 5)
    assert routes.scope(b"77").verdict is Verdict.REFUSE_EXPIRED


def test_starting_afresh_forgets_rows_terms_and_touches() -> None:
    routes = table(row("88", epoch=5), row("77", expires_at=NOW + 10))
    routes.touch([b"88.1"], 9)
    routes.replace([row("88", epoch=3)])
    assert len(routes) == 1
    assert found(routes, b"77") is None
    assert epochs(routes, b"88", b"88.1") == epochs(table(row("88", epoch=3)), b"88", b"88.1")
    generation = routes.generation
    routes.tell_time(NOW + 10)
    assert routes.generation == generation


def test_a_table_that_cannot_be_filled_anew_stays_as_it_was() -> None:
    routes = table(row("88"))

    def broken() -> Iterator[Prefix]:
        yield row("77")
        raise Fault(Reason.STORE_UNAVAILABLE)

    with pytest.raises(Fault):
        routes.replace(broken())
    assert found(routes, b"88") == "88"
    assert found(routes, b"77") is None


def test_a_table_filled_piece_by_piece_takes_anothers_place_at_once() -> None:
    routes = table(row("88"), now=NOW)
    generation = routes.generation
    fresh = RouteTable()
    fresh.put([row("77", expires_at=NOW)])
    fresh.put([row("77.1")])
    routes.adopt(fresh)
    assert (len(routes), found(routes, b"88"), found(routes, b"77.1.2")) == (2, None, "77.1")
    assert routes.scope(b"77").verdict is Verdict.REFUSE_EXPIRED
    assert routes.generation > generation


# --- what is kept ------------------------------------------------------------------------------------------------


def test_scopes_are_kept_until_something_changes() -> None:
    routes = table(row("88"))
    scope = routes.scope(b"88")
    assert routes.scope(b"88") is scope
    assert routes.scope(b"88.5") is scope
    routes.put([row("77")])
    assert routes.scope(b"88") is not scope


def test_scopes_are_bounded_and_those_made_first_go_first() -> None:
    routes = table(row("88"), row("88.1"))
    first = routes.scope(b"88.1")
    for number in range(SCOPES_MAX + 10):
        routes.scope(b"88.x%d" % number)
    assert len(routes._scopes) <= SCOPES_MAX
    assert routes.scope(b"88.1") is not first
    last = b"88.x%d" % (SCOPES_MAX + 9)
    assert last in routes._scopes


def test_strangers_cannot_fill_the_table_with_long_prefixes() -> None:
    """A prefix of 2,000 segments costs a walk as deep as the rows are, and leaves nothing behind."""
    routes = table(row("88"), row("88.1"))
    long = b"88.1" + b".7" * 1_000
    assert found(routes, long) == "88.1"
    assert long not in routes._scopes
    assert len(routes._scopes) == 2


def test_a_million_prefixes_stay_below_190_megabytes() -> None:
    """In a process of its own: the table, and all the scopes that it keeps beside. 60 more is what a resolver has."""
    ran = subprocess.run(
        [sys.executable, "-m", "loadtest.routes_memory", "1000000"], capture_output=True, check=True, timeout=110
    )
    measured = json.loads(ran.stdout)
    assert measured["prefixes"] == 1_000_000
    assert measured["table_mb"] > 50  # or nothing was measured
    assert measured["with_scopes_mb"] <= 190


def test_more_shapes_than_are_shared_stand_in_their_rows() -> None:
    """Endpoints of each prefix's own, and what was shared before goes on being so."""
    rows = [
        Prefix(f"88.{number}", "h", endpoints=(Endpoint(Protocol.GRPC, "192.0.2.1", 1 + number),), epoch=1)
        for number in range(SHAPES_MAX + 3)
    ]
    routes = table(*rows)
    assert [routes.allocation(row.key) for row in rows] == rows
    assert len(routes._rows[rows[-1].key]) > len(routes._rows[rows[0].key])
    routes.replace(rows[:2])
    assert [routes.allocation(row.key) for row in rows[:3]] == [*rows[:2], None]
