"""One child being watched: probed at all its endpoints, and what the probes come to.

A probe of a child is a look at each of its endpoints at once; it is good when one of them is: whoever asks goes on to
the next endpoint too.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from nodes.probing.children import Child
from nodes.probing.deciding import Due, Evidence, Standing, standing
from nodes.probing.incidents import Incident, Incidents
from nodes.probing.probe import Look, Looking, can_probe
from nodes.probing.seen import ChildSeen, EndpointSeen, TallySeen
from nodes.probing.settings import ProbingSettings
from nodes.probing.silences import Silences
from nodes.probing.window import Probe, Tally, Window
from nodes.registering.words import endpoint_to_text
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.routes import Endpoint

_log: Final = logging.getLogger(__name__)

MakeProbe = Callable[[Endpoint, str], Looking]
"""Makes what looks at an endpoint of a node of this name; a Fault where this machine's files do not allow it."""

_TOLD: Final = 5
"""Incidents that are told of one child."""

_JITTER: Final = 0.1


class Watch:
    """Watches one child. `run` probes until it is cancelled; everything else only looks at what came of it."""

    def __init__(
        self, child: Child, settings: ProbingSettings, clock: Clock, make_probe: MakeProbe, limit: asyncio.Semaphore
    ) -> None:
        self.child = child
        self.good = self.failed = 0
        self.due = Due.NOTHING
        self.next_act: dict[Due, float] = {}
        self.is_acting = False
        self._settings = settings
        self._clock = clock
        self._make_probe = make_probe
        self._limit = limit
        most = round(2 * settings.window / settings.every) + settings.least
        self._window = Window(settings.window, most, began=clock.monotonic())
        self._incidents = Incidents()
        self._probes: dict[Endpoint, Looking] = {}
        self._looks: dict[Endpoint, Look] = {}
        self._silences = Silences()
        self._unable: dict[Endpoint, str] = {}
        self._fails_now = False
        self._elsewhere = Tally()
        self._standing = Standing.UNKNOWN
        self._down_since = 0.0
        self._is_held = False

    @property
    def name(self) -> str:
        return self.child.row.node

    @property
    def standing(self) -> Standing:
        return self._standing

    @property
    def tally(self) -> Tally:
        """The own probes of the window."""
        return self._window.tally

    @property
    def percentiles(self) -> dict[int, float]:
        return self._window.percentiles()

    @property
    def incident(self) -> Incident | None:
        """The incident that goes on."""
        return self._incidents.current

    @property
    def incidents(self) -> int:
        """How many there have been."""
        return self._incidents.opened

    async def run(self) -> None:
        """Probe at a steady rate, each time a little early or late, so that children are not probed in step."""
        every = float(self._settings.every)
        try:
            await asyncio.sleep(random.random() * every)  # noqa: S311 - so that they spread
            while True:
                began = self._clock.monotonic()
                await self.probe()
                chance = 1 + _JITTER * (2 * random.random() - 1)  # noqa: S311 - likewise
                await asyncio.sleep(max(0.0, began + every * chance - self._clock.monotonic()))
        finally:
            await self._close(list(self._probes))

    async def probe(self) -> None:
        """Probe once and take note."""
        await self._prepare()
        if not self._probes:
            return
        async with self._limit:
            began = self._clock.monotonic()
            endpoints = list(self._probes)
            looks = await asyncio.gather(*(self._probes[each].look() for each in endpoints))
        self._looks = dict(zip(endpoints, looks, strict=True))
        for endpoint, look in self._looks.items():
            self._silences.note(endpoint, look, began)
        good = [look for look in looks if look.is_good]
        self._note(began, good, looks)

    def judge(self, elsewhere: Tally) -> Evidence:
        """See how it stands now, with what others have seen of it; give what decisions go by."""
        now = self._clock.monotonic()
        self._window.forget(now)
        self._elsewhere = elsewhere
        tally = self._window.tally + elsewhere
        before, self._standing = self._standing, standing(tally, self._settings.least)
        if self._standing is not before:
            self._tell_standing(before, tally)
        if self._standing is not before or self._standing is not Standing.DOWN:
            # From when it is seen so first: then it is waited for what the others come to.
            self._down_since = now
        if self._standing is Standing.UP:
            self._is_held = False
        row = self.child.row
        return Evidence(
            tally=tally,
            is_full=self._window.is_full(now),
            fails_now=self._fails_now,
            down_for=now - self._down_since,
            takeover=row.takeover,
            is_automatic=row.takeover_automatic,
            agreement=row.agreement,
            is_held=self._is_held,
        )

    def become(self, child: Child) -> None:
        """Take its newest row and endpoints."""
        if self.child.row.takeover and not child.row.takeover and self._standing is not Standing.UP:
            # Somebody has ended it who knows better.
            self._is_held = True
        self.child = child

    def silent(self, now: float) -> dict[Endpoint, float]:
        """Give the endpoints at which nobody answers, each with when the first of the latest probes began."""
        return self._silences.lasting(now - self._settings.lasts)

    def seen(self) -> ChildSeen:
        """Tell of it."""
        row, tally = self.child.row, self._window.tally
        return ChildSeen(
            node=row.node,
            tier=row.tier.name.lower(),
            standing=self._standing,
            probes=tally.probes,
            failed=tally.failed,
            availability=tally.availability,
            latency_seconds={f"p{percent}": took for percent, took in self._window.percentiles().items()},
            elsewhere=TallySeen(probes=self._elsewhere.probes, failed=self._elsewhere.failed),
            endpoints=[self._endpoint_seen(endpoint) for endpoint in self.child.endpoints],
            incident=self._incidents.current,
            incidents=self._incidents.newest_first[:_TOLD],
            agreement=row.agreement,
            takeover=row.takeover,
            takeover_automatic=row.takeover_automatic,
            takeover_since=row.takeover_since,
            takeover_reason=row.takeover_reason,
            due=self.due,
        )

    async def _prepare(self) -> None:
        """Have something to look with for each endpoint, and nothing for others."""
        wanted = set(self.child.endpoints)
        await self._close([endpoint for endpoint in self._probes if endpoint not in wanted])
        for endpoint in self.child.endpoints:
            if endpoint not in self._probes:
                self._make(endpoint)

    def _make(self, endpoint: Endpoint) -> None:
        if not can_probe(endpoint):
            self._unable[endpoint] = f"{endpoint.protocol.name.lower()} cannot be probed from here"
            return
        try:
            self._probes[endpoint] = self._make_probe(endpoint, self.name)
            self._unable.pop(endpoint, None)
        except Fault as fault:
            # This machine's files are not the child's failure.
            if endpoint not in self._unable:
                _log.warning("an endpoint cannot be probed: %s", fault, extra={"child": self.name})
            self._unable[endpoint] = fault.detail

    async def _close(self, endpoints: list[Endpoint]) -> None:
        for endpoint in endpoints:
            self._looks.pop(endpoint, None)
            self._silences.forget(endpoint)
            await self._probes.pop(endpoint).close()

    def _note(self, began: float, good: list[Look], looks: list[Look]) -> None:
        is_good = bool(good)
        seconds = min(look.seconds for look in good or looks)
        self._window.add(Probe(began, seconds, is_good))
        self.good += is_good
        self.failed += not is_good
        self._fails_now = not is_good
        cause = "" if is_good else str(looks[0].cause)
        incident = self._incidents.note(is_good=is_good, at=int(self._clock.wall()), cause=cause)
        if incident is not None:
            self._tell_incident(incident)

    def _tell_incident(self, incident: Incident) -> None:
        said = {"child": self.name, "incident": incident.number, "cause": incident.cause}
        if incident.is_open:
            _log.warning("a child fails", extra=said)
        else:
            seconds = incident.ended_at - incident.began_at
            _log.info("a child has recovered", extra={**said, "lasted": f"{seconds}s"})

    def _tell_standing(self, before: Standing, tally: Tally) -> None:
        said = {"child": self.name, "before": before.value, "probes": tally.probes, "failed": tally.failed}
        if self._standing is Standing.DOWN:
            _log.error("a child is down", extra=said)
        else:
            _log.info("a child is %s", self._standing.value, extra=said)

    def _endpoint_seen(self, endpoint: Endpoint) -> EndpointSeen:
        text, look = endpoint_to_text(endpoint), self._looks.get(endpoint)
        if look is None:
            return EndpointSeen(endpoint=text, good=None, cause=self._unable.get(endpoint, ""))
        return EndpointSeen(endpoint=text, good=look.is_good, cause=str(look.cause or ""), seconds=look.seconds)
