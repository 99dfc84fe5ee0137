"""Counts of what was asked: by prefix, by day, direct and recursive apart. What a process counts, and how days end.

An answer carries an opaque tag: below which allocated prefix it is, and whether a record was found. A front adds tags
up, a whole batch at a time, and knows nothing of what they say; here they are taken apart again when a tally is
handed on. Never Prometheus labels: there are hundreds of thousands of prefixes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter
from typing import Final

from msgspec import Struct

from resolver.answer import Ready
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.query import Mode

IN_TOTAL: Final = 0
"""In the place of a day: since the beginning. Kept for registrations, which are owed of the day and in total."""

DAY_SECONDS: Final = 86_400
SHANGHAI_SECONDS: Final = 8 * 3_600
"""Days are those of Asia/Shanghai, which is eight hours ahead of UTC and has no summer time (since 1991)."""

PREFIX_BYTES: Final = 255
"""Prefixes longer than this are not counted: counts are kept in the order of prefixes, and keys have a bound."""

TOTAL_WORD: Final = "total"
"""How IN_TOTAL is written."""

_FEW: Final = 8
"""Below so many answers a loop is quicker than what counts them all at once."""

_FOUND: Final = b"+"
_OTHER: Final = b"-"
_TAG: Final = attrgetter("tag")
_RECURSIVE: Final = Mode.RECURSIVE
_EPOCH: Final = date(1970, 1, 1)


def tags_of(prefix: bytes) -> tuple[bytes, bytes]:
    """Give the tags of answers below a folded allocated prefix: where a record was found, and of every other."""
    if len(prefix) > PREFIX_BYTES:
        return b"", b""
    return _FOUND + prefix, _OTHER + prefix


def day_of(wall: float) -> int:
    """Give the day, in Asia/Shanghai, of a Unix time: days since 1970-01-01."""
    return int((wall + SHANGHAI_SECONDS) // DAY_SECONDS)


def day_ends(day: int) -> int:
    """Give the Unix time at which a day ends and the next one begins."""
    return (day + 1) * DAY_SECONDS - SHANGHAI_SECONDS


def day_to_text(day: int) -> str:
    """Write a day as "2026-11-29", IN_TOTAL as "total"."""
    return TOTAL_WORD if day == IN_TOTAL else (_EPOCH + timedelta(days=day)).isoformat()


def day_from_text(text: str, *, field: str = "day") -> int:
    """Read what `day_to_text` writes.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    if text == TOTAL_WORD:
        return IN_TOTAL
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        found = _EPOCH
    day = (found - _EPOCH).days
    if day <= IN_TOTAL or found.isoformat() != text:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, f'A day is written as 2026-11-29, or "{TOTAL_WORD}".', field=field)
    return day


class Figures(Struct, frozen=True, array_like=True, gc=False):
    """What is counted of one prefix, of a day or in total. New fields come last with a default: rows are kept.

    `queries` are identifiers that were answered below the prefix (found, absent, not here, referred to another node;
    what was refused or failed is none), `found` those of them for which a record was given; both without those asked
    recursively, which stand apart. `registered` and `deleted` are identifiers, `allocated` prefixes directly below.
    """

    queries: int = 0
    found: int = 0
    recursive_queries: int = 0
    recursive_found: int = 0
    registered: int = 0
    deleted: int = 0
    allocated: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.queries + other.queries,
            self.found + other.found,
            self.recursive_queries + other.recursive_queries,
            self.recursive_found + other.recursive_found,
            self.registered + other.registered,
            self.deleted + other.deleted,
            self.allocated + other.allocated,
        )

    def __sub__(self, other: "Figures") -> "Figures":
        return self + Figures(
            -other.queries,
            -other.found,
            -other.recursive_queries,
            -other.recursive_found,
            -other.registered,
            -other.deleted,
            -other.allocated,
        )

    def __bool__(self) -> bool:
        return self != NOTHING


NOTHING: Final = Figures()


class Tally(Struct, frozen=True):
    """What was counted on one day, by folded prefix. `is_partial`: it is not all."""

    day: int
    rows: dict[bytes, Figures]
    is_partial: bool = False


class Counting:
    """Counts in one process. `count` is on the way of each answer; everything else is done twice a second.

    A day is that on which counting began anew: whoever takes tallies must do it when a day ends (`day_ends`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: Callable[[], Iterable[tuple[bytes, int, int]]] = tuple
        self._begin()

    def count(self, answers: Sequence[Ready], mode: Mode) -> None:
        """Count the answers of one query."""
        counts = self._recursive if mode is _RECURSIVE else self._direct
        if len(answers) < _FEW:
            for ready in answers:
                counts[ready.tag] += 1
        else:
            counts.update(map(_TAG, answers))

    def count_beside(self, counted: Callable[[], Iterable[tuple[bytes, int, int]]]) -> None:
        """Take what a front has counted by itself too, whenever a tally is taken: a tag, direct and recursive."""
        self._counted = counted

    def take(self) -> Tally:
        """Give what was counted since the last time, and begin anew."""
        for tag, direct, recursive in self._counted():
            self._direct[tag] += direct
            self._recursive[tag] += recursive
        day, directly, recursively = self.day, self._direct, self._recursive
        self._begin()
        rows: dict[bytes, Figures] = {}
        for tag, count in directly.items():
            if tag:
                held = rows.get(tag[1:], NOTHING)
                rows[tag[1:]] = held + Figures(count, count if tag[:1] == _FOUND else 0)
        for tag, count in recursively.items():
            if tag:
                held = rows.get(tag[1:], NOTHING)
                rows[tag[1:]] = held + Figures(0, 0, count, count if tag[:1] == _FOUND else 0)
        return Tally(day, rows)

    def _begin(self) -> None:
        self.day = day_of(self._clock.wall())
        self._direct: Counter[bytes] = Counter()
        self._recursive: Counter[bytes] = Counter()
