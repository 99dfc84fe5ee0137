"""How things lie in Cassandra: numbers that never change, and encodings there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import wire
from resolver.routes import Prefix
from resolver.store import Checkpoint, Entry, Nonce, Write
from resolver.store.cassandra.layout import (
    BUCKET_KEYS,
    HASH_MAX,
    PART_BYTES,
    PARTS,
    Redo,
    bucket_of,
    buckets_for,
    entry_bucket,
    epoch_of,
    has_version_of,
    hash_of,
    import_row,
    joined,
    last_hash,
    nonce_row,
    part_of,
    parts_in,
    split,
    version_field,
)
from resolver.trust.actors import Node, NodeState, Tier

hashes = st.integers(-HASH_MAX - 1, HASH_MAX)
counts = st.integers(0, 20).map(lambda power: 1 << power)


@pytest.mark.parametrize(
    ("key", "token"),
    [(b"88.1/A", -6620250402276446035), (b"88", 7642372023136290025), ("88.1/零件".encode(), -7654669307140038851)],
)
def test_a_hash_is_the_token_that_cassandra_gives_the_key(key: bytes, token: int) -> None:
    """Rows of a load that goes around the servers are placed by Cassandra's own code."""
    assert hash_of(key) == token
    assert part_of(key) == token % PARTS


@given(hashed=hashes, buckets=counts)
def test_buckets_of_a_count_have_its_numbers_and_follow_on_each_other_as_hashes_do(hashed: int, buckets: int) -> None:
    number = bucket_of(hashed, buckets)
    assert buckets <= number < 2 * buckets
    assert bucket_of(hashed, 2 * buckets) // 2 == number
    end = last_hash(number, buckets)
    assert hashed <= end
    assert bucket_of(end, buckets) == number
    assert end == HASH_MAX or bucket_of(end + 1, buckets) == number + 1


@pytest.mark.parametrize(
    ("keys", "buckets"),
    [(0, 1), (BUCKET_KEYS, 1), (BUCKET_KEYS + 1, 2), (5 * BUCKET_KEYS, 8), (10**12, 1 << 20)],
)
def test_there_are_as_many_buckets_as_keys_need(keys: int, buckets: int) -> None:
    assert buckets_for(keys) == buckets


def test_entries_lie_a_thousand_to_a_partition() -> None:
    assert [entry_bucket(index) for index in (1, 999, 1_000, 1_999, 2_000)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("index", "epoch"), [(1, 1), (10, 1), (11, 4), (12, 4), (20, 4), (21, 5), (10**9, 5)])
def test_an_entry_is_of_the_last_epoch_that_began_below_it(index: int, epoch: int) -> None:
    """Epochs 2 and 3 began at 10 and committed nothing, so that 4 began there too."""
    starts = sorted([(0, 1), (10, 2), (10, 3), (10, 4), (20, 5)])
    assert epoch_of(index, starts) == epoch


@given(
    sizes=st.lists(st.sampled_from([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES]), max_size=4)
)
def test_octets_are_the_same_when_their_parts_are_put_together(sizes: list[int]) -> None:
    wholes = [bytes([number]) * size for number, size in enumerate(sizes)]
    parts = [split(whole) for whole in wholes]
    assert [len(each) for each in parts] == [parts_in(size) for size in sizes]
    flat = [part for each in parts for part in each]
    assert all(len(part) <= PART_BYTES for part in flat)
    assert joined(flat, sizes) == wholes


@pytest.mark.parametrize("parts", [[], [b"ab"], [b"ab", b"cd"]])
def test_octets_that_are_too_few_or_too_many_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(ValueError, match="instead of 3"):
        joined(parts, [1, 2])


@given(version=st.integers(1, 2**63 - 1), text=st.binary(max_size=20))
def test_the_version_at_the_end_of_a_body_is_found(version: int, text: bytes) -> None:
    field = wire.version_field(version)
    assert version_field(text + field) == field


@given(one=st.integers(1, 2**40), other=st.integers(1, 2**40), text=st.binary(max_size=20))
def test_a_full_body_belongs_to_the_public_one_of_its_version(one: int, other: int, text: bytes) -> None:
    full, public = text + wire.version_field(one), b"public" + wire.version_field(other)
    assert has_version_of(full, public) is (one == other)
    assert not has_version_of(None, public)


def test_a_redo_says_everything_that_an_entry_changes() -> None:
    node = Node(
        node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=(), takeover=True, takeover_reason="down"
    )
    entry = Entry(
        statement=b"s",
        artefacts=(b"a",),
        result=b"r",
        request=b"request",
        at=7,
        nonces=(Nonce(b"n", 9),),
        writes=[Write(b"k", b"public", b"full"), Write(b"l", b"public", is_new=True)],
        prefixes=[Prefix("88.1", "h")],
        nodes=[node],
        checkpoints=(("not\udcffutf8", Checkpoint(lines=3)), ("gone", None)),
    )
    redo = Redo.from_bytes(Redo.of(entry, tiles=[(b"t", b"tile")], tree_head=b"head").to_bytes())
    assert (redo.at, redo.request, redo.prefixes, redo.nodes) == (7, b"request", (Prefix("88.1", "h"),), (node,))
    assert redo.all_writes() == list(entry.writes)
    assert redo.all_nonces() == list(entry.nonces)
    assert redo.checkpoints == ((b"not\xffutf8", Checkpoint(lines=3)), (b"gone", None))
    assert (redo.tiles, redo.tree_head) == (((b"t", b"tile"),), b"head")


def test_rows_of_nonces_and_imports_tell_them_apart() -> None:
    assert nonce_row(Nonce(b"n", 1)) != nonce_row(Nonce(b"n", 2)) != nonce_row(Nonce(b"m", 2))
    assert import_row("odd\udcff") == b"odd\xff"
