"""From a prober to a resolver: from when the times are reckoned, how long it lasts, and what is counted."""

import asyncio

from prometheus_client import CollectorRegistry

from nodes.probing.settings import ProbingSettings
from nodes.probing.telling import Silent, Telling, telling
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, Protocol
from resolver.units import Duration

ONE = Endpoint(Protocol.GRPC, "192.0.2.1", 1)
SETTINGS = ProbingSettings(every=Duration(10), timeout=Duration(2))


class Place:
    """A prober that takes a second to answer, and a resolver that takes note of what it hears."""

    def __init__(self) -> None:
        self.clock = SetClock(monotonic=1_000)
        self.registry = CollectorRegistry()
        self.fault: Fault | None = None
        self.heard: list[tuple[Silent, float]] = []
        self.telling = Telling(self.ask, self.hear, SETTINGS, self.clock, self.registry)

    async def ask(self) -> Silent:
        self.clock.advance(1)
        if self.fault:
            raise self.fault
        return {ONE: 25.0}

    def hear(self, silent: Silent, until: float) -> None:
        self.heard.append((silent, until))

    def failures(self) -> float | None:
        return self.registry.get_sample_value("topnode_probe_telling_failures_total")


async def test_moments_are_reckoned_from_before_the_question() -> None:
    place = Place()
    await place.telling.tell()
    assert place.heard == [({ONE: 975.0}, 1_000 + 3 * 10 + 2)]


async def test_a_prober_that_does_not_answer_is_counted_and_changes_nothing() -> None:
    place = Place()
    place.fault = Fault(Reason.NODE_UNREACHABLE)
    await place.telling.tell()
    assert (place.heard, place.failures()) == ([], 1)
    place.fault = None
    await place.telling.tell()
    assert (len(place.heard), place.failures()) == (1, 1)


async def test_it_goes_on_as_long_as_the_context_lasts() -> None:
    quick = ProbingSettings(every=Duration(0.05), timeout=Duration(0.05), window=Duration(10))
    heard: asyncio.Queue[Silent] = asyncio.Queue()

    async def ask() -> Silent:
        return {}

    def hear(silent: Silent, _until: float) -> None:
        heard.put_nowait(silent)

    async with telling(ask, hear, quick, SystemClock(), CollectorRegistry()), asyncio.timeout(20):
        assert [await heard.get() for _ in range(3)] == [{}, {}, {}]
