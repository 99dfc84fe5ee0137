"""Paging through what is registered below one prefix. Who may, what is told, and where a page ends; no gRPC."""

from typing import Final

from msgspec import Struct

from resolver.bounds import LIST_PAGE
from resolver.errors import Fault, Reason
from resolver.front.paging import PageTokens
from resolver.handle import check_prefix
from resolver.holders import Holders
from resolver.query import Asker
from resolver.routes import RouteTable, Verdict
from resolver.store import RecordReader

PAGE: Final = 100
"""Identifiers on a page when the caller names no size."""

_REFUSALS: Final = {
    Verdict.NOT_ALLOCATED: Reason.PREFIX_NOT_ALLOCATED,
    Verdict.REFUSE_DISABLED: Reason.PREFIX_DISABLED,
    Verdict.REFUSE_EXPIRED: Reason.PREFIX_EXPIRED,
}


class Wanted(Struct, frozen=True, kw_only=True):
    """One request for a page, as it came."""

    prefix: str
    derived: bool = False
    page_size: int = 0
    page_token: str = ""


class Page(Struct, frozen=True):
    """Identifiers in the registered spelling, and the token for the next page ("": this is the last)."""

    identifiers: list[str]
    next_page_token: str


class Listing:
    """Lists for whoever may: serial numbers are business secrets.

    A page of LIST_PAGE identifiers of the largest size stays below ANSWER_BYTES, so counting them bounds its bytes.
    """

    def __init__(self, records: RecordReader, routes: RouteTable, tokens: PageTokens, holders: Holders) -> None:
        self._records = records
        self._routes = routes
        self._tokens = tokens
        self._holders = holders

    async def page(self, wanted: Wanted, asker: Asker) -> Page:
        """Give one page.

        Raises:
            Fault: LISTING_NOT_ALLOWED, FIELD_OUT_OF_RANGE, PAGE_TOKEN_INVALID; as `handle.check_prefix`;
                PREFIX_NOT_ALLOCATED, PREFIX_DISABLED, PREFIX_EXPIRED; STORE_UNAVAILABLE, also where it cannot be told
                at the moment who may.
        """
        prefix = check_prefix(wanted.prefix.encode())
        self._check_asker(asker, prefix)
        limit = _limit(wanted.page_size)
        after = self._tokens.open(wanted.page_token, prefix, derived=wanted.derived) if wanted.page_token else None
        self._check_scope(prefix)
        listed = await self._records.identifiers(prefix, derived=wanted.derived, after=after, limit=limit)
        told = [each for each in listed.identifiers if self._is_told(each)] if wanted.derived else listed.identifiers
        if listed.next_after is None:
            return Page(told, "")
        return Page(told, self._tokens.seal(listed.next_after, prefix, derived=wanted.derived))

    def _check_asker(self, asker: Asker, prefix: bytes) -> None:
        # Before anything is said of the prefix: whether it is allocated is no secret, how it stands may be.
        if not self._holders.may_list(asker, prefix):
            variables = {"identity": asker.identity} if asker.identity else {}
            raise Fault(Reason.LISTING_NOT_ALLOWED, variables=variables)
        self._holders.check_current()

    def _check_scope(self, prefix: bytes) -> None:
        verdict = self._routes.scope(prefix).verdict
        if verdict is not Verdict.ANSWER:
            raise Fault(_REFUSALS[verdict], field="prefix")

    def _is_told(self, identifier: str) -> bool:
        # Nothing is said below a derived prefix that is disabled or expired, whatever holds above it.
        prefix = identifier.partition("/")[0].encode().upper()
        return self._routes.scope(prefix).verdict is Verdict.ANSWER


def _limit(page_size: int) -> int:
    if page_size < 0:
        raise Fault(
            Reason.FIELD_OUT_OF_RANGE,
            f"A page size is not negative; {page_size} is.",
            field="page_size",
            variables={"page_size": str(page_size)},
        )
    return min(page_size or PAGE, LIST_PAGE)
