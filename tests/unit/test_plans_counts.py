"""Reports of counts: which are taken, and of which rows."""

from typing import Any

import pytest

from registry import counts
from registry.counts import CountsReport, CountsRow, taken_rows
from registry.plans import Outcome, refused_bits
from resolver.counting import Figures, day_of, day_to_text
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, PrefixState
from resolver.store.counts import DAYS_KEPT
from tests.planning import NOW, Planning, node

TODAY = day_of(NOW)


async def planning() -> Planning:
    return await Planning.begin(
        nodes=[node("88.111"), node("88.111.5", parent="88.111"), node("88.222")],
        prefixes=[
            Prefix("88.111", "88.111"),
            Prefix("88.111.5", "88.111.5"),
            Prefix("88.222", "88.222", state=PrefixState.DISABLED),
        ],
    )


def report(*prefixes: str, day: int = TODAY, **more: Any) -> dict[str, Any]:
    return {"day": day_to_text(day), "rows": [{"prefix": each, "queries": 1} for each in prefixes], **more}


async def refusals(actor: str, body: Any) -> dict[int, Reason]:
    plan = await (await planning()).plan(counts.plan, actor, body)
    assert not any((plan.writes, plan.prefixes, plan.nodes))
    assert [row for row, outcome in enumerate(plan.outcomes) if outcome is Outcome.REFUSED] == list(plan.refusals)
    return {row: fault.reason for row, fault in plan.refusals.items()}


async def test_a_node_reports_what_is_its_own_and_what_lies_below() -> None:
    held_not = {2: Reason.PREFIX_NOT_HELD, 3: Reason.PREFIX_NOT_ALLOCATED}
    own = report("88.111", "88.111.5.7", "88.222", "77")
    assert await refusals("88.111", own) == held_not
    assert await refusals("88.111.5", report("88.111.5", "88.111")) == {1: Reason.PREFIX_NOT_HELD}
    # What it counted, it counted: whatever the prefix is now.
    assert await refusals("88.222", report("88.222")) == {}


@pytest.mark.parametrize("prefix", ["", "88..1", "88.111/a", "88.111." + "9" * 300])
async def test_what_is_no_prefix_is_refused_by_itself(prefix: str) -> None:
    assert list(await refusals("88.111", report("88.111", prefix))) == [1]


@pytest.mark.parametrize("day", [0, TODAY + 1, TODAY, TODAY - DAYS_KEPT + 1])
async def test_days_that_are_kept_are_taken_and_so_are_totals(day: int) -> None:
    assert await refusals("88.111", report("88.111", day=day)) == {}


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (report("88.111", day=TODAY + 2), Reason.FIELD_OUT_OF_RANGE, "day"),
        (report("88.111", day=TODAY - DAYS_KEPT), Reason.FIELD_OUT_OF_RANGE, "day"),
        (report("88.111") | {"day": "yesterday"}, Reason.FIELD_OUT_OF_RANGE, "day"),
        (report(), Reason.BATCH_EMPTY, "rows"),
        (report(*["88.111"] * 1_001), Reason.BATCH_TOO_LARGE, "rows"),
        (report("88.111", more=1), Reason.PAYLOAD_MALFORMED, "more"),
        (
            {"day": "total", "rows": [{"prefix": "88.111", "queries": -1}]},
            Reason.PAYLOAD_MALFORMED,
            "rows[0].queries",
        ),
    ],
)
async def test_a_report_that_is_none_is_refused(body: Any, reason: Reason, field: str) -> None:
    with pytest.raises(Fault) as raised:
        await refusals("88.111", body)
    assert (raised.value.reason, raised.value.field) == (reason, field)


async def test_operators_report_nothing() -> None:
    with pytest.raises(Fault) as raised:
        await refusals("local", report("88.111"))
    assert raised.value.reason is Reason.NOT_AUTHORISED


async def test_a_day_may_be_marked_without_a_row() -> None:
    assert await refusals("88.111", report(partial=True)) == {}


def test_the_rows_that_were_taken_are_told_by_the_statement() -> None:
    given = CountsReport(day="total", rows=[CountsRow(prefix=f"88.x{n}", found=n) for n in range(20)])
    outcomes = [Outcome.REFUSED if n in {0, 7, 8, 19} else Outcome.REGISTERED for n in range(20)]
    taken = dict(taken_rows(given, refused_bits(outcomes)))
    assert taken == {f"88.X{n}".encode(): Figures(found=n) for n in range(20) if n not in {0, 7, 8, 19}}
    assert len(dict(taken_rows(given, b""))) == 20


def test_rows_say_figures_and_back() -> None:
    figures = Figures(*range(7, 14))
    assert CountsRow.of(b"88.111", figures).figures == figures
