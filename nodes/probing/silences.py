"""Endpoints of one child at which nobody has answered several probes in a row. Pure: it is given looks and times.

Only what hangs or cannot be reached counts: who refuses, or says that it does not serve, is there, and tells callers
at once.
"""

from collections import deque
from typing import Final

from nodes.probing.incidents import IN_A_ROW
from nodes.probing.probe import Cause, Look
from resolver.routes import Endpoint

_NOBODY: Final = frozenset((Cause.UNREACHABLE, Cause.SILENT))


class Silences:
    """What the looks at each endpoint, one after another, come to. Times are monotonic seconds."""

    def __init__(self) -> None:
        # When the latest looks began, of those in a row that nobody has answered.
        self._began: dict[Endpoint, deque[float]] = {}

    def note(self, endpoint: Endpoint, look: Look, at: float) -> None:
        """Note a look that began at this time."""
        if look.cause in _NOBODY:
            self._began.setdefault(endpoint, deque(maxlen=IN_A_ROW)).append(at)
        else:
            self.forget(endpoint)

    def forget(self, endpoint: Endpoint) -> None:
        """Know nothing of an endpoint any more."""
        self._began.pop(endpoint, None)

    def lasting(self, since: float) -> dict[Endpoint, float]:
        """Give the endpoints whose latest looks were not answered, each with when the first of these began.

        Those that were not looked at since this time are left out: nothing is known of them now.
        """
        return {
            endpoint: began[0]
            for endpoint, began in self._began.items()
            if len(began) == IN_A_ROW and began[-1] >= since
        }
