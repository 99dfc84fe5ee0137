"""Strategies that make nouns of every kind: what the property tests of several modules draw from."""

from hypothesis import strategies as st

from resolver.bounds import INDEX_MAX, SECONDS_MAX
from resolver.handle import Handle
from resolver.record import Absolute, Record, Reference, Relative, Tombstone, Value

seconds = st.integers(0, SECONDS_MAX)
"""A time or a time to live."""

printable = st.characters(exclude_categories=["C", "Z"])
words = st.text(printable, max_size=40)
"""Printable text, empty text too."""

segments = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="./"), min_size=1, max_size=8)
prefixes = st.lists(segments, min_size=1, max_size=5).map(".".join)
suffixes = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
handles = st.builds(Handle, prefixes, suffixes)

lifetimes = st.one_of(st.builds(Relative, seconds), st.builds(Absolute, seconds))
references = st.builds(Reference, handles.map(Handle.to_text), st.integers(0, INDEX_MAX))
types = st.text(printable, min_size=1, max_size=32).filter(lambda text: not text.endswith("."))


def values(index: int) -> st.SearchStrategy[Value]:
    """Make values with this index, public and restricted ones."""
    return st.builds(
        Value,
        index=st.just(index),
        type=types,
        data=st.binary(max_size=300),
        lifetime=lifetimes,
        timestamp=seconds,
        permissions=st.integers(0, 15),
        references=st.lists(references, max_size=3).map(tuple),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Make records with values in order, or a tombstone."""
    tombstone = draw(st.none() | st.builds(Tombstone, reason=words, deleted_at=seconds))
    indexes = [] if tombstone else sorted(draw(st.sets(st.integers(1, INDEX_MAX), max_size=5)))
    return Record(
        identifier=draw(handles),
        values=tuple(draw(values(index)) for index in indexes),
        version=draw(st.integers(0, 2**63 - 1)),
        registrant=draw(words),
        registered_at=draw(seconds),
        updated_at=draw(seconds),
        tombstone=tombstone,
    )
