"""The 51 % rule over all children: pure functions of what was seen. Nothing is asked and nothing is done here.

A child is down when it was probed at least `least` times within the window and 51 of 100 probes failed. One that is
down is due to be taken over, unless more than half of all children fail together: then it is more likely this node,
or its network, that has failed, and nothing is begun. A child that was taken over is due to get its prefixes back
after a whole window without a failure.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from nodes.probing.window import Tally

DOWN_PERCENT: Final = 51
"""Of the probes within the window: as many failures make a child down (GUIDE annex 4: 51 % or more)."""


class Standing(StrEnum):
    """How a child is."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"
    """It was not probed often enough, or cannot be probed from here."""


class Due(StrEnum):
    """What is to be done about a child. What is only an operator's to do says so."""

    NOTHING = ""
    TAKE_OVER = "take over"
    HAND_BACK = "hand back"
    OPERATOR_TAKES_OVER = "take over, by an operator"
    OPERATOR_HANDS_BACK = "hand back, by an operator"


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of one child.

    `tally` is of the window, other vantage points included; `is_full`: the window has been watched from its
    beginning to its end. `fails_now`: the newest probe failed. `down_for` is for how many seconds it has been down
    without a break, 0 where it is not. `takeover`, `is_automatic` and `agreement` are what its row says; `is_held`:
    an operator has ended a takeover while the child was down, and it has not been up since.
    """

    tally: Tally
    is_full: bool
    fails_now: bool
    down_for: float = 0.0
    takeover: bool = False
    is_automatic: bool = False
    agreement: bool = False
    is_held: bool = False


class Rule(Struct, frozen=True, kw_only=True):
    """What decisions go by: how many probes say anything, and for how many seconds a child must have been down.

    The latter is so long that each other child has been probed meanwhile: else the first child that a failure of
    this node's own network makes down would be taken over before the others are seen to fail.
    """

    least: int
    settle: float


class Decisions(Struct, frozen=True, kw_only=True):
    """What is due, by child, and whether this node suspects itself, which is why nothing is taken over."""

    due: Mapping[str, Due]
    suspects_itself: bool
    failing: int
    counted: int


def standing(tally: Tally, least: int) -> Standing:
    """Tell how a child is by its window."""
    if tally.probes < least:
        return Standing.UNKNOWN
    return Standing.DOWN if tally.failed * 100 >= DOWN_PERCENT * tally.probes else Standing.UP


def decide(children: Mapping[str, Evidence], rule: Rule) -> Decisions:
    """Decide about all children that are probed.

    Those that were taken over count too: however it came to it, where more than half fail, none is taken over.
    """
    counted = [seen for seen in children.values() if seen.tally.probes]
    failing = sum(_fails(seen, rule) for seen in counted)
    suspects_itself = _is_most(failing, counted)
    due = {name: _due(seen, rule, may_begin=not suspects_itself) for name, seen in children.items()}
    return Decisions(due=due, suspects_itself=suspects_itself, failing=failing, counted=len(counted))


def _is_most(failing: int, counted: Sequence[Evidence]) -> bool:
    return 2 * failing > len(counted)


def _fails(seen: Evidence, rule: Rule) -> bool:
    return seen.fails_now or standing(seen.tally, rule.least) is Standing.DOWN


def _due(seen: Evidence, rule: Rule, *, may_begin: bool) -> Due:
    if seen.takeover:
        if not (seen.is_full and seen.tally.probes >= rule.least and not seen.tally.failed):
            return Due.NOTHING
        # What an operator has begun has a reason that probes know nothing of.
        return Due.HAND_BACK if seen.is_automatic else Due.OPERATOR_HANDS_BACK
    is_down = standing(seen.tally, rule.least) is Standing.DOWN
    if not (is_down and may_begin and seen.down_for >= rule.settle):
        return Due.NOTHING
    return Due.TAKE_OVER if seen.agreement and not seen.is_held else Due.OPERATOR_TAKES_OVER
