"""The bounds that every node of this project keeps. GetNodeInfo tells them to callers."""

from typing import Final

IDENTIFIER_BYTES: Final = 2_048
"""An identifier in UTF-8 (the reference Handle server's bound)."""

VALUE_DATA_BYTES: Final = 64 * 1024
"""The data of one value."""

VALUE_TYPE_BYTES: Final = 128
"""The type of one value, in UTF-8."""

RECORD_BYTES: Final = 256 * 1024
"""A record as it is encoded."""

RECORD_VALUES: Final = 2_048
"""Values in a record."""

VALUE_REFERENCES: Final = 64
"""References in a value; practically always none."""

BATCH_IDENTIFIERS: Final = 1_000
"""Identifiers in one batch."""

ANSWER_BYTES: Final = 3_670_016
"""An answer (3.5 MiB): half a mebibyte below the 4 MiB at which gRPC clients refuse by default."""

LIST_PAGE: Final = 1_000
"""Identifiers on one page of a listing."""

REQUEST_BYTES: Final = 4 * 1024 * 1024
"""A request of any service as it arrives."""

LOOKUP_BYTES: Final = 64 * 1024
"""The same of one for an identifier, for a page or for the node: many times what the longest identifier takes."""

BATCH_BYTES: Final = BATCH_IDENTIFIERS * (IDENTIFIER_BYTES + 3) + LOOKUP_BYTES
"""The same of a batch: as many of the longest identifiers as it may have, and what is said beside them."""

INDEX_MAX: Final = 2**31 - 1
"""A value's index: a positive int4 (RFC 3651 section 3)."""

SECONDS_MAX: Final = 2**32 - 1
"""A relative time to live and a time stamp: unsigned four bytes on the Handle wire."""

FILTER_TERMS: Final = 64
"""Types, and indexes, by which one request may filter."""

HOPS_MAX: Final = 8
"""Nodes that a recursive question may go through."""

ENVELOPE_BYTES: Final = 4 * 1024 * 1024
"""A signed request as it arrives."""

ENVELOPE_ROWS: Final = 1_000
"""Rows in one signed request."""

CHUNK_BYTES: Final = 64 * 1024 * 1024
"""A chunk of an import, compressed and not."""

CHUNK_ROWS: Final = 65_536
"""Rows in a chunk: its statement, with a bit for each, stays below 65,535 bytes (C2SP tlog-tiles)."""

STATEMENT_BYTES: Final = 65_535
"""A statement of the journal, the bound of an entry in C2SP tlog-tiles."""

ANSWERS_KEPT: Final = 90 * 86_400
"""Seconds for which the same signed request gets its first answer again."""
