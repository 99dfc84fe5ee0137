"""What the demo asks, made by rule: mostly about some things over and over, as callers do, and about all of them."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeVar

from nodes.demo.corpus import Corpus
from nodes.demo.expectations import Expected, nowhere, referred, refused, registered, unregistered
from resolver.errors import Reason
from resolver.handle import CaseRule
from resolver.routes import Hosting

POPULAR: Final = 4_000
"""Things that three of four questions are about, from all enterprises."""

_STRIDE: Final = 7_919
_CYCLE: Final = 20
_NOWHERE: Final = "88.9999.1/0001"

_Kind = TypeVar("_Kind")


def everyday(corpus: Corpus, count: int, begin: int = 0) -> Iterator[Expected]:
    """Ask what callers ask: of 20 questions one is spelled in small letters, and one is about nothing."""
    for place in range(begin, begin + count):
        number = _number(place, len(corpus))
        prefix = corpus.prefix(number)
        match place % _CYCLE:
            case 0 if prefix.case is CaseRule.INSENSITIVE:
                found = corpus.registration(number)
                yield registered(found, found.identifier.lower())
            case 10:
                yield unregistered(corpus.unregistered(number), prefix)
            case _:
                yield registered(corpus.registration(number))


def referrals(corpus: Corpus, count: int) -> Iterator[Expected]:
    """Ask where to go on, below delegated prefixes; whether it is registered does not matter there."""
    asked = (corpus.unregistered(place * _STRIDE % len(corpus)) for place in range(len(corpus)))
    prefixes = {prefix.text: prefix for prefix in corpus.prefixes if prefix.hosting is Hosting.DELEGATED}
    delegated = (each for each in asked if each.partition("/")[0] in prefixes)
    for each in islice(delegated, count):
        yield referred(each, prefixes[each.partition("/")[0]])


def special(corpus: Corpus) -> Iterator[Expected]:
    """Ask what is easily answered wrongly."""
    yield nowhere(_NOWHERE)
    yield refused("no slash", Reason.IDENTIFIER_NO_SLASH)
    # Below a secondary node, but below none of its enterprises: that node may know.
    yield unregistered("88.101.99999/1", next(each for each in corpus.prefixes if each.text == "88.101"))
    # Leading zeros count, and so does case below one of the prefixes.
    for text in ("88.101.42", "88.101.0042", "88.1021.150"):
        numbers = [number for number in _sample(corpus) if corpus.prefix(number).text == text]
        for number in numbers[:_CYCLE]:
            yield registered(corpus.registration(number))
    for number in _sample(corpus):
        if corpus.prefix(number).text == "88.1021.150":
            # Spelled otherwise it is another one, which is not registered.
            yield unregistered(corpus.identifier(number).lower(), corpus.prefix(number))


def batches(questions: Iterator[_Kind], size: int) -> Iterator[list[_Kind]]:
    """Cut into lists of this size; the last one may be shorter."""
    while batch := list(islice(questions, size)):
        yield batch


def _number(place: int, size: int) -> int:
    if place % 4:
        popular = min(POPULAR, size)
        return place * _STRIDE % popular * size // popular
    return place * _STRIDE % size


def _sample(corpus: Corpus) -> range:
    return range(0, len(corpus), max(1, len(corpus) // 5_000))
