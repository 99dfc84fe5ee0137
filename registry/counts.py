"""The planner of reports of counts: what a node below has counted, of one day or in total, since its last report.

A report says what came since the one before, so that the sum of all that are in the journal is the figure. It changes
nothing that is registered; who adds up is `registry.counts_journal`.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Self

from msgspec import Meta, Struct

from registry.authority import not_held
from registry.bodies import check_rows, decode
from registry.plans import Actor, Outcome, Plan, Request
from registry.state import State
from resolver.counting import IN_TOTAL, PREFIX_BYTES, Figures, day_from_text, day_of, day_to_text
from resolver.errors import Fault, Reason
from resolver.handle import ancestors, check_prefix
from resolver.store.counts import DAYS_KEPT

KIND: Final = "counts.v1"

AHEAD_DAYS: Final = 1
"""A node's day may have begun before this node's, by its clock."""

_Count = Annotated[int, Meta(ge=0, lt=2**53)]


class CountsRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was counted below one prefix: as `resolver.counting.Figures` says."""

    prefix: str
    queries: _Count = 0
    found: _Count = 0
    recursive_queries: _Count = 0
    recursive_found: _Count = 0
    registered: _Count = 0
    deleted: _Count = 0
    allocated: _Count = 0

    @classmethod
    def of(cls, prefix: bytes, figures: Figures) -> Self:
        return cls(
            prefix=prefix.decode(),
            queries=figures.queries,
            found=figures.found,
            recursive_queries=figures.recursive_queries,
            recursive_found=figures.recursive_found,
            registered=figures.registered,
            deleted=figures.deleted,
            allocated=figures.allocated,
        )

    @property
    def figures(self) -> Figures:
        return Figures(
            self.queries,
            self.found,
            self.recursive_queries,
            self.recursive_found,
            self.registered,
            self.deleted,
            self.allocated,
        )


class CountsReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of counts.v1.

    `day` is "2026-11-29" in Asia/Shanghai, or "total"; `partial`: it is known not to be all of the day. A report has
    1 to 1,000 rows; one that only says that a day is not all may have none.
    """

    day: str
    rows: list[CountsRow]
    partial: bool = False


def read(body: bytes) -> tuple[int, CountsReport]:
    """Read a body, and which day it is about.

    Raises:
        Fault: PAYLOAD_MALFORMED, FIELD_OUT_OF_RANGE.
    """
    report = decode(body, CountsReport)
    return day_from_text(report.day), report


async def plan(request: Request, state: State) -> Plan:
    """Say what a report comes to: each row is REGISTERED, or REFUSED where the prefix is not the node's.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, FIELD_OUT_OF_RANGE, BATCH_EMPTY, BATCH_TOO_LARGE.
    """
    day, report = read(request.body)
    if request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, "A node reports what it has counted itself.")
    _check_day(day, day_of(request.at))
    if report.rows or not report.partial:
        check_rows(len(report.rows))
    outcomes = [Outcome.REGISTERED] * len(report.rows)
    refusals: dict[int, Fault] = {}
    for position, row in enumerate(report.rows):
        try:
            _check_prefix(row.prefix, request.actor, state)
        except Fault as fault:
            outcomes[position] = Outcome.REFUSED
            refusals[position] = fault
    return Plan(outcomes=outcomes, refusals=refusals)


def taken_rows(report: CountsReport, refused: bytes) -> Iterator[tuple[bytes, Figures]]:
    """Give the rows of a report that were taken, by folded prefix; `refused` as `plans.refused_bits` gives it."""
    for position, row in enumerate(report.rows):
        if position >> 3 >= len(refused) or not refused[position >> 3] >> (position & 7) & 1:
            yield check_prefix(row.prefix.encode()), row.figures


def _check_day(day: int, today: int) -> None:
    if day == IN_TOTAL or today - DAYS_KEPT < day <= today + AHEAD_DAYS:
        return
    raise Fault(
        Reason.FIELD_OUT_OF_RANGE,
        f"Counts are taken of {DAYS_KEPT} days until {day_to_text(today)}; this is of {day_to_text(day)}.",
        field="day",
    )


def _check_prefix(text: str, actor: Actor, state: State) -> None:
    """Check that a prefix is the actor's, or lies below one that is: in whatever state that is at present.

    Raises:
        Fault: PREFIX_NOT_ALLOCATED, PREFIX_NOT_HELD; PREFIX_* and IDENTIFIER_* of a prefix that cannot be one.
    """
    key = check_prefix(text.encode())
    if len(key) > PREFIX_BYTES:
        detail = f"Prefixes of more than {PREFIX_BYTES} bytes are not counted."
        raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field="prefix")
    nearest = None
    for above in ancestors(key):
        row = state.routes.allocation(above)
        if row is not None and row.holder == actor.name:
            return
        nearest = nearest or row
    if nearest is None:
        raise Fault(Reason.PREFIX_NOT_ALLOCATED, field="prefix", variables={"prefix": text})
    raise not_held(nearest, field="prefix")
