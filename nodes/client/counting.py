"""The client of counts: what a node has counted, and what nodes below it have reported. For its operators."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from nodes.client.calls import Calls
from nodes.client.questions import Questions
from nodes.client.registering import RegistryClient, RegistryClientSettings
from nodes.client.signing import NodeTime, Signer
from registry.v1 import registry_pb2 as pb
from resolver.clock import Clock, SystemClock
from resolver.counting import Figures

SERVICE: Final = pb.DESCRIPTOR.services_by_name["CountsService"].full_name

PAGE: Final = 1_000


class Counted(Struct, frozen=True):
    """What one node has counted below a prefix; `node` is empty where that is the asked one itself."""

    prefix: str
    node: str
    figures: Figures


class DayCounts(Struct, frozen=True):
    """A page of a day ("2026-11-29", or "total"). `partial`: whose counts are not all, as in `Counted.node`."""

    day: str
    rows: list[Counted]
    partial: list[str]


class Sent(Struct, frozen=True):
    """What was reported: reports, rows that were taken, and rows that were refused, also for now."""

    reports: int
    rows: int
    refused: int


class CountsClient:
    """Asks the registry of one node, as an operator. Made within a running loop; used as a context, or closed."""

    def __init__(
        self, address: str, signer: Signer | None, settings: RegistryClientSettings, *, clock: Clock | None = None
    ) -> None:
        """Reach a registry at `host:port` or `unix:path`, where nobody needs to sign.

        Raises:
            Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
        """
        clock = clock or SystemClock()
        self._settings = settings
        self._registry = RegistryClient(address, None, settings, clock=clock)
        self._calls = Calls(address, settings.channel, SERVICE, clock)
        time = NodeTime(clock, self._calls.counts)
        self._questions = Questions(self._calls, signer, time, self._audience, settings.timeout)
        self._list_counts = self._calls.method("ListCounts", pb.ListCountsResponse)
        self._send_counts = self._calls.method("SendCounts", pb.SendCountsResponse)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls in flight end."""
        await self._registry.close()
        await self._calls.close()

    async def pages(self, day: str = "", prefix: str = "") -> AsyncIterator[DayCounts]:
        """Give the counts of a day (empty: today) at and below a prefix (empty: all), page by page, at least one.

        Raises:
            Fault: NOT_AUTHORISED, FIELD_OUT_OF_RANGE, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        request = pb.ListCountsRequest(day=day, prefix=prefix, page_size=PAGE)
        while True:
            page = await self._questions.ask("ListCounts", self._list_counts, request)
            yield DayCounts(page.day, [_counted(row) for row in page.rows], list(page.partial))
            if not page.next_after:
                return
            request.after = page.next_after
            # A page that was begun today goes on with that day.
            request.day = page.day

    async def send(self) -> Sent:
        """Have the node report everything that it owes the node above.

        Raises:
            Fault: NOT_AUTHORISED, SETTING_INVALID where there is no node above, or what went wrong with that.
        """
        response = await self._questions.ask("SendCounts", self._send_counts, pb.SendCountsRequest())
        return Sent(response.reports, response.rows, response.refused)

    async def _audience(self, _seconds: float) -> str:
        return self._settings.node or (await self._registry.checkpoint()).node


def _counted(row: pb.CountRow) -> Counted:
    figures = Figures(
        row.queries,
        row.found,
        row.recursive_queries,
        row.recursive_found,
        row.registered,
        row.deleted,
        row.allocated,
    )
    return Counted(row.prefix, row.node, figures)
