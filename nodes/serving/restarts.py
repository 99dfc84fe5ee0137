"""When a process that ended is started again, and when that is given up. Decides; starts nothing."""

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.units import Duration


class RestartSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `restarts`."""

    first: Duration = Duration(0.1)
    """How long to wait before a process that ended is started again; doubled each time that it ends early."""

    longest: Duration = Duration(10)
    """The longest such wait."""

    steady: Duration = Duration(10)
    """A process that lived this long did not end early."""

    attempts: int = 12
    """How often in a row a process that ended early is started again; then the whole node gives up."""

    def __post_init__(self) -> None:
        if self.first <= 0 or self.longest < self.first:
            raise Fault(Reason.SETTING_INVALID, "The first wait is above 0, the longest not below it.", field="first")
        if self.attempts < 0:
            raise Fault(Reason.SETTING_INVALID, "Attempts are not negative.", field="attempts")


class Restarts:
    """The restarts of one process."""

    def __init__(self, settings: RestartSettings) -> None:
        self._settings = settings
        self._early = 0

    def wait_after(self, lived: float) -> float | None:
        """Note that it ended after so many seconds, and give how many to wait now; None: give up."""
        if lived >= self._settings.steady:
            self._early = 0
        self._early += 1
        if self._early > self._settings.attempts:
            return None
        wait: float = self._settings.first * 2.0 ** (self._early - 1)
        return min(wait, self._settings.longest)
