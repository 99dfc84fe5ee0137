"""Answers of children as nearly all are, checked natively: by the front's distribution, where that is installed.

What is not like that `resolver.federation.checking` checks, which would say the same of these: a property test holds
both to it.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from resolver.answer import FOUND
from resolver.errors import Fault
from resolver.federation.checking import Said, Terms, Wanted
from resolver.rpc.native_channel import MODULE

Usual: TypeAlias = Callable[[Sequence[bytes | Fault], Sequence[Wanted], Terms], Sequence[Said | None]]
"""Gives for each of what came what is made of it; None where it must be looked at."""

Split: TypeAlias = Callable[[bytes], list[bytes] | None]
"""Gives the answers in a BatchResolveResponse that has nothing else; else None."""


def none_usual(results: Sequence[bytes | Fault], _wanted: Sequence[Wanted], _terms: Terms) -> Sequence[Said | None]:
    """Leave everything to be looked at."""
    return [None] * len(results)


def native_usual() -> Usual:
    """Give the native check, which must be installed."""
    look: Any = import_module(MODULE).usual_answers

    def usual(results: Sequence[bytes | Fault], wanted: Sequence[Wanted], terms: Terms) -> Sequence[Said | None]:
        told = (terms.child, terms.protocol, terms.now, terms.positive_for, terms.trust)
        return [Said(each[0], FOUND, each[1]) if each else None for each in look(results, wanted, told)]

    return usual


def native_split() -> Split:
    """Give the native splitting, which must be installed."""
    split: Split = import_module(MODULE).batch_answers
    return split
