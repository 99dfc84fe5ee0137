"""What is measured with: a store of any size, the identifiers in it, and requests about them.

All identifiers have the same length, and the records differ only in their serial number, so that millions are made
by replacing bytes of one encoded example: the time goes to what is measured.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import uuid4

from loadtest.driver import Call
from registry.journal import Journal, Store
from registry.keyring import JOURNAL_FILE, kept_key
from resolver import wire
from resolver.clock import SystemClock
from resolver.handle import Handle
from resolver.record import Record, Value
from resolver.routes import Hosting, Prefix
from resolver.store import Commit, Entry, Write
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.keys import PrivateKey
from resolver.trust.notes import origin_of
from resolver.v1 import resolver_pb2 as pb

ENTERPRISES: Final = 40
"""Prefixes over which the identifiers are spread."""

PART: Final = 100_000
"""Records made at once; so many neighbours stand under one prefix."""

ENTRY: Final = 8_192
"""Records in one entry of the journal, and so in one transaction: those of a chunk of an import."""

_EXAMPLE: Final = "88.111.10/BRK-000000000"
_SERIAL: Final = b"000000000"


def identifier(number: int) -> bytes:
    """Give the identifier with this number: neighbours stand under the same prefix."""
    return b"88.111.%d/BRK-%09d" % (10 + number // PART % ENTERPRISES, number)


def absent_identifier(number: int) -> bytes:
    """Give an identifier that is never registered, under a prefix that is."""
    return b"88.111.%d/ABS-%09d" % (10 + number % ENTERPRISES, number)


def example_record() -> Record:
    """Give the record that all others are like: four values of ordinary size."""
    values = (
        Value(index=1, type="URL", data=b"https://parts.example.cn/brake/000000000"),
        Value(index=2, type="NAME", data="通风制动盘 320 mm".encode()),
        Value(index=3, type="MAKER", data="江汉制动部件（示例）有限公司".encode()),
        Value(index=4, type="LOT", data=b"2026-05-17/A3"),
    )
    return Record(
        identifier=Handle.from_text(_EXAMPLE),
        values=values,
        registrant="88.111.10",
        registered_at=1_790_000_000,
        updated_at=1_790_000_000,
    )


def writes(numbers: range) -> list[Write]:
    """Make the records with these numbers."""
    template = wire.record_body(example_record(), public=True)
    made = []
    for number in numbers:
        name = identifier(number)
        body = template.replace(_SERIAL, b"%09d" % number).replace(b"88.111.10", name[:9])
        made.append(Write(name, body))
    return made


def rows(numbers: range) -> Iterator[bytes]:
    """Make the same records as lines of NDJSON, as `topnode load` reads them."""
    values = [
        {"index": value.index, "type": value.type, "data": value.data.decode()} for value in example_record().values
    ]
    line = json.dumps({"identifier": _EXAMPLE, "values": values}, ensure_ascii=False).encode() + b"\n"
    for number in numbers:
        yield line.replace(_SERIAL, b"%09d" % number).replace(b"88.111.10/", identifier(number)[:10])


def prefixes() -> list[Prefix]:
    """Give the prefixes of the workload: all hosted here."""
    below = [Prefix(f"88.111.{10 + each}", "top", hosting=Hosting.HERE) for each in range(ENTERPRISES)]
    return [Prefix("88", "top"), Prefix("88.111", "top"), *below]


def prefix_rows() -> Iterator[bytes]:
    """Give the same prefixes as lines of NDJSON."""
    for prefix in prefixes():
        yield json.dumps({"prefix": prefix.text, "holder": prefix.holder, "hosting": "here"}).encode() + b"\n"


async def build_store(path: Path, count: int) -> None:
    """Make a store with this many records, on which a node can be started."""
    writer = EmbeddedWriter.open(path, owner=Owner.here("benchmark", clock=SystemClock()))
    try:
        await fill(writer, kept_key(path / JOURNAL_FILE), count)
    finally:
        writer.close()


async def build_store_of(path: Path, records: Sequence[Write], rows: Sequence[Prefix], *, node: str) -> None:
    """Make a store with these records and prefixes, on which a node with this identifier can be started."""
    writer = EmbeddedWriter.open(path, owner=Owner.here("benchmark", clock=SystemClock()))
    try:
        journal = await Journal.open(writer, kept_key(path / JOURNAL_FILE), origin_of(node))
        for entry in (*_entries((), rows), *_entries(records)):
            await journal.commit([entry])
    finally:
        writer.close()


async def fill(store: Store, key: PrivateKey, count: int) -> None:
    """Put so many records into an empty store, in a journal that is signed by this key."""
    journal = await Journal.open(store, key, origin_of("top"))
    await journal.commit(list(_entries((), prefixes())))
    for first in range(0, count, PART):
        for entry in _entries(writes(range(first, min(first + PART, count)))):
            await journal.commit([entry])


async def put(writer: EmbeddedWriter, records: Sequence[Write] = (), prefixes: Sequence[Prefix] = ()) -> None:
    """Write this, without a journal: no node can be started on it."""
    for entry in _entries(records, prefixes):
        await writer.commit(Commit(entries=[entry]))


def _entries(records: Sequence[Write], prefixes: Sequence[Prefix] = ()) -> Iterator[Entry]:
    """Make entries that nobody has signed."""
    for first in range(0, max(len(records), 1), ENTRY):
        request = uuid4().bytes
        yield Entry(
            statement=request,
            artefacts=(),
            result=b"",
            request=request,
            at=int(SystemClock().wall()),
            writes=records[first : first + ENTRY],
            prefixes=() if first else prefixes,
        )


def shuffled(count: int, seed: int) -> list[int]:
    """Give the numbers below this count in an order that is the same every time."""
    numbers = list(range(count))
    random.Random(seed).shuffle(numbers)
    return numbers


def unary(names: Sequence[bytes]) -> Iterator[Call]:
    """Ask for each of these by itself."""
    for name in names:
        request = pb.ResolveRequest(identifier=name.decode()).SerializeToString()
        yield Call("/topnode.resolver.v1.ResolverService/Resolve", request)


def batches(names: Sequence[bytes], size: int) -> Iterator[Call]:
    """Ask for these in batches."""
    rest = iter(names)
    while batch := list(islice(rest, size)):
        request = pb.BatchResolveRequest(identifiers=[name.decode() for name in batch]).SerializeToString()
        yield Call("/topnode.resolver.v1.ResolverService/BatchResolve", request, len(batch))
