"""What is written for a commit, statement by statement. That it is right is what the contract suite says."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resolver.routes import Prefix
from resolver.store import Commit, Nonce
from resolver.store.cassandra import applying, statements
from resolver.store.cassandra.carrying import Bundle, Request
from resolver.store.cassandra.layout import CHANGE_BYTES, PART_BYTES
from resolver.store.cassandra.spans import NEW, Span
from tests.small_store import AT, entry
from tests.stores import write

KEPT = 1_000


def proposed(commit: Commit, first: int = 1, epoch: int = 1) -> list[Bundle]:
    return list(applying.journal(commit, applying.redos_of(commit), first, epoch))


def applied(commit: Commit, first: int = 1, span: Span = NEW) -> list[Request]:
    spans: defaultdict[bytes, Span] = defaultdict(lambda: span)
    bundles = applying.changes(applying.redos_of(commit), first, spans, answers_kept=KEPT)
    return [request for bundle in bundles for request in bundle]


def of(statement: statements.Statement, requests: Iterable[Request]) -> list[list[Any]]:
    return [list(values) for each, values in requests if each is statement]


def flat(bundles: Iterable[Bundle]) -> Iterator[Request]:
    return (request for bundle in bundles for request in bundle)


class TestProposing:
    def test_entries_of_one_partition_go_together_and_those_of_two_do_not(self) -> None:
        bundles = proposed(Commit(entries=[entry() for _ in range(6)]), first=998)
        indexes = [[values[1] for each, values in bundle if each is statements.PUT_ENTRY] for bundle in bundles]
        assert [found for found in indexes if found] == [[998, 999], [1_000, 1_001, 1_002, 1_003]]

    def test_what_is_large_lies_in_parts_each_sent_alone(self) -> None:
        large = entry(artefacts=(b"envelope", b"x" * (2 * PART_BYTES + 1)))
        bundles = proposed(Commit(entries=[large]), first=7, epoch=3)
        parts = of(statements.PUT_ARTEFACT, flat(bundles))
        assert [(place, part, len(octets)) for _, _, place, part, octets, _ in parts] == [
            *((0, 0, 8), (1, 0, PART_BYTES), (1, 1, PART_BYTES), (1, 2, 1)),
        ]
        assert all(len(bundle) == 1 for bundle in bundles if bundle[0][0] is statements.PUT_ARTEFACT)

    def test_what_the_entries_change_is_kept_with_them_under_the_first_index(self) -> None:
        commit = Commit(
            entries=[entry([write("88.1/A", secret=b"s")], [Prefix("88.1", "h")]), entry(nonces=(Nonce(b"n", 5),))],
            tiles=[(b"t", b"tile")],
            tree_head=b"head",
        )
        (values,) = of(statements.PUT_REDO, flat(proposed(commit, first=7, epoch=3)))
        assert values[:3] == [7, 3, 0]
        assert applying.redos_from_bytes(values[3]) == applying.redos_of(commit)


class TestApplying:
    def test_everything_has_the_index_of_its_entry_as_its_timestamp(self) -> None:
        """So that it is the same whenever, and however often, it is written."""
        commit = Commit(entries=[entry([write(f"88.1/{each}", deleted=each > 1)]) for each in range(3)])
        assert [values[-1] for values in of(statements.PUT_RECORD_FULL, applied(commit, 5))] == [5, 6, 7]
        assert [values[-1] for values in of(statements.PUT_LISTED, applied(commit, 5))] == [5, 6]
        assert [values[0] for values in of(statements.DROP_LISTED, applied(commit, 5))] == [7]
        assert [values[-1] for values in of(statements.PUT_FEED, applied(commit, 5))] == [5, 6, 7]

    def test_a_record_that_is_new_leaves_no_deletion_behind(self) -> None:
        commit = Commit(entries=[entry([write("88.1/A", is_new=True), write("88.1/B", secret=b"s", is_new=True)])])
        assert [values[0] for values in of(statements.PUT_RECORD, applied(commit))] == [b"88.1/A"]
        assert [values[0] for values in of(statements.PUT_RECORD_FULL, applied(commit))] == [b"88.1/B"]

    def test_a_listing_that_is_being_moved_is_written_to_both_numbers_of_buckets(self) -> None:
        commit = Commit(entries=[entry([write("88/A"), write("88/B", deleted=True)])])
        requests = applied(commit, span=Span(1, 4))
        put = [values[1] for values in of(statements.PUT_LISTED, requests)]
        dropped = [values[2] for values in of(statements.DROP_LISTED, requests)]
        for buckets in (put, dropped):
            assert [bucket == 1 for bucket in buckets] == [True, False]
            assert buckets[1] in {4, 5, 6, 7}

    def test_answers_and_nonces_live_by_the_time_of_their_entry(self) -> None:
        commit = Commit(entries=[entry(nonces=(Nonce(b"n", AT + 300), Nonce(b"old", AT - 300)), at=AT)])
        assert [values[-1] for values in of(statements.PUT_ANSWER, applied(commit))] == [KEPT]
        assert [values[-1] for values in of(statements.PUT_NONCE, applied(commit))] == [301, 1]

    def test_a_change_too_large_for_its_row_lies_in_parts_beside_the_feed(self) -> None:
        rows = [Prefix(f"88.{each}", "h" * 200) for each in range(CHANGE_BYTES // 200)]
        commit = Commit(entries=[entry(prefixes=rows), entry()])
        requests = applied(commit)
        parts = of(statements.PUT_CHANGE_PART, requests)
        assert [values[:2] for values in parts] == [[1, 0]]
        assert [values[1:3] for values in of(statements.PUT_FEED, requests)] == [[1, 1], [2, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100_000)), max_size=300))
def test_bundles_are_of_one_partition_each_hold_everything_once_and_are_not_too_large(
    sized: list[tuple[int, int]],
) -> None:
    requests: list[tuple[object, Request, int]] = [
        (partition, (statements.PUT_NONCE, (partition, number)), size)
        for number, (partition, size) in enumerate(sized)
    ]
    bundles = list(applying.together(requests))
    assert sorted(tuple(values)[1] for bundle in bundles for _, values in bundle) == list(range(len(sized)))
    for bundle in bundles:
        assert len({partition for _, (partition, _) in bundle}) == 1
        assert len(bundle) <= applying.TOGETHER
        octets = sum(sized[number][1] for _, (_, number) in bundle)
        assert len(bundle) == 1 or octets <= applying.TOGETHER_BYTES
