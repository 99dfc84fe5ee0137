"""A registry over a store in a folder, in this process, and a history that makes an entry of every kind."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from registry.answers import Answer
from registry.chunks import NO_CHUNKS, ChunkWriter, manifest_with
from registry.journal import Store
from registry.keyring import OPERATOR_FILE
from registry.kinds import IMPORT, PLANNERS
from registry.methods import IMPORT_METHOD
from registry.opening import Registry, open_registry
from registry.rows import IdentifierRow, PrefixRow, ValueRow
from registry.settings import RegistrySettings
from resolver.clock import Clock, SetClock, SystemClock
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.keys import Algorithm, PrivateKey
from tests.signing import SUBMIT, Signing, registering

SECONDARY: Final = "88.111"
ENTERPRISE: Final = "88.111.5"
SECRET: Final = "only for its holder"


class SmallRegistry:
    """An open registry, what it counts, and the keys of those who sign to it; `clock` is everybody's."""

    def __init__(self, registry: Registry, data: Path, clock: Clock, metrics: CollectorRegistry) -> None:
        self.registry = registry
        self.metrics = metrics
        self.clock = clock
        self.keys = {"local": PrivateKey.from_file(data / OPERATOR_FILE)}

    def signed(self, actor: str, kind: str, body: Mapping[str, Any], request_id: str = "", **more: Any) -> bytes:
        """Sign as this actor; `more` as in `Signing.request`."""
        method = IMPORT_METHOD if kind == IMPORT else SUBMIT
        signing = Signing(actor, self.keys[actor], now=self.clock.wall(), method=method)
        return signing.request(kind, body, request_id, **more)

    async def submit(
        self, actor: str, kind: str, body: Mapping[str, Any], request_id: str = "", **more: Any
    ) -> Answer:
        return await self.registry.submit(self.signed(actor, kind, body, request_id, **more))

    async def apply(self, node: str, *, algorithm: Algorithm = Algorithm.ED25519, **body: Any) -> Answer:
        """Have a node apply with a fresh key."""
        self.keys[node] = PrivateKey.generate(algorithm)
        return await self.submit(node, "node-apply.v1", application(node, self.keys[node], **body))

    async def join(self, node: str, **body: Any) -> None:
        """Have a node apply, enable it, and allocate the prefix of the same name to it."""
        await self.apply(node, **body)
        await self.submit("local", "node-review.v1", {"node": node, "decision": "enable"})
        rows = [{"prefix": node, "holder": node, "hosting": "here"}]
        await self.submit(str(body.get("parent") or "local"), "prefix-allocate.v1", {"rows": rows})

    async def take_chunk(self, chunk: bytes, rows: int, **body: Any) -> Answer:
        """Import a chunk as the operator."""
        return await self.take_import(self.signed("local", IMPORT, import_body(chunk, rows, **body)), chunk)

    async def take_import(self, octets: bytes, chunk: bytes) -> Answer:
        """Import a chunk by this envelope."""
        admitted = await self.registry.admit_import(octets)
        return admitted if isinstance(admitted, Answer) else await self.registry.take_import(admitted, chunk)


def application(node: str, key: PrivateKey, **body: Any) -> dict[str, Any]:
    """The body of node-apply.v1."""
    spki = b64encode(key.public.spki).decode()
    tier = "enterprise" if body.get("parent") else "secondary"
    return {"node": node, "tier": tier, "organisation": f"{node} Ltd", "key": spki, **body}


def import_body(chunk: bytes, rows: int, *, manifest: bytes = NO_CHUNKS, **body: Any) -> dict[str, Any]:
    """The body of import.v1 for a chunk behind this manifest, the whole import unless the body says otherwise."""
    digest = sha256(chunk).digest()
    return {
        "name": "corpus",
        "number": 1,
        "chunk_sha256": digest.hex(),
        "manifest_sha256": manifest_with(manifest, digest).hex(),
        "chunk_bytes": len(chunk),
        "rows": rows,
        "first_line": 1,
        "lines": rows,
        "offset": 0,
        "end_offset": 100 * rows,
        "is_last": True,
        **body,
    }


def chunk_of(*rows: PrefixRow | IdentifierRow) -> bytes:
    """Make a chunk of these rows."""
    writer = ChunkWriter()
    for line, row in enumerate(rows, start=1):
        writer.add(line, row)
    return writer.finish()


def identifier_row(text: str, number: int = 0) -> IdentifierRow:
    """A row with a public value, and with a restricted one where the number is odd."""
    values = [ValueRow(index=1, type="NAME", data=f"part {number}")]
    if number % 2:
        values.append(ValueRow(index=2, type="SECRET", data=SECRET, permissions="1100"))
    return IdentifierRow(identifier=text, values=values)


@asynccontextmanager
async def opened(
    data: Path, clock: Clock, *, store: type[EmbeddedWriter] = EmbeddedWriter, **settings: Any
) -> AsyncIterator[SmallRegistry]:
    """Open the registry of the node `top` over the store in this folder, made where there is none."""
    with closing(store.open(data, owner=Owner.here("a test", clock=SystemClock()))) as writer:
        async with opened_over(writer, data, clock, **settings) as small:
            yield small


@asynccontextmanager
async def opened_over(writer: Store, data: Path, clock: Clock, **settings: Any) -> AsyncIterator[SmallRegistry]:
    """Open the registry of the node `top` over a store of any kind; its keys lie in this folder."""
    metrics = CollectorRegistry()
    registry = open_registry(
        writer,
        node="top",
        data=data,
        settings=RegistrySettings(**settings),
        clock=clock,
        registry=metrics,
    )
    async with registry as running:
        yield SmallRegistry(running, data, clock, metrics)


async def write_history(data: Path) -> int:
    """Make a journal with an entry of every kind, a full tile of the tree, and refused rows; give its size."""
    clock = SetClock()
    async with opened(data, clock) as small:
        return await submit_history(small, clock)


async def submit_history(small: SmallRegistry, clock: SetClock) -> int:
    """Make that journal in an empty registry whose clock this is."""
    await _nodes_and_prefixes(small, clock)
    await _identifiers(small)
    await _imports(small)
    await _changes_of_nodes(small, clock)
    single = (small.submit(SECONDARY, "identifiers.v1", registering(f"88.111/SINGLE-{each}")) for each in range(260))
    await asyncio.gather(*single)
    return small.registry.journal.size


async def _nodes_and_prefixes(small: SmallRegistry, clock: SetClock) -> None:
    ends_soon = int(clock.wall()) + 1_000
    await small.join(SECONDARY, industry="C39")
    await small.join(ENTERPRISE, parent=SECONDARY, algorithm=Algorithm.ECDSA_P256)
    await small.apply("88.112", algorithm=Algorithm.ML_DSA_65)
    await small.submit("local", "node-review.v1", {"node": "88.112", "decision": "reject", "reason": "who is that"})
    await small.apply("88.112")
    rows = [
        {"prefix": "88.111.7", "holder": ENTERPRISE, "case": "sensitive"},
        {"prefix": "88.111.8", "holder": SECONDARY, "expires_at": ends_soon},
    ]
    await small.submit(SECONDARY, "prefix-allocate.v1", {"rows": rows})
    await small.submit(SECONDARY, "prefix-apply.v1", {"prefix": "88.115"})
    await small.submit("local", "prefix-state.v1", {"prefix": "88.115", "state": "in_review"})
    await small.submit("local", "prefix-state.v1", {"prefix": "88.115", "state": "enabled"})
    await small.submit("local", "prefix-renew.v1", {"prefix": "88.115", "expires_at": ends_soon + 1_000_000})
    endpoints = [{"protocol": "grpc", "address": "127.0.0.1", "port": 3641}]
    route = {"prefix": "88.115", "hosting": "delegated", "endpoints": endpoints}
    await small.submit(SECONDARY, "route.v1", route)
    await small.submit(SECONDARY, "identifiers.v1", registering("88.111.8/IN-ITS-TERM"))
    clock.advance(2_000)
    await small.submit(SECONDARY, "identifiers.v1", registering("88.111.8/TOO-LATE", "88.111/A", partial=True))


async def _identifiers(small: SmallRegistry) -> None:
    long = "88.111/" + "L" * 600
    value = {"index": 3, "type": "URL", "data": "https://example.org/a"}
    secret = {"index": 2, "type": "SECRET", "data": SECRET, "permissions": "1100"}
    rows: list[dict[str, Any]] = [
        {"identifier": "88.111/B", "values": [{"index": 1, "type": "NAME", "data": "b"}, secret]},
        {"identifier": long, "values": [value]},
        {"identifier": "88.111.5/OF-AN-ENTERPRISE", "values": [value]},
        {"identifier": "88.112/NOT-HELD", "values": [value]},
        {"mint": SECONDARY, "values": [value]},
    ]
    await small.submit(SECONDARY, "identifiers.v1", {"rows": rows, "partial": True})
    await small.submit(ENTERPRISE, "identifiers.v1", registering("88.111.5/C", "88.111.7/case", "88.111.7/CASE"))
    rows = [
        {"op": "update", "identifier": "88.111/A", "values": [value, secret]},
        {"op": "set_values", "identifier": "88.111/B", "values": [value]},
        {"op": "remove_values", "identifier": long, "indexes": [3]},
    ]
    await small.submit(SECONDARY, "identifiers.v1", {"rows": rows})
    rows = [{"op": "delete", "identifier": "88.111/B", "reason": "scrapped"}]
    await small.submit(SECONDARY, "identifiers.v1", {"rows": rows})
    rows = [{"prefix": SECONDARY, "queries": 7, "found": 5}, {"prefix": "88.112", "queries": 1}]
    await small.submit(SECONDARY, "counts.v1", {"day": "total", "rows": rows})


async def _imports(small: SmallRegistry) -> None:
    prefixes = [PrefixRow(prefix=f"88.200.{each}", holder="top") for each in range(3)]
    first: list[PrefixRow | IdentifierRow] = [*prefixes]
    first += [identifier_row(f"88.200.{each % 3}/{each:04}", each) for each in range(300)]
    second = [identifier_row(f"88.{200 + each % 2}.1/{each:04}", each) for each in range(100)]
    begun = chunk_of(*first)
    await small.take_chunk(begun, len(first), is_last=False, end_offset=1_000)
    behind = {"manifest": manifest_with(NO_CHUNKS, sha256(begun).digest()), "number": 2, "offset": 1_000}
    await small.take_chunk(chunk_of(*second), len(second), **behind, end_offset=2_000, is_last=False, rejected=1)


async def _changes_of_nodes(small: SmallRegistry, clock: SetClock) -> None:
    new = PrivateKey.generate()
    body = {"key": b64encode(new.public.spki).decode()}
    await small.submit(SECONDARY, "node-rotate.v1", body, keys=[new])
    small.keys[SECONDARY] = new
    # The machine's clock is set back: entries are in the order in which they were accepted, whatever their times.
    clock.advance(-500)
    await small.submit(SECONDARY, "identifiers.v1", registering("88.111/WITH-THE-NEW-KEY"))
    await small.submit("local", "node-suspend.v1", {"node": ENTERPRISE, "reason": "an audit"})
    await small.submit("local", "node-resume.v1", {"node": ENTERPRISE})
    await small.submit("local", "node-review.v1", {"node": "88.112", "decision": "enable", "agreement": True})
    await small.submit("local", "node-takeover.v1", {"node": ENTERPRISE, "takeover": True, "reason": "it moves"})
    await small.submit(SECONDARY, "node-agreement.v1", {"node": SECONDARY, "agreement": True})
    takeover = {"node": SECONDARY, "takeover": True, "reason": "half of the probes failed", "automatic": True}
    await small.submit("local", "node-takeover.v1", takeover)
    await small.submit("local", "node-takeover.v1", {**takeover, "takeover": False, "reason": "it is back"})
    await small.submit("local", "node-revoke.v1", {"node": "88.112", "reason": "gone"})


ENTRIES: Final = 294
"""Entries of the history."""

KINDS: Final = frozenset(PLANNERS)
"""Every kind of which the history has an entry."""
