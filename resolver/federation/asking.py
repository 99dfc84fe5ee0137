"""Asking a child for a batch: the question is sent, the answers are checked, referrals that lead on are followed."""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from resolver.bounds import HOPS_MAX
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.federation.checking import Deeper, Refused, Said, Terms, Wanted, check
from resolver.federation.child import Child
from resolver.federation.children import Children
from resolver.federation.driver import Question, Reply
from resolver.federation.settings import FederationSettings
from resolver.federation.usual import Usual, none_usual
from resolver.handle import fold
from resolver.query import Path
from resolver.trace import Step, Trace
from resolver.trust.verdicts import Trust

_PASSED_ON: Final = frozenset(
    {
        Reason.PREFIX_DISABLED,
        Reason.PREFIX_EXPIRED,
        Reason.HOP_LIMIT,
        Reason.REFERRAL_LOOP,
        Reason.CHILD_UNREACHABLE,
        Reason.CHILD_ANSWER_REFUSED,
        Reason.ANSWER_TOO_LARGE,
    }
)
"""What a child may say of an identifier in so many words; anything else is its own trouble."""

_DETAIL: Final = 400
"""Characters of a child's sentence that are passed on."""

_RETRY_AFTER: Final = 1.0

_STEPS: Final = 32
_STEP_TEXT: Final = 80
"""Steps of a child's trace that are passed on, and characters of each text in them: callers take 8 KiB in all."""


class Errand(Struct, frozen=True, kw_only=True):
    """What holds for all of a question: its path as it is sent, its deadline (monotonic), and what is wanted."""

    path: Path
    deadline: float
    authoritative: bool = False
    trace: Trace | None = None


class Asking:
    """Asks children. What goes wrong for an identifier is a Fault in its place; nothing is raised."""

    def __init__(
        self, children: Children, *, clock: Clock, settings: FederationSettings, usual: Usual = none_usual
    ) -> None:
        self._children = children
        self._usual = usual
        self._clock = clock
        self._settings = settings

    async def ask(self, child: Child, wanted: Sequence[Wanted], errand: Errand) -> list[Said | Fault]:
        """Ask a child, and whom it refers to, for at most 1,000 identifiers; answers stand in their order."""
        question = Question(
            identifiers=[each.key for each in wanted],
            deadline=errand.deadline,
            path=errand.path,
            authoritative=errand.authoritative,
            trace=errand.trace is not None,
            signer=child.name if self._settings.signed else "",
        )
        try:
            reply = await child.ask(question)
        except Fault as fault:
            if fault.reason is Reason.CHILD_ANSWER_REFUSED:
                child.refused[fault.variables.get("why", "malformed")] += len(wanted)
            if errand.trace:
                _tell(errand.trace, child, None, [fault] * len(wanted))
            return [_told(fault, child)] * len(wanted)
        results, deeper = self._check(child, wanted, reply)
        if errand.trace:
            _tell(errand.trace, child, reply, results)
        if deeper and self._settings.follow_referrals:
            await self._follow(child, wanted, deeper, results, errand)
        return results

    def _check(
        self, child: Child, wanted: Sequence[Wanted], reply: Reply
    ) -> tuple[list[Said | Fault], dict[int, Deeper]]:
        """Say what is made of each result, and at which places a child has named another node."""
        terms = Terms(
            child=child.name,
            protocol=reply.protocol,
            now=self._clock.wall(),
            positive_for=self._settings.positive_for,
            absent_for=self._settings.absent_for,
            trust=reply.trust,
        )
        if reply.trust is Trust.NOT_TRUSTED:
            child.untrusted += len(wanted)
        results: list[Said | Fault] = []
        deeper: dict[int, Deeper] = {}
        usual = self._usual(reply.results, wanted, terms)
        for each, result, said in zip(wanted, reply.results, usual, strict=True):
            if said is not None:
                results.append(said)
                continue
            if isinstance(result, Fault):
                results.append(_told(result, child))
                continue
            verdict = check(result, each, terms)
            if isinstance(verdict, Refused):
                child.refused[verdict.why] += 1
                results.append(_refused(child, verdict.why))
            elif isinstance(verdict, Deeper):
                deeper[len(results)] = verdict
                results.append(verdict.said)
            else:
                results.append(verdict)
        return results, deeper

    async def _follow(
        self,
        child: Child,
        wanted: Sequence[Wanted],
        deeper: dict[int, Deeper],
        results: list[Said | Fault],
        errand: Errand,
    ) -> None:
        """Ask whom a child has named, each once, and put the answers in their places.

        A referral to what nobody here speaks with stays as it is.
        """
        groups: dict[Child, list[int]] = {}
        path = errand.path
        for place, each in deeper.items():
            referral = each.referral
            if not self._children.reaches(referral.endpoints):
                continue
            if referral.holder == child.name or referral.holder in path.visited:
                results[place] = looped((*path.visited, child.name, referral.holder))
            elif path.hops_left < 1 or len(path.visited) >= HOPS_MAX:
                results[place] = too_far((*path.visited, child.name))
            else:
                # Under the name of the child that was believed: what it makes up must not fill the metrics.
                named = self._children.child(referral.holder, referral.endpoints, label=child.label)
                groups.setdefault(named, []).append(place)
        onward = Errand(
            path=Path((*path.visited, child.name), path.hops_left - 1) if groups else path,
            deadline=errand.deadline,
            authoritative=errand.authoritative,
            trace=errand.trace,
        )
        asked = []
        for named, places in groups.items():
            narrowed = [
                Wanted(wanted[place].key, fold(deeper[place].referral.prefix.encode()), wanted[place].case_sensitive)
                for place in places
            ]
            asked.append(self.ask(named, narrowed, onward))
        for places, given in zip(groups.values(), await asyncio.gather(*asked), strict=True):
            for place, result in zip(places, given, strict=True):
                results[place] = result


def looped(way: Sequence[str]) -> Fault:
    """Say that a question came back to where it had been."""
    return Fault(
        Reason.REFERRAL_LOOP,
        f"The question came back to a node that it had gone through: {' > '.join(way)}.",
        field="identifier",
    )


def too_far(way: Sequence[str]) -> Fault:
    """Say that a question may go no further."""
    return Fault(
        Reason.HOP_LIMIT, f"The question went through as many nodes as it may: {' > '.join(way)}.", field="identifier"
    )


def _refused(child: Child, why: str) -> Fault:
    return Fault(
        Reason.CHILD_ANSWER_REFUSED,
        f"What the node {child.name} said was dropped: {why}.",
        field="identifier",
        variables={"child": child.name, "why": why},
    )


def _told(fault: Fault, child: Child) -> Fault:
    """Say what a child said of an identifier, or why it said nothing, as this node's own word."""
    if fault.reason in _PASSED_ON:
        variables = {"child": child.name} | dict(fault.variables) if "child" in fault.variables else {}
        return Fault(
            fault.reason,
            fault.detail[:_DETAIL],
            field="identifier",
            retry_after=fault.retry_after,
            variables=_short(variables) or {"child": child.name},
        )
    return Fault(
        Reason.CHILD_UNREACHABLE,
        f"The node {child.name} did not answer but said {fault.reason.name}.",
        field="identifier",
        retry_after=fault.retry_after or _RETRY_AFTER,
        variables={"child": child.name, "reason": fault.reason.name},
    )


def _shortened(step: Step) -> Step:
    return Step(step.node[:_STEP_TEXT], step.tier[:_STEP_TEXT], step.verdict[:_STEP_TEXT], step.microseconds)


def _short(variables: dict[str, str]) -> dict[str, str]:
    return {name: variables[name][:_DETAIL] for name in ("child", "why", "reason") if name in variables}


def _tell(trace: Trace, child: Child, reply: Reply | None, results: Sequence[Said | Fault]) -> None:
    """Note in the trace what a child said, and before it the child's own steps."""
    failed = sum(isinstance(result, Fault) for result in results)
    spoken = "unanswered"
    if reply is not None:
        trace.steps += map(_shortened, reply.steps[:_STEPS])
        spoken = reply.protocol.name.lower()
    trace.step("child", f"{child.name} {spoken} {len(results) - failed} answered {failed} failed")
