"""What is said alike of all identifiers of a scope: tails, absences, refusals and referrals, each made once."""

from resolver import wire
from resolver.answer import NOT_HERE, REFERRAL, Failed, Outcome, Ready, Standing
from resolver.counting import tags_of
from resolver.errors import Fault, Reason
from resolver.routes import Hosting, Prefix, Scope, Verdict


class Sayings:
    """What a node says of a scope whose verdict is to answer; kept on the scope itself.

    `tail` follows on the body of a record. `absent` is the frame for an identifier that is not there, None where
    this node is not the authority: then `not_here` is the answer. `referral` is the answer that names the holder,
    None where the prefix is hosted here; `referral_body` is that without standing and provenance. `found_tag` and
    `other_tag` are the tags of answers that give a record and of all others.
    """

    __slots__ = ("absent", "found_tag", "not_here", "other_tag", "referral", "referral_body", "tail")

    def __init__(self, node: str, prefix: Prefix) -> None:
        is_delegated = prefix.hosting is Hosting.DELEGATED
        authority = prefix.holder if is_delegated else node
        bare_tail = wire.tail(Standing.UNSPECIFIED, authority, prefix.text)
        self.tail = wire.tail(
            Standing.REGISTERED_COPY if is_delegated else Standing.AUTHORITATIVE, authority, prefix.text
        )
        self.absent = None if is_delegated else wire.frame(wire.bare_body(Outcome.ABSENT) + self.tail)
        self.found_tag, self.other_tag = tags_of(prefix.key)
        self.not_here = Ready(wire.frame(wire.bare_body(Outcome.NOT_HERE) + bare_tail), NOT_HERE, tag=self.other_tag)
        self.referral_body = wire.referral_body(prefix) if is_delegated else b""
        referral = Ready(wire.frame(self.referral_body + bare_tail), REFERRAL, tag=self.other_tag)
        self.referral = referral if is_delegated else None


class Speaker:
    """Says what this node says of a scope."""

    def __init__(self, node: str) -> None:
        self._node = node
        tail = wire.tail(Standing.UNSPECIFIED, node, "")
        self._not_allocated = Ready(wire.frame(wire.bare_body(Outcome.NOT_HERE) + tail), NOT_HERE)

    def sayings(self, scope: Scope) -> Sayings | None:
        """Give what is said where the scope's verdict is to answer, else None."""
        said = scope.ready
        if isinstance(said, Sayings):
            return said
        if scope.verdict is not Verdict.ANSWER or scope.prefix is None:
            return None
        scope.ready = made = Sayings(self._node, scope.prefix)
        return made

    def refusal(self, scope: Scope) -> Ready:
        """Answer for any identifier of a scope whose verdict is not to answer."""
        if scope.prefix is None or scope.verdict is Verdict.NOT_ALLOCATED:
            return self._not_allocated
        is_expired = scope.verdict is Verdict.REFUSE_EXPIRED
        reason = Reason.PREFIX_EXPIRED if is_expired else Reason.PREFIX_DISABLED
        return Failed(fault=Fault(reason, field="identifier", variables={"prefix": scope.prefix.text}))
