"""What can be set about asking the nodes below."""

from typing import Final

from msgspec import Struct

from resolver.bounds import BATCH_IDENTIFIERS, HOPS_MAX
from resolver.cache.memory import MemorySettings
from resolver.errors import Fault, Reason
from resolver.rpc.tls import ClientTls
from resolver.units import Duration, Size

DEADLINE_MIN: Final = 0.02
"""Seconds. With less left, no other node is asked: the answer would come too late."""

SHARE: Final = 0.8
"""What a hop gets of the time that is left: the rest is for giving something else when it fails."""


class FederationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes below are asked for what is delegated to them (mode RECURSIVE)."""

    hops: int = 4
    """Nodes that a question may go through below this one, at most."""

    deadline: Duration = Duration(2)
    """A child that has not answered by then counts as not answered, however long a caller would wait."""

    positive_for: Duration = Duration(3_600)
    """How long a child's record is kept, at most; its copy being changed here ends that sooner."""

    absent_for: Duration = Duration(60)
    """How long the authority's word is kept that there is no such identifier, at most."""

    stale_for: Duration = Duration(86_400)
    """How long after its time a child's answer may still be given, marked stale, while the child does not answer."""

    cache: MemorySettings = MemorySettings(size=Size(64 << 20), entries=250_000)
    """Room for children's answers in each worker."""

    children: int = 4_096
    """Children that are remembered, with their connections; of more, those asked longest ago are forgotten."""

    calls: int = 32
    """Calls in flight to one child."""

    waiting: int = 64
    """Calls that may wait for one of these to end; more fail at once."""

    identifiers: int = 100_000
    """Identifiers that are asked of children at once, in all calls together; half as many of one child."""

    hedge_percent: int = 5
    """A call that takes longer than 95 of 100 is sent once more, for this part of identifiers at most; 0: never."""

    signed: bool = False
    """Have children sign what they answer, with the keys that they are registered with; each answer tells what came
    of it. It costs a signature for each call there, and its verification here: about 0.1 ms each."""

    follow_referrals: bool = True
    """Follow a child that names another node instead of asking that itself. The address is the child's word:
    turn this off where this machine reaches what children should not."""

    tls: ClientTls | None = None
    """Files for endpoints with a TLS name: the authorities of their certificates, and this node's own."""

    def __post_init__(self) -> None:
        if not 1 <= self.hops <= HOPS_MAX:
            raise Fault(Reason.SETTING_INVALID, f"Hops are 1 to {HOPS_MAX}.", field="hops")
        if self.deadline < DEADLINE_MIN:
            raise Fault(Reason.SETTING_INVALID, f"A deadline is {DEADLINE_MIN * 1e3:g}ms at least.", field="deadline")
        for field in ("positive_for", "absent_for", "stale_for"):
            if getattr(self, field) < 0:
                raise Fault(Reason.SETTING_INVALID, "A duration is not negative.", field=field)
        for field in ("children", "calls"):
            if getattr(self, field) < 1:
                raise Fault(Reason.SETTING_INVALID, "There is room for one at least.", field=field)
        if self.waiting < 0:
            raise Fault(Reason.SETTING_INVALID, "A number of calls is not negative.", field="waiting")
        if self.identifiers < 2 * BATCH_IDENTIFIERS:
            raise Fault(Reason.SETTING_INVALID, "At least two whole batches must fit (2,000).", field="identifiers")
        if not 0 <= self.hedge_percent <= 100:
            raise Fault(Reason.SETTING_INVALID, "A part of all calls is 0 to 100.", field="hedge_percent")
