"""The registry of a node, put together over its store: keys, operators, state, journal, ladder, desk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from registry.answers import Answer, FirstAnswers
from registry.desk import Desk
from registry.journal import Journal, Store
from registry.keyring import OPERATOR_FILE, journal_key, kept_key, read_operators
from registry.kinds import IMPORT, PLANNERS
from registry.methods import IMPORT_METHOD, SUBMIT_METHOD
from registry.settings import RegistrySettings
from registry.state import State
from registry.verify import Verified, Verifier
from resolver.clock import Clock
from resolver.errors import Fault, Reason, first_fault
from resolver.trust.notes import origin_of
from resolver.trust.queries import QueryVerifier


class Registry:
    """Takes signed requests in the process that owns the store. Made by `open_registry`."""

    def __init__(
        self,
        *,
        store: Store,
        state: State,
        journal: Journal,
        verifier: Verifier,
        queries: QueryVerifier,
        desk: Desk,
        clock: Clock,
    ) -> None:
        self.store = store
        self.state = state
        self.journal = journal
        self.queries = queries
        self._verifier = verifier
        self._desk = desk
        self._clock = clock
        self._answers = FirstAnswers(store, journal)

    async def submit(self, octets: bytes) -> Answer:
        """Take one signed request, as its octets came: durable when this returns. Not for imports.

        Raises:
            Fault: as `State.check_known`, `Verifier.verify` and `Desk.submit`.
        """
        self.state.check_known()
        verified = self._verifier.verify(octets, SUBMIT_METHOD)
        if verified.request.kind == IMPORT:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, "An import is sent by the method Import.", field="payload_type")
        return await self._desk.submit(verified)

    async def admit_import(self, octets: bytes) -> Verified | Answer:
        """Verify the envelope of an import before its chunk is taken in; where it was answered already, say how.

        Raises:
            Fault: as `State.check_known` and `Verifier.verify`; NOT_AUTHORISED for whoever is no operator;
                REQUEST_ID_REUSED; as `Verifier.check_fresh`; STORE_UNAVAILABLE.
        """
        self.state.check_known()
        verified = self._verifier.verify(octets, IMPORT_METHOD)
        if verified.request.kind != IMPORT:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, f"Only {IMPORT} is sent by this method.", field="payload_type")
        if not verified.request.actor.is_operator:
            raise Fault(Reason.NOT_AUTHORISED, "Imports are signed by an operator of this node.")
        with self._verifier.refusals:
            answer = await self._answers.find(verified)
        if answer is not None:
            return answer
        self._verifier.check_fresh(verified, self._clock.wall())
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
    kept_key(data / OPERATOR_FILE)
    operators = read_operators(settings, data)
    journal = await Journal.open(store, journal_key(settings, data), origin_of(node))
    state = State(store, own_name=node)
    await state.begin(int(clock.wall()))
    verifier = Verifier(nodes=state.nodes, operators=operators, node=node, registry=registry, kinds=PLANNERS.keys())
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
        store=store,
        state=state,
        journal=journal,
        verifier=verifier,
        queries=QueryVerifier(node, state.nodes, operators, clock),
        desk=desk,
        clock=clock,
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
        raised = first_fault(faults)
    if raised:
        raise raised
