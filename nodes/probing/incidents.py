"""Incidents of one child: opened by failures in a row, closed by good probes in a row."""

from collections import deque
from typing import Final

from msgspec import Struct

IN_A_ROW: Final = 3
"""Failures that open an incident, and good probes that close it."""

KEPT: Final = 16
"""Incidents of one child that are remembered, the newest ones."""


class Incident(Struct, frozen=True, kw_only=True):
    """A time during which a child did not answer, or not as it should. Times are Unix seconds.

    `number` counts the child's incidents from 1. `began_at` is its first failure, `ended_at` its first good probe
    (0: it goes on). `cause` is what was wrong with the probe that opened it.
    """

    number: int
    began_at: int
    ended_at: int = 0
    cause: str = ""

    @property
    def is_open(self) -> bool:
        return not self.ended_at


class Incidents:
    """What one child's probes, one after another, come to."""

    def __init__(self) -> None:
        self.opened = 0
        self._kept: deque[Incident] = deque(maxlen=KEPT)
        # Probes in a row that say the opposite of how it stands, and when the first of them was.
        self._contrary = 0
        self._since = 0

    @property
    def current(self) -> Incident | None:
        """The incident that goes on."""
        return self._kept[-1] if self._kept and self._kept[-1].is_open else None

    @property
    def newest_first(self) -> list[Incident]:
        return list(reversed(self._kept))

    def note(self, *, is_good: bool, at: int, cause: str = "") -> Incident | None:
        """Note a probe; give the incident that it opened or closed, None where it did neither.

        `at` is Unix time in seconds.
        """
        current = self.current
        if is_good == (current is None):
            self._contrary = 0
            return None
        if not self._contrary:
            self._since = at
        self._contrary += 1
        if self._contrary < IN_A_ROW:
            return None
        self._contrary = 0
        return self._open(cause) if current is None else self._close(current)

    def _open(self, cause: str) -> Incident:
        self.opened += 1
        incident = Incident(number=self.opened, began_at=self._since, cause=cause)
        self._kept.append(incident)
        return incident

    def _close(self, current: Incident) -> Incident:
        # A clock that was set back must not make an incident that never ends, or ends before it began.
        ended = Incident(
            number=current.number,
            began_at=current.began_at,
            ended_at=max(self._since, current.began_at, 1),
            cause=current.cause,
        )
        self._kept[-1] = ended
        return ended
