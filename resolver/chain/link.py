"""What a link of the read path is. The links and their order are in the package."""

from collections.abc import Sequence
from typing import Protocol

from resolver.answer import Ready
from resolver.query import Query


class Link(Protocol):
    """One step of the read path: asks the one below when it cannot answer itself.

    A query in, one `Ready` for each of its identifiers out, in their order; `Failed` stands where an identifier
    went wrong. A Fault is raised only when nothing of the query can be answered.
    """

    async def resolve(self, query: Query) -> Sequence[Ready]: ...
