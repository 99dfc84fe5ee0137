"""A secondary node that is killed: what callers are told, when its place is taken, and how it comes back."""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from nodes.demo.asking import Verdicts, read
from nodes.demo.corpus import Corpus
from nodes.demo.expectations import Expected, fetched, pushed, refused
from nodes.demo.stage import Stage
from nodes.demo.topology import own_nodes
from nodes.demo.watching import children
from nodes.demo.wuhan import Secondary
from nodes.probing.deciding import Standing
from nodes.probing.seen import ChildSeen
from resolver.answer import Answer
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.query import Mode

PATIENCE: Final = 90.0
"""Seconds for what takes a few windows of probes: an answer that has not come to be right by then is wrong."""

_PAUSE: Final = 0.1


class Event(Struct, frozen=True, kw_only=True):
    """Something that was asked for, or seen: seconds after the kill, and how many the answer took (0: none asked)."""

    after: float
    what: str
    told: str
    took: float = 0.0


class Failed(Struct, frozen=True, kw_only=True):
    """One killing of a node, from before to when it answers for itself again."""

    node: str
    events: list[Event]


class Failing:
    """Kills a secondary node that has agreed to be taken over, and starts it again."""

    def __init__(self, on: Stage, clock: Clock, verdicts: Verdicts) -> None:
        self._on = on
        self._clock = clock
        self._verdicts = verdicts
        self._events: list[Event] = []
        self._killed = 0.0

    async def fail(self, node: Secondary, corpus: Corpus, tell: Callable[[str], None]) -> Failed:
        """Kill it, ask for what lies below it, and bring it back; `corpus` is what was registered there.

        `tell` is told what is waited for.

        Raises:
            Fault: it does not start again.
        """
        numbers = corpus.numbers(own_nodes(node)[-1])
        fresh, known = corpus.registration(numbers[0]), corpus.registration(numbers[-1])
        tell("its probes are good")
        await self._until(node.prefix, lambda seen: seen.standing is Standing.UP and not seen.takeover)
        # What was kept of it before is given up when its row or its routes change: it is asked for once more.
        answer, _took = await self._answer(known.identifier)
        self._verdicts.compare([fetched(known)], [answer])
        await self._on.below.kill(node.prefix)
        self._killed = self._clock.monotonic()
        what = f"something below {node.prefix}"
        await self._ask(f"{what} that was asked for before", fetched(known))
        await self._ask(f"{what} that was not", refused(fresh.identifier, Reason.CHILD_UNREACHABLE))
        await self._ask("the same, where a copy will do", pushed(fresh), with_copy=True)
        tell("an incident is opened, and its place is taken")
        await self._until(
            node.prefix, lambda seen: seen.incident is not None, "three probes have failed: an incident"
        )
        await self._until(node.prefix, lambda seen: seen.takeover, "51 % of the window have failed: taken over")
        await self._ask("the same again, a copy not asked for", pushed(fresh), takeover=True)
        await self._on.below.start_again(node.prefix)
        self._note("it is started again", "serves")
        tell("a whole window without a failure, until it is handed back")
        await self._until(
            node.prefix, lambda seen: not seen.takeover, "a whole window without a failure: handed back"
        )
        await self._ask("the same again", fetched(fresh))
        return Failed(node=node.prefix, events=self._events)

    async def _ask(self, what: str, expected: Expected, *, with_copy: bool = False, takeover: bool = False) -> None:
        """Ask until this is told: a machine that is busy may take a moment to see what has changed."""
        began = self._clock.monotonic()
        while True:
            answer, took = await self._answer(expected.asked, with_copy=with_copy)
            breach = expected.difference(answer)
            if not breach and isinstance(answer, Answer) and answer.takeover is not takeover:
                breach = f"{expected.asked}: takeover must be {takeover}"
            if not breach or self._clock.monotonic() - began > PATIENCE:
                break
            await asyncio.sleep(_PAUSE)
        self._verdicts.insist(expected.asked, breach)
        self._note(what, _in_words(answer), took)

    async def _until(self, name: str, is_so: Callable[[ChildSeen], bool], what: str = "") -> None:
        """Wait until the node sees one below it so."""
        began = self._clock.monotonic()
        while not (has_come := any(each.node == name and is_so(each) for each in await children(self._on.node))):
            if self._clock.monotonic() - began > PATIENCE:
                break
            await asyncio.sleep(_PAUSE)
        self._verdicts.insist(name, "" if has_come else f"not seen: {what or 'it is up'}")
        if what:
            self._note("the prober", what)

    async def _answer(self, identifier: str, *, with_copy: bool = False) -> tuple[Answer | Fault, float]:
        began = self._clock.monotonic()
        reply = await self._on.connections[0].send([identifier], Mode.RECURSIVE, with_copy=with_copy)
        took = self._clock.monotonic() - began
        (answer,) = read(reply, 1)
        return answer, took

    def _note(self, what: str, told: str, took: float = 0.0) -> None:
        self._events.append(Event(after=self._clock.monotonic() - self._killed, what=what, told=told, took=took))


def _in_words(answer: Answer | Fault) -> str:
    if isinstance(answer, Fault):
        return answer.reason.name
    words = [answer.outcome.name.lower().replace("_", " "), answer.standing.name.lower().replace("_", " ")]
    if answer.takeover:
        words.append("in its place")
    if answer.hops:
        words.append(f"by way of {', '.join(hop.node for hop in answer.hops)}")
    return " · ".join(words)
