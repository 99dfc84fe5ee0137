"""The registry of a node, put together over its store: keys, operators, state, journal, ladder, desk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from registry.desk import Answer, Desk
from registry.journal import Journal, Store
from registry.keyring import journal_key, read_operators
from registry.kinds import IMPORT, PLANNERS
from registry.settings import RegistrySettings
from registry.state import State
from registry.verify import Verified, Verifier
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.trust.notes import origin_of
from resolver.trust.operators import Operators
from resolver.trust.queries import QueryVerifier

SUBMIT_METHOD: Final = "topnode.registry.v1.RegistryService/Submit"
IMPORT_METHOD: Final = "topnode.registry.v1.RegistryService/Import"


class Registry:
    """Takes signed requests in the process that owns the store. Made by `open_registry`."""

    def __init__(
        self,
        *,
        node: str,
        store: Store,
        state: State,
        journal: Journal,
        operators: Operators,
        verifier: Verifier,
        queries: QueryVerifier,
        desk: Desk,
    ) -> None:
        self.node = node
        self.store = store
        self.state = state
        self.journal = journal
        self.operators = operators
        self.queries = queries
        self._verifier = verifier
        self._desk = desk

    async def submit(self, octets: bytes) -> Answer:
        """Take one signed request, as its octets came: durable when this returns. Not for imports.

        Raises:
            Fault: as `Verifier.verify` and `Desk.submit`.
        """
        verified = self._verifier.verify(octets, SUBMIT_METHOD)
        if verified.request.kind == IMPORT:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, "An import is sent by the method Import.", field="payload_type")
        return await self._desk.submit(verified)

    def admit_import(self, octets: bytes) -> Verified:
        """Verify the envelope of an import, before its chunk is taken in.

        Raises:
            Fault: as `Verifier.verify`; NOT_AUTHORISED for whoever is no operator.
        """
        verified = self._verifier.verify(octets, IMPORT_METHOD)
        if verified.request.kind != IMPORT:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, f"Only {IMPORT} is sent by this method.", field="payload_type")
        if not verified.request.actor.is_operator:
            raise Fault(Reason.NOT_AUTHORISED, "Imports are signed by an operator of this node.")
        return verified

    async def take_import(self, verified: Verified, chunk: bytes) -> Answer:
        """Take the chunk that an admitted envelope names: durable when this returns.

        Raises:
            Fault: as `Desk.submit`.
        """
        return await self._desk.submit(replace(verified, request=replace(verified.request, chunk=chunk)))


@asynccontextmanager
async def open_registry(
    store: Store, *, node: str, data: Path, settings: RegistrySettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[Registry]:
    """Open the registry of this node and have it write as long as the context lasts. Keys are made where none are.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE (a key file), JOURNAL_DAMAGED, STORE_UNAVAILABLE; SETTING_INVALID.
    """
    operators = read_operators(settings, data)
    journal = await Journal.open(store, journal_key(settings, data), origin_of(node))
    state = State(store, own_name=node)
    await state.begin(int(clock.wall()))
    verifier = Verifier(
        nodes=state.nodes, operators=operators, node=node, clock=clock, registry=registry, kinds=PLANNERS.keys()
    )
    desk = Desk(
        store=store,
        state=state,
        journal=journal,
        verifier=verifier,
        planners=PLANNERS,
        settings=settings,
        clock=clock,
        registry=registry,
    )
    opened = Registry(
        node=node,
        store=store,
        state=state,
        journal=journal,
        operators=operators,
        verifier=verifier,
        queries=QueryVerifier(node, state.nodes, operators, clock),
        desk=desk,
    )
    async with _running(desk):
        yield opened


@asynccontextmanager
async def _running(desk: Desk) -> AsyncIterator[None]:
    """Have the desk write; what is raised in the context leaves it as it is, and not in a group."""
    raised: Fault | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(desk.run())
            try:
                yield
            finally:
                writing.cancel()
    except* Fault as faults:
        raised = _first(faults)
    if raised:
        raise raised


def _first(error: BaseExceptionGroup[Fault]) -> Fault:
    first = error.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
