"""Answers as tables in a terminal. What is in them is said in `nodes.asking.answers`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from nodes.asking.answers import data_text, lifetime_text, safe, time_text
from nodes.client import Traced
from nodes.terminal import table
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault
from resolver.record import DEFAULT_PERMISSIONS, Record, Value
from resolver.routes import Referral

_STYLES: Final = {
    Outcome.FAULT: "bold red",
    Outcome.FOUND: "bold green",
    Outcome.ABSENT: "bold yellow",
    Outcome.NOT_HERE: "bold yellow",
    Outcome.REFERRAL: "bold cyan",
}
_WORDS: Final = {
    Outcome.FAULT: "error",
    Outcome.FOUND: "found",
    Outcome.ABSENT: "absent",
    Outcome.NOT_HERE: "not here",
    Outcome.REFERRAL: "referral",
}
_STANDINGS: Final = {
    Standing.UNSPECIFIED: "",
    Standing.AUTHORITATIVE: "authoritative",
    Standing.REGISTERED_COPY: "registered copy",
    Standing.CACHED: "cached",
}


def one(asked: str, answer: Answer | Fault) -> RenderableType:
    """Show everything in one answer."""
    return Group(*_lines(asked, answer))


def many(asked: Iterable[str], answers: Iterable[Answer | Fault]) -> RenderableType:
    """Show a line for each of many answers."""
    shown = table("identifier", "outcome", "standing", "values", "first value", right=["values"])
    for identifier, answer in zip(asked, answers, strict=True):
        shown.add_row(Text(_spelling(identifier, answer)), _outcome(answer), *_cells(answer))
    return shown


def way(traced: Traced) -> RenderableType:
    """Show each tier that the answer passed, with its time."""
    shown = table("node", "tier", "said", "took", "at", right=["took", "at"])
    # Each node counts from when the question came to it.
    since: dict[str, int] = {}
    before = 0
    for step in traced.steps:
        took = step.microseconds - since.get(step.node, 0)
        shown.add_row(
            Text(safe(step.node)), safe(step.tier), safe(step.verdict), f"{took:,} us", f"{step.microseconds:,} us"
        )
        since[step.node] = before = step.microseconds
    whole = round(traced.seconds * 1_000_000)
    shown.add_row("here", "call", "answered", f"{whole - before:,} us", f"{whole:,} us")
    return shown


def _lines(asked: str, answer: Answer | Fault) -> Iterator[RenderableType]:
    yield Text(_spelling(asked, answer), style="bold")
    if isinstance(answer, Fault):
        yield Text.assemble("  ", _outcome(answer), f" · {answer.reason.name} · {safe(answer.detail)}")
        yield Text(f"  {answer.reason.value.remedy}", style="dim")
        return
    yield Text.assemble("  ", _outcome(answer), *(f" · {word}" for word in _provenance(answer)))
    if answer.record:
        yield from _record(answer.record)
    if answer.referral:
        yield from _referral(answer.referral)
    yield Text()


def _provenance(answer: Answer) -> Iterator[str]:
    if answer.standing:
        yield _STANDINGS[answer.standing]
    if answer.stale:
        yield "stale"
    if answer.takeover:
        yield "in the place of its authority, which is down"
    if answer.authority:
        yield f"by {safe(answer.authority)}"
    if answer.prefix:
        yield f"under {safe(answer.prefix)}"
    if answer.hops:
        yield f"by way of {', '.join(safe(hop.node) for hop in answer.hops)}"


def _record(record: Record) -> Iterator[RenderableType]:
    if record.tombstone:
        when = time_text(record.tombstone.deleted_at)
        yield Text(f"  deleted {when}: {safe(record.tombstone.reason)}")
        return
    times = f"  registered {time_text(record.registered_at)} by {safe(record.registrant)}"
    if record.updated_at != record.registered_at:
        times += f", updated {time_text(record.updated_at)}"
    yield Text(f"{times}, version {record.version:,}", style="dim")
    yield Padding(_values(record.values), (1, 0, 0, 2), expand=False)


def _values(values: Sequence[Value]) -> RenderableType:
    shown = table("index", "type", "data", "keep", "changed", "rights", right=["index"])
    for value in values:
        rights = "" if value.permissions == DEFAULT_PERMISSIONS else f"{value.permissions:04b}"
        shown.add_row(
            str(value.index),
            Text(safe(value.type)),
            Text(data_text(value.data)),
            lifetime_text(value),
            time_text(value.timestamp),
            rights,
        )
        for reference in value.references:
            shown.add_row("", "", Text(f"-> {safe(reference.handle)} [{reference.index}]", style="dim"))
    return shown


def _referral(referral: Referral) -> Iterator[RenderableType]:
    yield Text(f"  ask {safe(referral.holder)}, to whom {safe(referral.prefix)} is delegated")
    if not referral.endpoints:
        return
    shown = table("protocol", "address", "port", "priority", "TLS name", right=["port", "priority"])
    for endpoint in referral.endpoints:
        shown.add_row(
            endpoint.protocol.name.lower(),
            Text(endpoint.address),
            str(endpoint.port),
            str(endpoint.priority),
            Text(endpoint.tls_name),
        )
    yield Padding(shown, (1, 0, 0, 2), expand=False)


def _spelling(asked: str, answer: Answer | Fault) -> str:
    """Give the registered spelling where there is one."""
    if isinstance(answer, Answer) and answer.record:
        return safe(answer.record.identifier.to_text())
    return safe(asked)


def _outcome(answer: Answer | Fault) -> Text:
    outcome = Outcome.FAULT if isinstance(answer, Fault) else answer.outcome
    return Text(_WORDS[outcome], style=_STYLES[outcome])


def _cells(answer: Answer | Fault) -> tuple[str, str, Text]:
    if isinstance(answer, Fault):
        return "", "", Text(answer.reason.name)
    if answer.referral:
        return "", "", Text(f"ask {safe(answer.referral.holder)}")
    values = answer.record.values if answer.record else ()
    first = f"{safe(values[0].type)} {data_text(values[0].data)}" if values else ""
    return _STANDINGS[answer.standing], str(len(values)) if answer.record else "", Text(first)
