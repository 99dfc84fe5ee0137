"""What can be set about probing the nodes below."""

from typing import Final

from msgspec import Struct

from nodes.listening import Address
from resolver.errors import Fault, Reason
from resolver.units import Duration

SHORTEST: Final = 0.05
"""Seconds: more often than this nothing is probed."""

WINDOW_PROBES: Final = 10_000
"""Probes that a window holds, at most."""


class VantageSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another node of this project that probes the same children, such as another machine of a ring."""

    name: str
    """How it is called in metrics and in `topnode nodes`."""

    admin: str
    """Host and port of its admin endpoint, over a network where only operators are."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise Fault(Reason.SETTING_INVALID, "A vantage point has a name.", field="vantage")
        Address.from_text(self.admin, field="vantage")


class ProbingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the nodes below are watched, and when this node answers in their place."""

    enabled: bool = True
    """Probe the nodes below; false: nobody is probed, and nothing is taken over by itself."""

    every: Duration = Duration(10)
    """Each child is probed this often, a tenth more or less."""

    timeout: Duration = Duration(2)
    """A probe without an answer by then has failed; not longer than the time between two of them."""

    window: Duration = Duration(300)
    """A child is judged by its probes of this time: it is down when 51 of 100 failed, and has its prefixes back when
    none failed for the whole of it."""

    least: int = 20
    """With fewer probes in the window nothing is said about a child."""

    takeover: bool = True
    """Answer in the place of a child that is down, by itself, where that child has agreed; false: operators do."""

    children: int = 2_000
    """Children that are probed, secondary nodes before others; more are left out, and counted."""

    vantage: tuple[VantageSettings, ...] = ()
    """Nodes elsewhere whose probes are counted with the own ones: a name and an admin address each."""

    def __post_init__(self) -> None:
        if self.every < SHORTEST:
            raise Fault(Reason.SETTING_INVALID, "Children are probed every 50ms at most.", field="every")
        if not 0 < self.timeout <= self.every:
            detail = "A probe ends before the next one begins: its time is above 0 and at most that between two."
            raise Fault(Reason.SETTING_INVALID, detail, field="timeout")
        if self.least < 1:
            raise Fault(Reason.SETTING_INVALID, "One probe is the least.", field="least")
        if not self.least * self.every <= self.window <= WINDOW_PROBES * self.every:
            detail = f"A window has room for the least number of probes, and for {WINDOW_PROBES:,} at most."
            raise Fault(Reason.SETTING_INVALID, detail, field="window")
        if not 0 < self.children <= 100_000:
            raise Fault(Reason.SETTING_INVALID, "Children are 1 to 100,000.", field="children")
        if len({each.name for each in self.vantage}) != len(self.vantage):
            raise Fault(Reason.SETTING_INVALID, "Two vantage points have the same name.", field="vantage")

    @property
    def lasts(self) -> float:
        """Seconds for which what the latest probe of an endpoint has shown says something of now: a few probes' time.

        Not less than what a busy machine may hold up a process.
        """
        return 3 * max(1.0, self.every) + self.timeout

    @property
    def settle(self) -> float:
        """Seconds within which each child has been probed at least once, whatever came of it."""
        return 2 * self.every + self.timeout
