"""What is told of the nodes below: the document at `/nodes`, which `topnode nodes` shows and other probers read."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from nodes.probing.deciding import Standing
from nodes.probing.incidents import Incident


class EndpointSeen(Struct, frozen=True, kw_only=True):
    """One endpoint. `good` is None where it was not probed yet, or cannot be from here; `cause` says why not."""

    endpoint: str
    good: bool | None
    cause: str = ""
    seconds: float = 0.0


class TallySeen(Struct, frozen=True, kw_only=True):
    """Probes within the window, and those of them that failed."""

    probes: int
    failed: int


class ChildSeen(Struct, frozen=True, kw_only=True):
    """One child, by the probes of the window.

    `probes`, `failed` and `availability` (0 to 1) are of this node's own probes, `elsewhere` of other vantage points;
    `standing` and `due` follow from both. `latency_seconds` is by percentile ("p50"). Times are Unix seconds.
    """

    node: str
    tier: str
    standing: Standing
    probes: int
    failed: int
    availability: float | None
    latency_seconds: dict[str, float]
    elsewhere: TallySeen
    endpoints: Sequence[EndpointSeen]
    incident: Incident | None
    incidents: Sequence[Incident]
    agreement: bool
    takeover: bool
    takeover_automatic: bool
    takeover_since: int
    takeover_reason: str
    due: str


class VantageSeen(Struct, frozen=True, kw_only=True):
    """Another vantage point: whether its probes count just now, and why not."""

    name: str
    counts: bool
    cause: str = ""


class NodesSeen(Struct, frozen=True, kw_only=True):
    """All children. `suspects_itself`: more than half of those probed (`counted`) fail together (`failing`).

    `left_out` are children beyond those that are probed. `every` and `window` are seconds; `at` is Unix time.
    """

    node: str
    at: int
    every: float
    window: float
    suspects_itself: bool
    failing: int
    counted: int
    left_out: int
    vantage: Sequence[VantageSeen]
    children: Sequence[ChildSeen]

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(octets: bytes) -> "NodesSeen":
        """Read it.

        Raises:
            msgspec.DecodeError: it is no such document.
        """
        return msgspec.json.decode(octets, type=NodesSeen)
