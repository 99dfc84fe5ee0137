"""Where the chunks of a load go: to the node that runs on the store, or to a registry in this process.

Both are given the same signed envelopes.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry

from nodes.settings import NodeSettings
from registry.answers import Answer
from registry.imports import Import, check_name
from registry.keyring import OPERATOR_FILE
from registry.methods import IMPORT_METHOD
from registry.opening import Registry, open_registry
from registry.v1 import registry_pb2 as pb
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.rpc.errors import fault_of
from resolver.store import Checkpoint
from resolver.store.embedded import EmbeddedWriter, Owner, current_owner
from resolver.trust.envelopes import payload_type_of, seal
from resolver.trust.heads import Payload, new_head
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import LOCAL

WHAT: Final = "topnode load"
"""How this process is named to others that want to write while it is the owner."""

_PAYLOAD_TYPE: Final = payload_type_of("import.v1")
_encode: Final = msgspec.json.Encoder().encode


class Taken(Struct, frozen=True, kw_only=True):
    """What became of a chunk's rows, and its journal index: durable when this is given.

    `refusals` are by the position of the row in the chunk.
    """

    registered: int
    replaced: int
    unchanged: int
    refusals: dict[int, Fault]
    index: int


class TakesImports(Protocol):
    """Takes imports, chunk by chunk."""

    async def reached(self, name: str) -> Checkpoint:
        """Tell how far the import of this name has come.

        Raises:
            Fault: FIELD_OUT_OF_RANGE for a name that cannot be one; NODE_UNREACHABLE, STORE_UNAVAILABLE.
        """

    async def take(self, body: Import, chunk: bytes) -> Taken:
        """Sign for a chunk, and have it taken.

        Raises:
            Fault: as `registry.verify` says; LOAD_OUT_OF_STEP when it does not follow; STORE_FULL,
                STORE_UNAVAILABLE, NODE_UNREACHABLE.
        """


class Operator(Struct, frozen=True, kw_only=True):
    """Who signs: the name of an operator, and the file of its private key; None: the one beside the store."""

    name: str = LOCAL
    key: Path | None = None


class ImportSigner:
    """Signs chunks for one node, as one of its operators."""

    def __init__(self, operator: Operator, data: Path, node: str, clock: Clock) -> None:
        """Read the key.

        Raises:
            Fault: FILE_UNREADABLE, KEY_INVALID.
        """
        self._name = operator.name
        self._key = PrivateKey.from_file(operator.key or data / OPERATOR_FILE)
        self._node = node
        self._clock = clock

    def sign(self, body: Import) -> bytes:
        """Give the envelope of a request of its own."""
        head = new_head(
            node=self._node,
            method=IMPORT_METHOD,
            actor=self._name,
            request_id=secrets.token_hex(16),
            now=self._clock.wall(),
        )
        return seal(_PAYLOAD_TYPE, Payload(head, _encode(body)).to_bytes(), [self._key]).to_bytes()


class LocalImports:
    """Takes imports by the registry of this process."""

    def __init__(self, registry: Registry, signer: ImportSigner) -> None:
        self._registry = registry
        self._signer = signer

    async def reached(self, name: str) -> Checkpoint:
        check_name(name)
        return await self._registry.store.checkpoint(name)

    async def take(self, body: Import, chunk: bytes) -> Taken:
        admitted = await self._registry.admit_import(self._signer.sign(body))
        answer = admitted if isinstance(admitted, Answer) else await self._registry.take_import(admitted, chunk)
        index = answer.receipt.index if answer.receipt else 0
        return taken_of(pb.ImportResponse.FromString(answer.result), index)


def taken_of(response: pb.ImportResponse, index: int) -> Taken:
    """Read what became of a chunk."""
    return Taken(
        registered=response.registered,
        replaced=response.replaced,
        unchanged=response.unchanged,
        refusals={each.row: fault_of(each.error) for each in response.refusals},
        index=index,
    )


@asynccontextmanager
async def open_imports(settings: NodeSettings, operator: Operator, clock: Clock) -> AsyncIterator[TakesImports]:
    """Give what takes imports for the store of these settings: the node that runs on it, else this process.

    Raises:
        Fault: STORE_OWNED by a process that takes none; FILE_UNREADABLE, KEY_INVALID; else as `EmbeddedWriter.open`
            and `open_registry`.
    """
    data = settings.data
    owner = current_owner(data)
    if owner is not None and owner.socket:
        # Its client is imported only where a node runs.
        from nodes.loading.remote import open_remote  # noqa: PLC0415

        async with open_remote(owner.socket, operator, data, clock) as remote:
            yield remote
        return
    with closing(EmbeddedWriter.open(data, owner=Owner.here(WHAT, clock=clock))) as store:
        async with open_registry(
            store,
            node=settings.node,
            data=data,
            settings=settings.registry,
            clock=clock,
            registry=CollectorRegistry(),
        ) as registry:
            yield LocalImports(registry, ImportSigner(operator, data, settings.node, clock))
