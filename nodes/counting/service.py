"""CountsService: what was counted, told to operators of the node. Translation only."""

import asyncio
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from nodes.counting.reporting import Reporting
from registry.operating import check_operator
from registry.v1 import registry_pb2 as pb
from resolver.clock import Clock
from resolver.counting import NOTHING, Figures, day_from_text, day_of, day_to_text
from resolver.errors import Fault, Reason
from resolver.handle import check_prefix
from resolver.rpc.calls import Calls, Context, parse
from resolver.rpc.serving import Server
from resolver.store.counts import Counts, Row, is_own, node_of, rows_of
from resolver.trust.queries import QueryVerifier

SERVICE: Final = pb.DESCRIPTOR.services_by_name["CountsService"].full_name

PREFIXES_PAGE: Final = 100
"""Prefixes on a page where the caller names no size."""

PREFIXES_MAX: Final = 1_000
"""Prefixes on a page."""

SCANNED_MAX: Final = 20_000
"""Prefixes that are looked at for one page, which has fewer than asked for where most of them only begin alike."""


class CountsService:
    """Offers the counts of one node; `reporting` is None where there is no node above."""

    def __init__(
        self,
        counts: Counts,
        reporting: Reporting | None,
        queries: QueryVerifier,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._counts = counts
        self._reporting = reporting
        self._queries = queries
        self._clock = clock
        calls = Calls("counts", clock, registry)
        self._methods = {
            "ListCounts": calls.serve("ListCounts", self._list_counts),
            "SendCounts": calls.serve("SendCounts", self._send_counts),
        }

    def add_to(self, server: Server) -> None:
        """Offer it on a server that does not listen yet."""
        server.add(SERVICE, self._methods)

    async def _list_counts(self, octets: bytes, context: Context) -> bytes:
        request = parse(pb.ListCountsRequest, octets)
        check_operator(self._queries, f"{SERVICE}/ListCounts", octets, context)
        day = day_from_text(request.day) if request.day else day_of(self._clock.wall())
        within = check_prefix(request.prefix.encode()) if request.prefix else b""
        sources = [source for source in await self._counts.sources(day) if is_own(source) or node_of(source)]
        page = _Page(_page_size(request.page_size))
        behind = max(request.after.encode(), _before(within))
        async for row in rows_of(self._counts, day, sources, after=behind):
            if not row.prefix.startswith(within) or not page.takes(row, within):
                break
            if page.scanned % PREFIXES_MAX == 0:
                await asyncio.sleep(0)
        return pb.ListCountsResponse(
            day=day_to_text(day),
            rows=page.rows,
            next_after=page.next_after,
            partial=[] if request.after else await self._partial(day, sources),
        ).SerializeToString()

    async def _partial(self, day: int, sources: Sequence[str]) -> list[str]:
        reached = [(source, await self._counts.reached(source, day)) for source in sources]
        return sorted({node_of(source) for source, each in reached if each.is_partial})

    async def _send_counts(self, octets: bytes, context: Context) -> bytes:
        parse(pb.SendCountsRequest, octets)
        check_operator(self._queries, f"{SERVICE}/SendCounts", octets, context)
        if self._reporting is None:
            raise Fault(Reason.SETTING_INVALID, "There is no node above to which this one reports.", field="upward")
        done = await self._reporting.report_now()
        return pb.SendCountsResponse(reports=done.reports, rows=done.rows, refused=done.refused).SerializeToString()


class _Page:
    """Rows for one answer, of so many prefixes at most."""

    def __init__(self, size: int) -> None:
        self.rows: list[pb.CountRow] = []
        self.next_after = ""
        self.scanned = 0
        self._size = size
        self._prefixes = 0
        self._last = b""

    def takes(self, row: Row, within: bytes) -> bool:
        """Take a row if it is at or below this prefix (empty: all are); False: the page has ended before it."""
        if self._prefixes == self._size or self.scanned == SCANNED_MAX:
            self.next_after = self._last.decode()
            return False
        self.scanned += 1
        self._last = row.prefix
        if not within or row.prefix == within or row.prefix.startswith(within + b"."):
            self._prefixes += 1
            self.rows += _messages(row)
        return True


def _before(within: bytes) -> bytes:
    """Give something behind which the first row at or below a prefix comes, and little else: 0xff is in no UTF-8."""
    return within[:-1] + bytes((within[-1] - 1, 0xFF)) if within else b""


def _messages(row: Row) -> list[pb.CountRow]:
    """Say the figures of one prefix on the wire: this node's own first, then by node."""
    by_node: dict[str, Figures] = {}
    for source, figures in row.by_source.items():
        node = node_of(source)
        by_node[node] = by_node.get(node, NOTHING) + figures
    return [_message(row.prefix, node, figures) for node, figures in sorted(by_node.items())]


def _message(prefix: bytes, node: str, figures: Figures) -> pb.CountRow:
    return pb.CountRow(
        prefix=prefix.decode(),
        node=node,
        queries=figures.queries,
        found=figures.found,
        recursive_queries=figures.recursive_queries,
        recursive_found=figures.recursive_found,
        registered=figures.registered,
        deleted=figures.deleted,
        allocated=figures.allocated,
    )


def _page_size(asked: int) -> int:
    if asked < 0:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, f"A page size is not negative; {asked} is.", field="page_size")
    return min(asked or PREFIXES_PAGE, PREFIXES_MAX)
