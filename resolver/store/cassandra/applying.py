"""What is written for a commit: first its journal, then, once it is decided, everything that its entries change.

Pure functions from entries to statements. A statement is written with its entry's index as timestamp, so that writing
it again, or late, changes nothing; statements of one partition go together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from resolver import wire
from resolver.answer import ABSENT
from resolver.store import Change, Commit, Entry
from resolver.store.cassandra.carrying import Bundle, Request
from resolver.store.cassandra.layout import (
    CHANGE_BYTES,
    Redo,
    change_encoder,
    checkpoint_encoder,
    entry_bucket,
    hash_of,
    nonce_row,
    part_of,
    split,
)
from resolver.store.cassandra.spans import Span
from resolver.store.cassandra.statements import (
    DROP_IMPORT,
    DROP_LISTED,
    DROP_REDO,
    PUT_ANSWER,
    PUT_ARTEFACT,
    PUT_CHANGE_PART,
    PUT_ENTRY,
    PUT_FEED,
    PUT_IMPORT,
    PUT_LISTED,
    PUT_NODE,
    PUT_NONCE,
    PUT_PREFIX,
    PUT_RECORD,
    PUT_RECORD_FULL,
    PUT_REDO,
    PUT_TILE,
)
from resolver.store.naming import named_change, prefix_of

TOGETHER: Final = 64
"""Statements of one partition that are sent together, at most."""

TOGETHER_BYTES: Final = 64 << 10
"""And what they carry, about."""

_redos_encoder: Final = msgspec.msgpack.Encoder()
_redos_decoder: Final = msgspec.msgpack.Decoder(list[bytes])


def journal(commit: Commit, redos: Sequence[Redo], first: int, epoch: int) -> Iterator[Bundle]:
    """Propose the entries of a commit, the first of them under this index, in this epoch.

    It is nothing until the head says that it is committed. What the entries change is kept with them, as one redo
    under the first index, for whoever has to finish the work.
    """
    entries = list(enumerate(commit.entries, start=first))
    yield from together(
        (entry_bucket(index), _entry(entry, index, epoch), len(entry.statement) + len(entry.result))
        for index, entry in entries
    )
    for index, entry in entries:
        yield from together(
            (index, (PUT_ARTEFACT, (index, epoch, place, part, octets, index)), len(octets))
            for place, artefact in enumerate(entry.artefacts)
            for part, octets in enumerate(split(artefact))
        )
    for part, octets in enumerate(split(redos_to_bytes(redos))):
        yield [(PUT_REDO, (first, epoch, part, octets, first))]


def redos_of(commit: Commit, *, buckets: Mapping[bytes, int] | None = None) -> list[Redo]:
    """Take from a commit what has to be written once it is decided; the last entry's holds what is the commit's.

    `buckets` are those of listings that the commit makes (`Redo.of`).
    """
    *others, last = commit.entries
    return [*map(Redo.of, others), Redo.of(last, tiles=commit.tiles, tree_head=commit.tree_head, buckets=buckets)]


def redos_to_bytes(redos: Sequence[Redo]) -> bytes:
    """Encode the redos of one commit."""
    return _redos_encoder.encode([redo.to_bytes() for redo in redos])


def redos_from_bytes(octets: bytes) -> list[Redo]:
    """Read the redos of one commit.

    Raises:
        msgspec.DecodeError: it is not whole.
    """
    return [Redo.from_bytes(each) for each in _redos_decoder.decode(octets)]


def drop_redo(first: int, epoch: int) -> Bundle:
    """Take away what was kept for a commit that is applied."""
    return [(DROP_REDO, (first, first, epoch))]


def changes(redos: Sequence[Redo], first: int, spans: Mapping[bytes, Span], *, answers_kept: int) -> Iterator[Bundle]:
    """Write everything that the entries change; answers are remembered for so many seconds."""
    numbered = list(enumerate(redos, start=first))
    for index, redo in numbered:
        yield from _records(redo, index)
    yield from together(each for index, redo in numbered for each in _listed(redo, index, spans))
    yield from together(each for index, redo in numbered for each in _rows(redo, index))
    for index, redo in numbered:
        yield from _remembered(redo, index, answers_kept)
    yield from _feed(numbered)


def together(requests: Iterable[tuple[object, Request, int]]) -> Iterator[Bundle]:
    """Bundle statements by their partition (the first of each triple), not too many, nor too large (the last)."""
    bundles: dict[object, list[Request]] = defaultdict(list)
    octets: dict[object, int] = defaultdict(int)
    for partition, request, size in requests:
        bundle = bundles[partition]
        if bundle and (len(bundle) == TOGETHER or octets[partition] + size > TOGETHER_BYTES):
            yield bundle
            bundle = bundles[partition] = []
            octets[partition] = 0
        bundle.append(request)
        octets[partition] += size
    yield from bundles.values()


def _entry(entry: Entry, index: int, epoch: int) -> Request:
    sizes = [len(artefact) for artefact in entry.artefacts]
    return PUT_ENTRY, (entry_bucket(index), index, epoch, entry.statement, entry.result, sizes, index)


def _records(redo: Redo, index: int) -> Iterator[Bundle]:
    version = wire.version_field(index)
    for key, public, full, is_new in redo.writes:
        if full:
            yield [(PUT_RECORD_FULL, (key, public + version, full + version, index))]
        elif is_new:
            yield [(PUT_RECORD, (key, public + version, index))]
        else:
            yield [(PUT_RECORD_FULL, (key, public + version, None, index))]


def _listed(redo: Redo, index: int, spans: Mapping[bytes, Span]) -> Iterator[tuple[object, Request, int]]:
    for key, public, _full, _is_new in redo.writes:
        prefix, hashed = prefix_of(key), hash_of(key)
        spelling = None if public[wire.OUTCOME_AT] == ABSENT else wire.registered_spelling(public)
        for bucket in spans[prefix].buckets_of(hashed):
            if spelling is None:
                request: Request = DROP_LISTED, (index, prefix, bucket, hashed, key)
            else:
                request = PUT_LISTED, (prefix, bucket, hashed, key, spelling, index)
            yield (prefix, bucket), request, 2 * len(key)


def _rows(redo: Redo, index: int) -> Iterator[tuple[object, Request, int]]:
    for prefix in redo.prefixes:
        part, row = part_of(prefix.key), replace(prefix, epoch=index).to_bytes()
        yield (PUT_PREFIX, part), (PUT_PREFIX, (part, prefix.key, row, index)), len(row)
    for node in redo.nodes:
        key, row = node.node.encode(), replace(node, epoch=index).to_bytes()
        part = part_of(key)
        yield (PUT_NODE, part), (PUT_NODE, (part, key, row, index)), len(row)


def _remembered(redo: Redo, index: int, answers_kept: int) -> Iterator[Bundle]:
    """Write what is remembered for a while, or until the next time."""
    yield [(PUT_ANSWER, (redo.request, index, index, answers_kept))]
    for nonce in redo.all_nonces():
        # By the entry's own time, and not by a clock: whoever applies it again writes the same.
        yield [(PUT_NONCE, (nonce_row(nonce), index, max(1, nonce.until - redo.at + 1)))]
    for name, reached in redo.checkpoints:
        if reached is None:
            yield [(DROP_IMPORT, (index, name))]
        else:
            yield [(PUT_IMPORT, (name, checkpoint_encoder.encode(reached), index))]
    for name, tile in redo.tiles:
        yield [(PUT_TILE, (name, tile, index))]


def _feed(numbered: Iterable[tuple[int, Redo]]) -> Iterator[Bundle]:
    rows: list[tuple[object, Request, int]] = []
    for index, redo in numbered:
        octets = change_encoder.encode(_change(redo, index))
        parts = split(octets) if len(octets) > CHANGE_BYTES else []
        yield from ([(PUT_CHANGE_PART, (index, part, each, index))] for part, each in enumerate(parts))
        row = b"" if parts else octets
        rows.append((entry_bucket(index), (PUT_FEED, (entry_bucket(index), index, len(parts), row, index)), len(row)))
    yield from together(rows)


def _change(redo: Redo, index: int) -> Change:
    return named_change(
        index,
        sorted([key for key, *_ in redo.writes]),
        tuple([replace(prefix, epoch=index) for prefix in redo.prefixes]),
        tuple([replace(node, epoch=index) for node in redo.nodes]),
        redo.below,
    )
