"""Everything that is asked of Cassandra, in CQL, each with the way in which it is asked.

A statement is prepared once for each process. Whatever is written with a timestamp can be written again: so it counts
as idempotent, and is sent to another node when one does not answer. Only the transactions on `head` and the making of
what is made once decide something; those are sent once.
"""

import re
from enum import Enum
from typing import Final

from msgspec import Struct


class Way(Enum):
    """How a statement is asked: consistency, and what happens when there is no answer. `session` makes profiles."""

    NEAR = "near"
    """LOCAL_ONE; another node is asked as well when the first one takes longer than nearly all answers do."""

    SURE = "sure"
    """LOCAL_QUORUM, likewise."""

    WRITE = "write"
    """LOCAL_QUORUM, and another node when the first one fails."""

    DECIDE = "decide"
    """A lightweight transaction (LOCAL_SERIAL), never sent again by the driver: its outcome may be unknown."""

    LAST_WORD = "last word"
    """A read at LOCAL_SERIAL: what lightweight transactions have decided, those under way too."""


class Statement(Struct, frozen=True, eq=False):
    """What is asked, and how. Each is one of its own, so that it is found by what it is and not by its text."""

    cql: str
    way: Way


def in_keyspace(cql: str, keyspace: str) -> str:
    """Name the keyspace before the table: a session that has one by itself confuses what is prepared.

    In quotes: its name may be a word of CQL.
    """
    return re.sub(r"\b(FROM|INTO|UPDATE) (?=[a-z])", rf'\1 "{keyspace}".', cql)


def _near(cql: str) -> Statement:
    return Statement(cql, Way.NEAR)


def _sure(cql: str) -> Statement:
    return Statement(cql, Way.SURE)


def _write(cql: str) -> Statement:
    return Statement(cql, Way.WRITE)


# --- records -------------------------------------------------------------------------------------------------------

_PUBLIC: Final = "SELECT key, public_body FROM records WHERE key IN ?"

PUBLIC_NEAR: Final = _near(_PUBLIC)
PUBLIC_SURE: Final = _sure(_PUBLIC)
FULL_SURE: Final = _sure("SELECT key, public_body, full_body FROM records WHERE key IN ?")

PUT_RECORD: Final = _write("INSERT INTO records (key, public_body) VALUES (?, ?) USING TIMESTAMP ?")
"""For a write that is new: a full body that stands there all the same has another version, and is void."""

PUT_RECORD_FULL: Final = _write(
    "INSERT INTO records (key, public_body, full_body) VALUES (?, ?, ?) USING TIMESTAMP ?"
)
"""None as the full body takes away what stands there."""

# --- listing -------------------------------------------------------------------------------------------------------

LISTED_FIRST: Final = _sure("SELECT key, spelling FROM listing WHERE prefix = ? AND bucket = ? LIMIT ?")
LISTED_AFTER: Final = _sure(
    "SELECT key, spelling FROM listing WHERE prefix = ? AND bucket = ? AND (hash, key) > (?, ?) LIMIT ?"
)
LISTED_WITH_TIME: Final = _sure(
    "SELECT hash, key, spelling, WRITETIME(spelling) FROM listing"
    " WHERE prefix = ? AND bucket = ? AND (hash, key) > (?, ?) LIMIT ?"
)
"""For moving a listing to another number of buckets: rows are copied with the timestamps that they have."""

PUT_LISTED: Final = _write(
    "INSERT INTO listing (prefix, bucket, hash, key, spelling) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
DROP_LISTED: Final = _write(
    "DELETE FROM listing USING TIMESTAMP ? WHERE prefix = ? AND bucket = ? AND hash = ? AND key = ?"
)
DROP_BUCKET: Final = _write("DELETE FROM listing USING TIMESTAMP ? WHERE prefix = ? AND bucket = ?")

SPAN: Final = _sure("SELECT buckets, wanted FROM spans WHERE part = ? AND prefix = ?")
SPANS_BETWEEN: Final = _sure("SELECT prefix, buckets FROM spans WHERE part = ? AND prefix > ? AND prefix < ? LIMIT ?")
PUT_SPAN: Final = _write("INSERT INTO spans (part, prefix, buckets, wanted) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")

# --- rows ----------------------------------------------------------------------------------------------------------

PREFIXES_AFTER: Final = _sure("SELECT row FROM prefixes WHERE part = ? AND key > ? LIMIT ?")
PUT_PREFIX: Final = _write("INSERT INTO prefixes (part, key, row) VALUES (?, ?, ?) USING TIMESTAMP ?")
NODES_AFTER: Final = _sure("SELECT row FROM nodes WHERE part = ? AND key > ? LIMIT ?")
PUT_NODE: Final = _write("INSERT INTO nodes (part, key, row) VALUES (?, ?, ?) USING TIMESTAMP ?")

# --- journal -------------------------------------------------------------------------------------------------------

HEAD: Final = _sure("SELECT epoch, size, tree_head, starts, owner FROM head WHERE name = ?")
HEAD_LAST_WORD: Final = Statement(HEAD.cql, Way.LAST_WORD)
MAKE_HEAD: Final = Statement(
    "INSERT INTO head (name, epoch, size, tree_head, starts, owner) VALUES (?, 0, 0, 0x, {}, '') IF NOT EXISTS",
    Way.DECIDE,
)
ADVANCE_HEAD: Final = Statement(
    "UPDATE head SET size = ?, tree_head = ? WHERE name = ? IF epoch = ? AND size = ?", Way.DECIDE
)
TAKE_HEAD: Final = Statement(
    "UPDATE head SET epoch = ?, owner = ?, starts[?] = ? WHERE name = ? IF epoch = ? AND size = ?", Way.DECIDE
)

WATERMARK: Final = _sure("SELECT applied, tree_head, hidden_from FROM watermark WHERE name = ?")
PUT_WATERMARK: Final = _write(
    "INSERT INTO watermark (name, applied, tree_head, hidden_from) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
)

ENTRIES: Final = _sure(
    "SELECT idx, epoch, statement, result, artefacts FROM journal WHERE bucket = ? AND idx > ? AND idx <= ?"
)
TOLD: Final = _sure("SELECT idx, epoch, statement, result FROM journal WHERE bucket = ? AND idx > ? AND idx <= ?")
STATEMENTS: Final = _sure("SELECT idx, epoch, statement FROM journal WHERE bucket = ? AND idx > ? AND idx <= ?")
PUT_ENTRY: Final = _write(
    "INSERT INTO journal (bucket, idx, epoch, statement, result, artefacts) VALUES (?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?"
)

ARTEFACT_PARTS: Final = _sure(
    "SELECT place, part, octets FROM artefacts WHERE idx = ? AND epoch = ? AND (place, part) > (?, ?) LIMIT ?"
)
PUT_ARTEFACT: Final = _write(
    "INSERT INTO artefacts (idx, epoch, place, part, octets) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)

REDO: Final = _sure("SELECT part, octets FROM redo WHERE idx = ? AND epoch = ?")
PUT_REDO: Final = _write("INSERT INTO redo (idx, epoch, part, octets) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
DROP_REDO: Final = _write("DELETE FROM redo USING TIMESTAMP ? WHERE idx = ? AND epoch = ?")

TILE: Final = _sure("SELECT octets FROM tiles WHERE name = ?")
PUT_TILE: Final = _write("INSERT INTO tiles (name, octets) VALUES (?, ?) USING TIMESTAMP ?")

ANSWERED: Final = _sure("SELECT request, idx FROM answers WHERE request IN ?")
PUT_ANSWER: Final = _write("INSERT INTO answers (request, idx) VALUES (?, ?) USING TIMESTAMP ? AND TTL ?")
SPENT: Final = _sure("SELECT nonce FROM nonces WHERE nonce IN ?")
PUT_NONCE: Final = _write("INSERT INTO nonces (nonce) VALUES (?) USING TIMESTAMP ? AND TTL ?")

IMPORT: Final = _sure("SELECT row FROM imports WHERE part = 0 AND name = ?")
IMPORTS: Final = _sure("SELECT name, row, WRITETIME(row) FROM imports WHERE part = 0")
"""All of them: those that are under way, and those that were interrupted and never gone on with."""

PUT_IMPORT: Final = _write("INSERT INTO imports (part, name, row) VALUES (0, ?, ?) USING TIMESTAMP ?")
DROP_IMPORT: Final = _write("DELETE FROM imports USING TIMESTAMP ? WHERE part = 0 AND name = ?")

# --- feed ----------------------------------------------------------------------------------------------------------

FEED: Final = _sure("SELECT idx, parts, change FROM feed WHERE bucket = ? AND idx > ? AND idx <= ?")
FEED_PARTS: Final = _sure("SELECT idx, parts FROM feed WHERE bucket = ? AND idx <= ?")
"""Which changes lie in parts beside the feed."""

PUT_FEED: Final = _write("INSERT INTO feed (bucket, idx, parts, change) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
DROP_FEED: Final = _write("DELETE FROM feed USING TIMESTAMP ? WHERE bucket = ? AND idx <= ?")
CHANGE_PART: Final = _sure("SELECT octets FROM changes WHERE idx = ? AND part = ?")
PUT_CHANGE_PART: Final = _write("INSERT INTO changes (idx, part, octets) VALUES (?, ?, ?) USING TIMESTAMP ?")
DROP_CHANGE_PARTS: Final = _write("DELETE FROM changes USING TIMESTAMP ? WHERE idx = ?")

# --- counts --------------------------------------------------------------------------------------------------------

COUNT_REACHED: Final = _sure("SELECT sequence, kept, partial FROM counts WHERE source = ? AND day = ? LIMIT 1")
COUNT_ROWS: Final = _sure("SELECT prefix, figures FROM counts WHERE source = ? AND day = ? AND prefix > ? LIMIT ?")
COUNT_ROWS_OF: Final = _sure(
    "SELECT prefix, figures, WRITETIME(figures) FROM counts WHERE source = ? AND day = ? AND prefix IN ?"
)
PUT_COUNT: Final = _write("INSERT INTO counts (source, day, prefix, figures) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
PUT_COUNT_REACHED: Final = _write(
    "INSERT INTO counts (source, day, sequence, kept) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
)
PUT_COUNT_MARK: Final = _write("INSERT INTO counts (source, day, partial) VALUES (?, ?, ?) USING TIMESTAMP ?")
DROP_COUNTS: Final = _write("DELETE FROM counts USING TIMESTAMP ? WHERE source = ? AND day = ?")

COUNT_DAYS: Final = _sure("SELECT day FROM count_days WHERE part = 0")
PUT_COUNT_DAY: Final = _write("INSERT INTO count_days (part, day) VALUES (0, ?) USING TIMESTAMP ?")
DROP_COUNT_DAY: Final = _write("DELETE FROM count_days USING TIMESTAMP ? WHERE part = 0 AND day = ?")
COUNT_SOURCES: Final = _sure("SELECT source FROM count_sources WHERE day = ?")
PUT_COUNT_SOURCE: Final = _write("INSERT INTO count_sources (day, source) VALUES (?, ?) USING TIMESTAMP ?")
DROP_COUNT_SOURCES: Final = _write("DELETE FROM count_sources USING TIMESTAMP ? WHERE day = ?")

COUNT_LIVES: Final = _sure("SELECT row FROM count_lives WHERE part = 0")
PUT_COUNT_LIFE: Final = _write("INSERT INTO count_lives (part, source, row) VALUES (0, ?, ?) USING TIMESTAMP ?")
DROP_COUNT_LIFE: Final = _write("DELETE FROM count_lives USING TIMESTAMP ? WHERE part = 0 AND source = ?")

# --- whole tables, for audits ---------------------------------------------------------------------------------------

SCAN_RECORDS: Final = _sure(
    "SELECT key, public_body, full_body, WRITETIME(public_body) FROM records"
    " WHERE token(key) > ? AND token(key) <= ? LIMIT ?"
)
SCAN_TILES: Final = _sure(
    "SELECT name, octets, WRITETIME(octets) FROM tiles WHERE token(name) > ? AND token(name) <= ? LIMIT ?"
)
SCAN_ANSWERS: Final = _sure(
    "SELECT request, idx, WRITETIME(idx) FROM answers WHERE token(request) > ? AND token(request) <= ? LIMIT ?"
)
SCAN_NONCES: Final = _sure("SELECT nonce FROM nonces WHERE token(nonce) > ? AND token(nonce) <= ? LIMIT ?")
SCAN_PREFIXES: Final = _sure("SELECT key, row, WRITETIME(row) FROM prefixes WHERE part = ? AND key > ? LIMIT ?")
SCAN_NODES: Final = _sure("SELECT key, row, WRITETIME(row) FROM nodes WHERE part = ? AND key > ? LIMIT ?")

# --- made once, and signs of life ----------------------------------------------------------------------------------

VERSIONS: Final = _sure("SELECT version FROM schema_versions WHERE part = 0")
NOTE_VERSION: Final = _write("INSERT INTO schema_versions (part, version, name) VALUES (0, ?, ?)")

META: Final = _sure("SELECT octets FROM meta WHERE name = ?")
MAKE_META: Final = Statement("INSERT INTO meta (name, octets) VALUES (?, ?) IF NOT EXISTS", Way.DECIDE)

BEATS: Final = _sure("SELECT epoch, beat, owner, released FROM beats WHERE name = ?")
PUT_BEAT: Final = _write(
    "INSERT INTO beats (name, epoch, beat, owner, released) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
"""The timestamp is the beat's number: a clock that is set back silences nobody."""
DROP_BEAT: Final = _write("DELETE FROM beats WHERE name = ? AND epoch = ?")

ALL: Final = tuple(each for each in list(globals().values()) if isinstance(each, Statement))
"""What a session prepares when it is opened."""
