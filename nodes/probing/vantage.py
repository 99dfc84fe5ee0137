"""What probers elsewhere have seen: fetched from their admin endpoints, and counted with the own probes.

Failure policy: a vantage point that does not answer, says something else, or suspects itself counts for nothing.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from nodes.probing.seen import NodesSeen, VantageSeen
from nodes.probing.settings import VantageSettings
from nodes.probing.window import Tally
from resolver.clock import Clock
from resolver.units import Size

_log: Final = logging.getLogger(__name__)

DOCUMENT: Final = Size(32 << 20)
"""Bytes of a document, at most."""


class Vantage:
    """One vantage point. What it said counts for `lasts` seconds."""

    def __init__(self, settings: VantageSettings, clock: Clock, *, timeout: float, lasts: float) -> None:
        self.name = settings.name
        self.failures = 0
        self._url = f"http://{settings.admin}/nodes"
        self._clock = clock
        self._timeout = timeout
        self._lasts = lasts
        self._until = float("-inf")
        self._tallies: Mapping[str, Tally] = {}
        self._cause = "not asked yet"

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """Fetch what it has seen."""
        began = self._clock.monotonic()
        try:
            seen = NodesSeen.from_json(await self._fetch(session))
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            self._fail(str(error) or "no answer in time")
            return
        if seen.suspects_itself:
            self._fail("it suspects itself: more than half of all children fail there")
            self._until = float("-inf")
            return
        if self._cause:
            _log.info("the vantage point answers", extra={"vantage": self.name})
        self._cause = ""
        self._tallies = {each.node: Tally(each.probes, each.failed) for each in seen.children}
        self._until = began + self._lasts

    def tally(self, node: str) -> Tally:
        """Give its probes of a child, none where it does not count just now."""
        return self._tallies.get(node, _NONE) if self._counts else _NONE

    @property
    def seen(self) -> VantageSeen:
        return VantageSeen(name=self.name, counts=self._counts, cause=self._cause)

    @property
    def _counts(self) -> bool:
        return self._clock.monotonic() < self._until

    async def _fetch(self, session: aiohttp.ClientSession) -> bytes:
        async with asyncio.timeout(self._timeout), session.get(self._url, allow_redirects=False) as answer:
            answer.raise_for_status()
            pieces, size = [], 0
            async for piece in answer.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > DOCUMENT:
                    raise ValueError(f"its answer has more than {DOCUMENT.to_text()}")
            return b"".join(pieces)

    def _fail(self, cause: str) -> None:
        self.failures += 1
        if not self._cause or self._cause == "not asked yet":
            _log.warning("the vantage point counts for nothing", extra={"vantage": self.name, "cause": cause})
        self._cause = cause


def tally_of(vantage: Sequence[Vantage], node: str) -> Tally:
    """Add up what all of them have seen of a child."""
    return sum((each.tally(node) for each in vantage), _NONE)


_NONE: Final = Tally()
