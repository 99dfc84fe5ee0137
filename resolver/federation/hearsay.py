"""What a prober says of endpoints, and when it counts. How its word comes here is somebody else's business.

Failure policy: the word runs out. A prober that says nothing any more keeps no endpoint from being asked.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from resolver.clock import Clock
from resolver.routes import Endpoint

_NOBODY: Final[Mapping[Endpoint, float]] = {}


class Hearsay:
    """The newest word of a prober: at which endpoints nobody has answered several probes in a row."""

    __slots__ = ("_monotonic", "_silent", "_until")

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._silent: Mapping[Endpoint, float] = _NOBODY
        self._until = 0.0

    def hear(self, silent: Mapping[Endpoint, float], until: float) -> None:
        """Take the newest word instead of the one before.

        By endpoint it says when the first of the probes in a row began that nobody has answered; it counts until a
        moment (`until`). Both are on the monotonic clock. Priorities make no difference between endpoints.
        """
        self._silent = {place(endpoint): since for endpoint, since in silent.items()}
        self._until = until

    def is_against(self, place: Endpoint, answered_at: float) -> bool:
        """Is an endpoint to be left alone that has answered last at this moment?

        Not if that was after the first of those probes: who is answered knows better.
        """
        if not self._silent:
            return False
        since = self._silent.get(place)
        return since is not None and answered_at <= since and self._monotonic() < self._until


def place(endpoint: Endpoint) -> Endpoint:
    """Give an endpoint without its priority, which each prefix may set anew."""
    return replace(endpoint, priority=0) if endpoint.priority else endpoint
