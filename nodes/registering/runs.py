"""One run of `topnode register`: envelopes on their way, several at once, and what became of them."""

import asyncio
import collections
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from nodes.client import Outcome, RegistryClient, Submitted
from nodes.loading.inputs import Input
from nodes.loading.rejects import Reject
from nodes.registering.envelope_rows import EnvelopeRows, read_envelopes
from nodes.registering.kept_files import KeptFiles
from nodes.registering.resuming import Reached
from resolver.clock import Clock

_COUNTED: Final = (
    ("registered", Outcome.REGISTERED),
    ("replaced", Outcome.REPLACED),
    ("unchanged", Outcome.UNCHANGED),
    ("deleted", Outcome.DELETED),
)

_Sent = tuple[EnvelopeRows, asyncio.Task[Submitted] | None]


class Run:
    """Registers what is in an input.

    `reached` is how far it has come, `reasons` are why rows of this run were refused, `seconds` how long it took.
    """

    def __init__(self, source: Input, reached: Reached, kept: KeptFiles, clock: Clock) -> None:
        self.reached = reached
        self.resumed_at = reached.lines
        self.reasons: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self._source = source
        self._kept = kept
        self._clock = clock
        self._sent: deque[_Sent] = deque()

    @property
    def rate(self) -> float:
        """Lines a second in this run."""
        return (self.reached.lines - self.resumed_at) / self.seconds if self.seconds else 0.0

    async def register(self, client: RegistryClient, *, at_once: int, tell: Callable[["Run"], None]) -> None:
        """Send all envelopes, so many at once; `tell` is called after each.

        One about an identifier that is on its way waits until that is told: rows keep their order.

        Raises:
            Fault: as `RegistryClient.send`; FILE_UNREADABLE; INPUT_CHANGED.
        """
        began = self._clock.monotonic()

        async def take() -> None:
            await self._take(*self._sent.popleft())
            self.seconds = self._clock.monotonic() - began
            tell(self)

        try:
            begin = self.reached
            following = read_envelopes(self._source, offset=begin.offset, line=begin.lines, number=begin.envelopes)
            async for rows in following:
                while len(self._sent) >= at_once or (self._sent and self._is_met(rows)):
                    await take()
                self._send(client, rows)
            while self._sent:
                await take()
        finally:
            await self._end()

    def _is_met(self, rows: EnvelopeRows) -> bool:
        return any(not rows.identifiers.isdisjoint(other.identifiers) for other, _ in self._sent)

    def _send(self, client: RegistryClient, rows: EnvelopeRows) -> None:
        self._source.check_unchanged()
        sending = asyncio.ensure_future(client.send(self.reached.draft(rows))) if rows.encoded else None
        self._sent.append((rows, sending))

    async def _take(self, rows: EnvelopeRows, sending: asyncio.Task[Submitted] | None) -> None:
        submitted = await sending if sending else None
        rejects = _rejects(rows, submitted)
        self.reasons.update(reject.fault.reason.name for reject in rejects)
        self.reached = self._kept.take(_counted(self.reached, rows, submitted, rejects), rows, submitted, rejects)

    async def _end(self) -> None:
        """Let what is on its way go: it is the same request when it is sent again."""
        running = [sending for _, sending in self._sent if sending]
        for sending in running:
            sending.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._sent.clear()


def _rejects(rows: EnvelopeRows, submitted: Submitted | None) -> list[Reject]:
    """Give the refused rows of an envelope, those of the node too, in the order of their lines."""
    refusals = submitted.refusals.items() if submitted else ()
    refused = [Reject(rows.lines[row], fault, rows.encoded[row]) for row, fault in refusals]
    return sorted([*rows.rejects, *refused], key=lambda reject: reject.line)


def _counted(reached: Reached, rows: EnvelopeRows, submitted: Submitted | None, rejects: list[Reject]) -> Reached:
    counts = {
        name: getattr(reached, name) + (submitted.count(outcome) if submitted else 0) for name, outcome in _COUNTED
    }
    receipt = submitted.receipt if submitted else None
    return replace(
        reached,
        envelopes=rows.number + 1,
        offset=rows.end_offset,
        lines=rows.end_line,
        rejected=reached.rejected + len(rejects),
        index=max(reached.index, receipt.index) if receipt else reached.index,
        **counts,
    )
