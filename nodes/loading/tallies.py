"""What has come of a load so far: the counts of the whole load, and the pace of this run."""

import collections
from collections.abc import Sequence

from nodes.loading.imports import Taken
from nodes.loading.pieces import Piece
from nodes.loading.rejects import Reject
from resolver.clock import Clock
from resolver.store import Checkpoint


class Tally:
    """Counts a load's rows. `reached` counts the whole load, also what came before an interruption.

    `resumed_at` is the line at which this run began, `index` the newest journal index, `reasons` the refused rows of
    this run by the names of their reasons.
    """

    def __init__(self, clock: Clock) -> None:
        self.reached = Checkpoint()
        self.resumed_at = 0
        self.index = 0
        self.reasons: collections.Counter[str] = collections.Counter()
        self._clock = clock
        self._began = clock.monotonic()
        self._lasted = 0.0

    def begin(self, reached: Checkpoint) -> None:
        self.reached = reached
        self.resumed_at = reached.lines
        self._began = self._clock.monotonic()

    def take(self, piece: Piece, taken: Taken, rejects: Sequence[Reject]) -> None:
        before = self.reached
        self.reached = Checkpoint(
            offset=piece.part.end_offset,
            lines=piece.part.last_line,
            registered=before.registered + taken.registered,
            replaced=before.replaced + taken.replaced,
            unchanged=before.unchanged + taken.unchanged,
            rejected=before.rejected + len(rejects),
            chunks=before.chunks + 1,
        )
        self.index = taken.index
        self.reasons.update(reject.fault.reason.name for reject in rejects)
        self._lasted = self._clock.monotonic() - self._began

    @property
    def seconds(self) -> float:
        """How long this run took up to its last durable row."""
        return self._lasted

    @property
    def rate(self) -> float:
        """Lines a second in this run."""
        return (self.reached.lines - self.resumed_at) / self._lasted if self._lasted else 0.0
