"""What an answer must be, said by whoever knows what was loaded and compared with what the node says."""

from typing import Any

import msgspec
from msgspec import Struct

from nodes.demo.corpus import Registration
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault, Reason
from resolver.record import Value
from resolver.routes import Hosting, Prefix


class Expected(Struct, frozen=True, kw_only=True):
    """One identifier as it is asked, and the one right answer.

    `prefix` is the longest allocated one, if any; `identifier` the registered spelling. With outcome FAULT it is
    `reason` that must come back.
    """

    asked: str
    outcome: Outcome
    prefix: Prefix | None = None
    standing: Standing = Standing.UNSPECIFIED
    identifier: str = ""
    values: tuple[Value, ...] = ()
    reason: Reason | None = None

    def difference(self, got: Answer | Fault) -> str:
        """Say in what an answer is not as it must be; empty where it is."""
        if isinstance(got, Fault):
            return "" if got.reason is self.reason else self._say("outcome", self.outcome, got)
        return next(
            (self._say(name, wanted, found) for name, wanted, found in self._pairs(got) if wanted != found), ""
        )

    def _pairs(self, got: Answer) -> list[tuple[str, Any, Any]]:
        pairs: list[tuple[str, Any, Any]] = [
            ("outcome", self.outcome, got.outcome),
            ("prefix", self.prefix.text if self.prefix else "", got.prefix),
        ]
        if self.outcome is Outcome.FOUND:
            record = got.record
            pairs.append(("standing", self.standing, got.standing))
            pairs.append(("identifier", self.identifier, record.identifier.to_text() if record else None))
            pairs.append(("values", _content(self.values), _content(record.values) if record else None))
        if self.outcome is Outcome.REFERRAL and self.prefix:
            route = got.referral
            wanted = (self.prefix.text, self.prefix.holder, self.prefix.endpoints)
            pairs.append(("route", wanted, (route.prefix, route.holder, route.endpoints) if route else None))
        return pairs

    def _say(self, name: str, wanted: object, found: object) -> str:
        return f"{self.asked}: {name} must be {wanted}, and is {found}"


def registered(registration: Registration, asked: str = "") -> Expected:
    """Expect a registration: here by the right of the authority, or as the copy of a delegated prefix's holder."""
    is_here = registration.prefix.hosting is Hosting.HERE
    return Expected(
        asked=asked or registration.identifier,
        outcome=Outcome.FOUND,
        prefix=registration.prefix,
        standing=Standing.AUTHORITATIVE if is_here else Standing.REGISTERED_COPY,
        identifier=registration.identifier,
        values=registration.public,
    )


def unregistered(asked: str, prefix: Prefix) -> Expected:
    """Expect that there is nothing: absent says only the authority, others just have nothing here."""
    is_here = prefix.hosting is Hosting.HERE
    return Expected(asked=asked, outcome=Outcome.ABSENT if is_here else Outcome.NOT_HERE, prefix=prefix)


def fetched(registration: Registration) -> Expected:
    """Expect a registration as the node below says it that is its authority."""
    return msgspec.structs.replace(registered(registration), standing=Standing.CACHED)


def pushed(registration: Registration) -> Expected:
    """Expect a registration as the copy that the node below has pushed, whoever holds the prefix here."""
    return msgspec.structs.replace(registered(registration), standing=Standing.REGISTERED_COPY)


def absent(asked: str, prefix: Prefix) -> Expected:
    """Expect the authority's word, given by a node below, that there is no such identifier."""
    return Expected(asked=asked, outcome=Outcome.ABSENT, prefix=prefix)


def referred(asked: str, prefix: Prefix) -> Expected:
    """Expect the route to the holder of a delegated prefix."""
    return Expected(asked=asked, outcome=Outcome.REFERRAL, prefix=prefix)


def nowhere(asked: str) -> Expected:
    """Expect that no prefix is known that covers it."""
    return Expected(asked=asked, outcome=Outcome.NOT_HERE)


def refused(asked: str, reason: Reason) -> Expected:
    """Expect a fault."""
    return Expected(asked=asked, outcome=Outcome.FAULT, reason=reason)


def _content(values: tuple[Value, ...]) -> list[tuple[Any, ...]]:
    """Everything but the time stamps, which the loading node sets."""
    return [(v.index, v.type, v.data, v.lifetime, v.permissions, v.references) for v in values]
