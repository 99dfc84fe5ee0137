"""What every store must do, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver import wire
from resolver.answer import ABSENT, FOUND
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState
from resolver.routes import Protocol as Spoken
from resolver.store import Checkpoint, Commit, Entry, Kept, Nonce, StoreReader, Write
from resolver.trust.actors import Key, Node, NodeState, Tier
from tests.places import NewPlace, Place, Store, cassandra_place, embedded_place
from tests.small_store import AT, entry, put
from tests.stores import listed, record, write, writes

LONG = "88.1/" + "x" * 600

KINDS = ["embedded", pytest.param("cassandra", marks=pytest.mark.needs("cassandra"))]


@pytest.fixture(scope="session", params=KINDS)
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    """Make places for stores of one kind, each with nothing in it."""
    if request.param == "embedded":
        return embedded_place
    return partial(cassandra_place, request.getfixturevalue("keyspaces"))


@pytest.fixture
async def place(new_place: NewPlace) -> AsyncIterator[Place]:
    async with new_place() as made:
        yield made


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()


async def comes_true(look: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it is so: what is waited for happens in a server, and nobody is told."""
    async with asyncio.timeout(30):
        while not await look():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.05)


def node(name: str, *key_ids: str, **more: object) -> Node:
    """Make the row of an enabled secondary node."""
    keys = tuple(Key(key_id, b"spki of " + key_id.encode(), since=AT) for key_id in key_ids)
    made = Node(node=name, tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=keys, organisation="示例")
    return replace(made, **more)


async def text_of(store: StoreReader, key: bytes) -> bytes | None:
    """Give the data of the first value under a key."""
    (body,) = (await store.public([key])).bodies
    return None if body is None else wire.decode_record(body).values[0].data


class TestReading:
    async def test_a_new_store_holds_nothing(self, store: Store) -> None:
        assert (await store.public([b"88.1/A"])).bodies == [None]
        assert (await store.full([b"88.1/A"])).bodies == [None]
        assert await store.prefixes(None, 10) == []
        assert await store.nodes(None, 10) == []
        assert not await store.holds_below(b"88")
        assert await store.head() == 0
        changes = await store.changes(0, 10)
        assert (changes.changes, changes.head, changes.is_lost) == ([], 0, False)

    async def test_bodies_come_in_the_order_asked_with_none_for_what_is_missing_and_repeats_repeated(
        self, store: Store
    ) -> None:
        await put(store, [write("88.1/A", b"a"), write("88.1/B", b"b")])
        keys = [b"88.1/B", b"88.1/NO", b"88.1/A", b"88.1/B"]
        for fetched in (await store.public(keys), await store.full(keys)):
            texts = [body and wire.decode_record(body).identifier.to_text() for body in fetched.bodies]
            assert texts == ["88.1/B", None, "88.1/A", "88.1/B"]

    async def test_nothing_is_asked_and_nothing_given(self, store: Store) -> None:
        index = await put(store, [write("88.1/A")])
        fetched = await store.public([])
        assert (fetched.bodies, fetched.as_of) == ([], index)

    async def test_what_is_confirmed_is_what_was_committed_last(self, store: Store) -> None:
        for data in (b"a", b"b"):
            index = await put(store, [write("88.1/A", data)])
            fetched = await store.public([b"88.1/A", b"88.1/NO"], confirmed=True)
            assert [body and wire.decode_record(body).version for body in fetched.bodies] == [index, None]

    async def test_a_body_ends_with_the_index_of_its_entry_and_a_batch_says_as_of_when(self, store: Store) -> None:
        first = await put(store, [write("88.1/A")])
        second = await put(store, [write("88.1/B", secret=b"s")])
        for fetched in (await store.public([b"88.1/A", b"88.1/B"]), await store.full([b"88.1/A", b"88.1/B"])):
            versions = [wire.decode_record(body).version for body in fetched.bodies if body]
            assert versions == [first, second]
            assert fetched.as_of == second

    async def test_restricted_values_are_never_in_what_everybody_may_read(self, store: Store) -> None:
        await put(store, [write("88.1/A", secret=b"hush"), write("88.1/B")])
        public = await store.public([b"88.1/A", b"88.1/B"])
        assert b"hush" not in b"".join(body or b"" for body in public.bodies)
        full = await store.full([b"88.1/A", b"88.1/B"])
        assert [len(wire.decode_record(body or b"").values) for body in full.bodies] == [2, 1]

    @pytest.mark.parametrize("text", ["88.1/A", LONG])
    @pytest.mark.parametrize("deleted", [False, True])
    async def test_a_replaced_record_keeps_no_restricted_values(
        self, store: Store, text: str, *, deleted: bool
    ) -> None:
        key = text.upper().encode()
        await put(store, [write(text, secret=b"hush")])
        await put(store, [write(text, b"open", deleted=deleted)])
        public, full = await store.public([key]), await store.full([key])
        assert public.bodies == full.bodies
        await put(store, [write(text, b"shut", secret=b"again")])
        (body,) = (await store.full([key])).bodies
        assert wire.decode_record(body or b"") == wire.decode_record(
            wire.record_body(record(text, b"shut", secret=b"again"), public=False) + wire.version_field(3)
        )


class TestCommitting:
    async def test_what_entries_told_is_read_without_what_stands_beside_them(self, store: Store) -> None:
        await store.commit(Commit(entries=[entry([write(f"88.1/{each}")]) for each in "ABC"]))
        whole = await store.entries(0, 10)
        assert await store.told(0, 10) == [replace(each, artefacts=()) for each in whole]
        assert [each.index for each in await store.told(1, 1)] == [2]
        assert await store.told(3, 10) == []

    async def test_entries_get_the_indexes_behind_the_head_in_their_order(self, store: Store) -> None:
        assert await store.commit(Commit(entries=[entry([write("88.1/A")])])) == 1
        three = [entry([write(f"88.1/{each}")], [Prefix(f"88.{each}", "h")], [node(each)]) for each in "BCD"]
        assert await store.commit(Commit(entries=three)) == 4
        assert await store.head() == 4
        fetched = await store.public([b"88.1/B", b"88.1/C", b"88.1/D"])
        assert [wire.decode_record(body or b"").version for body in fetched.bodies] == [2, 3, 4]
        assert fetched.as_of == 4
        assert {row.text: row.epoch for row in await store.prefixes(None, 9)} == {"88.B": 2, "88.C": 3, "88.D": 4}
        assert {row.node: row.epoch for row in await store.nodes(None, 9)} == {"B": 2, "C": 3, "D": 4}

    async def test_an_entry_that_changes_nothing_has_an_index_too(self, store: Store) -> None:
        """A request that was accepted and came to nothing is a fact of the journal."""
        assert [await put(store), await put(store)] == [1, 2]
        assert [change.index for change in (await store.changes(0, 9)).changes] == [1, 2]

    async def test_no_entries_change_nothing(self, store: Store) -> None:
        await store.commit(Commit(entries=[entry()], tree_head=b"head"))
        assert await store.commit(Commit(entries=[], tiles=[(b"t", b"tile")], tree_head=b"another")) == 1
        assert (await store.head(), await store.tree_head(), await store.tile(b"t")) == (1, b"head", None)

    async def test_what_stands_under_a_key_is_replaced(self, store: Store) -> None:
        for data in (b"first", b"second"):
            await put(store, [write("88.1/A", data)])
            assert await text_of(store, b"88.1/A") == data

    @pytest.mark.parametrize("text", ["88.1/A", LONG])
    async def test_a_write_that_is_wrongly_called_new_does_the_same(self, store: Store, text: str) -> None:
        key = text.upper().encode()
        await put(store, [write(text, b"old", secret=b"hush", is_new=True)])
        await put(store, [write(text, b"new", is_new=True)])
        assert await text_of(store, key) == b"new"
        assert (await store.full([key])).bodies == (await store.public([key])).bodies

    @pytest.mark.parametrize("is_new", [False, True])
    async def test_a_key_that_several_entries_write_is_the_last_ones(self, store: Store, *, is_new: bool) -> None:
        entries = [
            entry([write("88.1/A", b"1", secret=b"hush", is_new=is_new)]),
            entry([write("88.1/A", b"2", deleted=True)]),
            entry([write("88.1/A", b"3")]),
        ]
        await store.commit(Commit(entries=entries))
        (body,) = (await store.public([b"88.1/A"])).bodies
        assert wire.decode_record(body or b"").version == 3
        assert (await store.full([b"88.1/A"])).bodies == [body]
        assert [change.keys for change in (await store.changes(0, 9)).changes] == [(b"88.1/A",)] * 3

    async def test_rows_that_several_entries_write_are_the_last_ones(self, store: Store) -> None:
        one = entry(prefixes=[Prefix("88.1", "a")], nodes=[node("n", "1")])
        two = entry(prefixes=[Prefix("88.1", "b")], nodes=[node("n", "2")])
        await store.commit(Commit(entries=[one, two]))
        assert [(row.holder, row.epoch) for row in await store.prefixes(None, 9)] == [("b", 2)]
        assert [(row.keys[0].key_id, row.epoch) for row in await store.nodes(None, 9)] == [("2", 2)]

    async def test_a_tombstone_is_a_body_that_says_absent(self, store: Store) -> None:
        await put(store, [write("88.1/A")])
        await put(store, [write("88.1/A", deleted=True)])
        (body,) = (await store.public([b"88.1/A"])).bodies
        assert body is not None
        assert wire.body_outcome(body) == ABSENT
        assert wire.decode_record(body).tombstone is not None

    async def test_commits_at_once_are_done_one_after_the_other(self, store: Store) -> None:
        indexes = await asyncio.gather(*(put(store, [write(f"88.1/{each}")]) for each in range(20)))
        assert sorted(indexes) == list(range(1, 21))

    @pytest.mark.parametrize("order", ["sorted", "reversed", "mixed"])
    async def test_any_order_gives_the_same_store(self, store: Store, order: str) -> None:
        texts = [f"88.{each % 7}/{each:05}" for each in range(2_000)]
        chosen = {"sorted": sorted(texts), "reversed": sorted(texts, reverse=True), "mixed": texts}[order]
        await put(store, writes(chosen))
        found = await store.public([text.encode() for text in texts])
        assert [wire.decode_record(body or b"").identifier.to_text() for body in found.bodies] == texts

    @pytest.mark.parametrize("is_new", [False, True])
    async def test_many_records_below_between_and_above_what_is_there(self, store: Store, *, is_new: bool) -> None:
        for turn, numbers in enumerate((range(500, 600), range(100, 200), range(150, 550), range(590, 700))):
            part = [
                write(f"88.1/{each:03}", b"%d" % turn, secret=b"s" * (each % 2), is_new=is_new) for each in numbers
            ]
            await put(store, part)
        found, _ = await listed(store, b"88.1")
        assert sorted(found) == [f"88.1/{each:03}" for each in range(100, 700)]
        assert [await text_of(store, b"88.1/%d" % each) for each in (120, 170, 530, 560, 595)] == [
            *(b"1", b"2", b"2", b"0", b"3"),
        ]
        full = (await store.full([b"88.1/%d" % each for each in range(100, 700)])).bodies
        assert [len(wire.decode_record(body or b"").values) for body in full] == [1, 2] * 300

    async def test_many_records_keep_restricted_values_out_of_public_bodies(self, store: Store) -> None:
        part = [write(f"88.1/{each:03}", secret=b"hush" if each % 2 else b"") for each in range(100)]
        await put(store, part)
        keys = [each.key for each in part]
        assert b"hush" not in b"".join(body or b"" for body in (await store.public(keys)).bodies)
        values = [len(wire.decode_record(body or b"").values) for body in (await store.full(keys)).bodies]
        assert values == [1, 2] * 50


class TestLongKeys:
    """Keys up to 2,048 bytes, which not every engine takes as they are."""

    async def test_long_keys_with_the_same_beginning_are_different_keys(self, store: Store) -> None:
        await put(store, [write(LONG + "A", b"a"), write(LONG + "B", b"b", secret=b"s")])
        keys = [(LONG + end).upper().encode() for end in "ABC"]
        assert [await text_of(store, key) for key in keys] == [b"a", b"b", None]
        (body,) = (await store.full([keys[1]])).bodies
        assert len(wire.decode_record(body or b"").values) == 2

    @pytest.mark.parametrize("length", [470, 477, 478, 479, 510, 511, 512, 2_048])
    async def test_every_length_is_found_and_listed_under_its_prefix(self, store: Store, length: int) -> None:
        text = "88.1/" + "y" * (length - 5)
        await put(store, [write(text), write("88.1/A"), write("88.10/A")])
        assert await text_of(store, text.upper().encode()) == b"a part"
        found, _ = await listed(store, b"88.1")
        assert sorted(found) == ["88.1/A", text]

    @pytest.mark.parametrize("place_of_long", [0, 100, 199])
    async def test_they_may_stand_among_many_others(self, store: Store, place_of_long: int) -> None:
        """Where many are written to an empty store at once, in front of them, among them and behind them."""
        texts = [f"88.1/{each:03}" for each in range(200)]
        long_ones = [f"{texts[place_of_long]}{'x' * 600}{end}" for end in "ABC"]
        part = [write(text, secret=b"s" * (number % 2)) for number, text in enumerate(sorted(texts + long_ones))]
        await put(store, part)
        assert None not in (await store.public([each.key for each in part])).bodies
        values = [
            len(wire.decode_record(body or b"").values) for body in (await store.full([w.key for w in part])).bodies
        ]
        assert values == [1 + number % 2 for number in range(203)]
        assert sorted((await listed(store, b"88.1"))[0]) == sorted(texts + long_ones)


class TestListing:
    async def test_exactly_one_prefix_or_also_those_derived_from_it_by_segments(self, store: Store) -> None:
        texts = ["88.1/A", "88.1/B", "88.1.2/A", "88.1.2.3/A", "88.12/A", "88/A", "88.1-x/A", "88.0/A", "88.1.20/A"]
        await put(store, writes(texts))
        assert sorted((await listed(store, b"88.1"))[0]) == ["88.1/A", "88.1/B"]
        derived = ["88.1.2.3/A", "88.1.2/A", "88.1.20/A", "88.1/A", "88.1/B"]
        assert sorted((await listed(store, b"88.1", derived=True))[0]) == derived
        assert (await listed(store, b"88.3", derived=True))[0] == []

    async def test_identifiers_are_listed_as_they_were_registered(self, store: Store) -> None:
        await put(store, [write("88.ab/Part-零"), write("88.ab/part-件")])
        assert sorted((await listed(store, b"88.AB"))[0]) == ["88.ab/Part-零", "88.ab/part-件"]

    async def test_deleted_ones_are_not_listed(self, store: Store) -> None:
        await put(store, [write("88.1/A"), write("88.1/B", deleted=True), write("88.1/C")])
        assert sorted((await listed(store, b"88.1"))[0]) == ["88.1/A", "88.1/C"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    async def test_pages_of_any_size_give_each_once(self, store: Store, limit: int) -> None:
        texts = [f"88.1/{each:03}" for each in range(20)] + [LONG + end for end in "ABC"]
        await put(store, writes(texts))
        found, pages = await listed(store, b"88.1", limit=limit)
        assert sorted(found) == sorted(texts)
        assert pages >= len(texts) // limit

    async def test_what_comes_and_goes_between_pages_moves_nothing_else(self, store: Store) -> None:
        there = [f"88.1/{each:03}" for each in range(0, 40, 2)]
        await put(store, writes(there))
        found: list[str] = []
        after = None
        for turn in range(100):
            page = await store.identifiers(b"88.1", derived=False, after=after, limit=3)
            found += page.identifiers
            after = page.next_after
            if after is None:
                break
            coming, going = write(f"88.1/{(7 * turn) % 40 | 1:03}"), write(f"88.1/{turn:03}X", deleted=True)
            await put(store, [coming, going])
        assert sorted(text for text in found if text in there) == there

    @pytest.mark.parametrize("longer", [100, 476, 477, 478, 479, 480, 510, 511, 512, 1_500])
    async def test_long_prefixes_are_told_apart(self, store: Store, longer: int) -> None:
        prefix = "88." + "p" * (longer - 3)
        mine = [f"{prefix}/A", f"{prefix}/B" + "b" * 100, f"{prefix}/" + "c" * 520]
        derived = [f"{prefix}.1/A", f"{prefix}.1/" + "d" * 500]
        others = [f"{prefix}q/A", f"{prefix}-1/A", f"{prefix[:-1]}o/A", f"{prefix}q/" + "e" * 500]
        await put(store, writes(mine + derived + others))
        key = prefix.upper().encode()
        assert sorted((await listed(store, key, limit=2))[0]) == sorted(mine)
        assert sorted((await listed(store, key, derived=True, limit=2))[0]) == sorted(mine + derived)


class TestHoldingBelow:
    @pytest.mark.parametrize(
        ("held", "prefix", "is_held"),
        [
            ("88.1/A", "88.1", True),
            ("88.1/A", "88", True),
            ("88.1.2/A", "88.1", True),
            ("88.10/A", "88.1", False),
            ("88.1-/A", "88.1", False),
            ("88/A", "88.1", False),
            ("88.1/A", "88.1.2", False),
        ],
    )
    @pytest.mark.parametrize("deleted", [False, True])
    async def test_by_segments_deleted_or_not_at_any_length(
        self, store: Store, held: str, prefix: str, *, is_held: bool, deleted: bool
    ) -> None:
        """Those of each length lie among those of all others."""
        lengths = (0, 471, 472, 473, 474, 505, 506, 507, 600)
        longer = [[text.replace("88", "88" + "P" * each, 1) for text in (held, prefix)] for each in lengths]
        await put(store, [write(text, deleted=deleted) for text, _ in longer])
        assert [await store.holds_below(text.encode()) for _, text in longer] == [is_held] * len(lengths)


class TestPrefixes:
    async def test_rows_come_back_whole_with_the_entry_as_their_epoch(self, store: Store) -> None:
        row = Prefix(
            "88.Ab",
            "88.111",
            state=PrefixState.TO_DELETE,
            case=CaseRule.SENSITIVE,
            hosting=Hosting.DELEGATED,
            expires_at=1_900_000_000,
            endpoints=(Endpoint(Spoken.GRPC, "node.example", 3641, 1, "node.example"),),
            epoch=99,
        )
        await put(store, [write("88.1/A")])
        index = await put(store, prefixes=[row])
        assert await store.prefixes(None, 10) == [replace(row, epoch=index)]

    async def test_they_are_paged_each_once(self, store: Store) -> None:
        texts = [f"88.{each}" for each in range(25)] + ["88." + "l" * 600 + end for end in "ab"]
        await put(store, prefixes=[Prefix(text, "h") for text in texts])
        for limit in (1, 4, 27, 100):
            found: list[Prefix] = []
            while rows := await store.prefixes(found[-1].key if found else None, limit):
                assert len(rows) == min(limit, len(texts) - len(found))
                found += rows
            assert sorted(row.text for row in found) == sorted(texts)

    async def test_a_row_is_changed_under_any_spelling_of_its_prefix(self, store: Store) -> None:
        await put(store, prefixes=[Prefix("88.ab", "one")])
        await put(store, prefixes=[Prefix("88.AB", "two")])
        (row,) = await store.prefixes(None, 10)
        assert (row.text, row.holder, row.epoch) == ("88.AB", "two", 2)

    async def test_identifiers_that_differ_by_case_are_two_under_a_sensitive_rule(self, store: Store) -> None:
        texts = ["88.1/abc", "88.1/ABC"]
        await put(store, [write(text, rule=CaseRule.SENSITIVE) for text in texts])
        assert sorted((await listed(store, b"88.1"))[0]) == sorted(texts)


class TestNodes:
    async def test_rows_come_back_whole_with_the_entry_as_their_epoch(self, store: Store) -> None:
        row = node("88.111", "one", "two", industry="C3660", applied_at=7, changed_at=8, reason="why", epoch=99)
        await put(store, [write("88.1/A")])
        row = replace(
            row, agreement=True, takeover=True, takeover_automatic=True, takeover_since=9, takeover_reason="x"
        )
        index = await put(store, nodes=[row])
        assert await store.nodes(None, 10) == [replace(row, epoch=index)]

    async def test_they_are_paged_each_once(self, store: Store) -> None:
        names = [f"88.{each}" for each in range(25)] + ["节点", "n" * 128, "N", "n"]
        await put(store, nodes=[node(name) for name in names])
        for limit in (1, 4, 29, 100):
            found: list[Node] = []
            while rows := await store.nodes(found[-1].node if found else None, limit):
                assert len(rows) == min(limit, len(names) - len(found))
                found += rows
            assert sorted(row.node for row in found) == sorted(names)

    async def test_a_row_is_changed_by_its_identifier(self, store: Store) -> None:
        await put(store, nodes=[node("88.1"), node("88.2")])
        await put(store, nodes=[node("88.1", state=NodeState.SUSPENDED)])
        rows = await store.nodes(None, 10)
        assert sorted((row.node, row.state, row.epoch) for row in rows) == [
            ("88.1", NodeState.SUSPENDED, 2),
            ("88.2", NodeState.ENABLED, 1),
        ]


class TestFeed:
    async def test_each_entry_is_one_change_that_names_all_it_changed(self, store: Store) -> None:
        entries = [
            entry([write("88.1/A")], [Prefix("88.1", "h")], [node("88.1")]),
            entry([write("88.1/B"), write("88.1/A")]),
            entry([write("88.1/A", deleted=True)]),
        ]
        await store.commit(Commit(entries=entries))
        changes = await store.changes(0, 10)
        assert [change.index for change in changes.changes] == [1, 2, 3]
        assert [set(change.keys) for change in changes.changes] == [{b"88.1/A"}, {b"88.1/A", b"88.1/B"}, {b"88.1/A"}]
        assert [[row.text for row in change.prefixes] for change in changes.changes] == [["88.1"], [], []]
        assert changes.changes[0].prefixes[0].epoch == 1
        assert [change.nodes for change in changes.changes] == [(node("88.1", epoch=1),), (), ()]
        assert (changes.head, changes.is_lost) == (3, False)

    async def test_it_is_read_on_from_any_index_without_a_gap(self, store: Store) -> None:
        await store.commit(Commit(entries=[entry([write(f"88.1/{each}")]) for each in range(10)]))
        seen: list[int] = []
        while changes := (await store.changes(seen[-1] if seen else 0, 3)).changes:
            seen += [change.index for change in changes]
        assert seen == list(range(1, 11))
        assert not (await store.changes(10, 3)).is_lost

    async def test_large_changes_are_all_given_as_it_is_read_on(self, store: Store) -> None:
        rows = [Prefix(f"88.{each}", "h") for each in range(2_000)]
        await store.commit(Commit(entries=[entry(prefixes=rows) for _ in range(30)]))
        seen: list[int] = []
        while changes := (await store.changes(seen[-1] if seen else 0, 10)).changes:
            assert all(len(change.prefixes) == 2_000 for change in changes)
            seen += [change.index for change in changes]
        assert seen == list(range(1, 31))

    @pytest.mark.parametrize("at_once", [1, 2, 5, 10])
    async def test_a_reader_behind_what_is_kept_is_told(self, place: Place, at_once: int) -> None:
        store = await place.open(changes_kept=3)
        for _ in range(10 // at_once):
            await store.commit(Commit(entries=[entry() for _ in range(at_once)]))
        lost = await store.changes(6, 10)
        assert (lost.is_lost, lost.changes, lost.head) == (True, [], 10)
        kept = await store.changes(7, 10)
        assert (kept.is_lost, [change.index for change in kept.changes]) == (False, [8, 9, 10])

    async def test_a_reader_ahead_of_the_store_is_told(self, store: Store) -> None:
        await put(store, [write("88.1/A")])
        assert (await store.changes(2, 10)).is_lost

    @pytest.mark.parametrize("order", [1, -1])
    async def test_very_many_keys_are_named_by_their_prefixes(self, store: Store, order: int) -> None:
        prefixes = ["88", "88.1", "88.1.2", "88.1-", "88.10", "88.2"]
        await put(store, writes([f"{prefix}/{each}" for prefix in prefixes for each in range(1_000)][::order]))
        (change,) = (await store.changes(0, 10)).changes
        assert (change.keys, set(change.below)) == ((), {prefix.encode() for prefix in prefixes})

    async def test_rows_are_named_where_keys_are_too_many(self, store: Store) -> None:
        many = [write(f"88.1/{each}") for each in range(6_000)]
        await put(store, many, [Prefix("88.9", "h")], [node("88.9")])
        (change,) = (await store.changes(0, 10)).changes
        assert (change.prefixes, change.nodes) == ((Prefix("88.9", "h", epoch=1),), (node("88.9", epoch=1),))
        assert change.below == (b"88.1",)

    async def test_an_entry_may_name_prefixes_below_which_more_has_changed(self, store: Store) -> None:
        many = [write(f"88.3/{number:05}") for number in range(6_000)]
        await put(store, [write("88.1/A")], below=(b"88.2", b"88.1.7"))
        await put(store, many, below=(b"88.2",))
        few, lots = (await store.changes(0, 10)).changes
        assert (few.keys, few.below) == ((b"88.1/A",), (b"88.1.7", b"88.2"))
        assert (lots.keys, lots.below) == ((), (b"88.2", b"88.3"))


class TestJournal:
    async def test_entries_come_back_as_they_were_committed(self, store: Store) -> None:
        entries = [
            entry(statement=b"one", artefacts=(b"envelope",), result=b"told"),
            entry(statement=b"two", artefacts=(b"envelope", b"c" * 1_000_000), result=b""),
            entry(statement=b"three", artefacts=(), result=b"told"),
            entry(statement=b"", artefacts=(b"",), result=b""),
        ]
        await store.commit(Commit(entries=entries[:3]))
        await store.commit(Commit(entries=entries[3:]))
        kept = [Kept(index + 1, each.statement, each.artefacts, each.result) for index, each in enumerate(entries)]
        assert await store.entries(0, 10) == kept
        assert await store.entries(1, 2) == kept[1:3]
        assert await store.entries(4, 10) == []
        assert await store.statements(0, 10) == [each.statement for each in entries]
        assert await store.statements(2, 1) == [b"three"]
        assert await store.statements(4, 10) == []

    async def test_a_new_one_is_empty(self, store: Store) -> None:
        assert (await store.entries(0, 9), await store.statements(0, 9)) == ([], [])
        assert (await store.tree_head(), await store.tile(b"t")) == (b"", None)
        assert await store.answered([b"r"]) == [0]
        assert await store.spent([Nonce(b"n", AT)]) == [False]

    async def test_nothing_is_told_of_nothing(self, store: Store) -> None:
        assert (await store.answered([]), await store.spent([])) == ([], [])

    async def test_no_change_is_forgotten_here(self, place: Place) -> None:
        """What the feed forgets stays in the journal."""
        store = await place.open(changes_kept=2, answers_kept=1)
        for turn in range(30):
            await put(store, statement=b"%d" % turn, at=AT + 10 * turn)
        assert await store.statements(0, 99) == [b"%d" % turn for turn in range(30)]

    async def test_the_tree_is_what_was_committed_last(self, store: Store) -> None:
        await store.commit(Commit(entries=[entry()], tiles=[(b"0/0", b"a"), (b"0/1", b"b")], tree_head=b"first"))
        assert await store.tree_head() == b"first"
        await store.commit(Commit(entries=[entry()], tiles=[(b"1/0", b"c")], tree_head=b"second"))
        assert await store.tree_head() == b"second"
        assert [await store.tile(name) for name in (b"0/0", b"0/1", b"1/0", b"1/1")] == [b"a", b"b", b"c", None]

    async def test_a_request_is_answered_by_its_entry(self, store: Store) -> None:
        await store.commit(Commit(entries=[entry(request=b"a"), entry(request=b"b" * 500)]))
        await put(store, request=b"c")
        assert await store.answered((b"c", b"a", b"b", b"b" * 500, b"a")) == [3, 1, 0, 2, 1]

    async def test_answers_are_kept_as_long_as_they_have_to_be(self, place: Place) -> None:
        store = await place.open(answers_kept=100)
        await put(store, request=b"a", at=AT)
        await put(store, request=b"b", at=AT + 100)
        assert await store.answered([b"a", b"b"]) == [1, 2]

    async def test_answers_are_forgotten_some_time_after_that(self, place: Place) -> None:
        """By the time of later entries or by a clock, as the store has it."""
        store = await place.open(answers_kept=1)
        await put(store, request=b"a", at=AT)

        async def is_forgotten() -> bool:
            await put(store, at=AT + 100)
            return await store.answered([b"a"]) == [0]

        await comes_true(is_forgotten)

    async def test_a_request_that_came_again_later_is_remembered_from_then(self, place: Place) -> None:
        store = await place.open(answers_kept=100)
        await put(store, request=b"a", at=AT)
        await put(store, request=b"a", at=AT + 100)
        await put(store, at=AT + 150)
        assert await store.answered([b"a"]) == [2]

    async def test_nonces_are_spent_and_told_apart_by_all_that_they_are(self, store: Store) -> None:
        spent = [Nonce(b"n" * 500, AT + 300), Nonce(b"n", AT + 300), Nonce(b"m", AT + 299)]
        await put(store, nonces=(spent[0],))
        await store.commit(Commit(entries=[entry(nonces=(spent[1], spent[2]))]))
        others = [Nonce(b"n", AT + 301), Nonce(b"m", AT + 300), Nonce(b"n" * 499, AT + 300)]
        assert await store.spent(spent + others) == [True] * 3 + [False] * 3

    async def test_nonces_are_forgotten_some_time_after_they_have_to_be_remembered(self, store: Store) -> None:
        nonces = [Nonce(b"%d" % until, AT + until) for until in (0, 111, 112)]
        await put(store, nonces=tuple(nonces[::-1]), at=AT)

        async def is_forgotten() -> bool:
            await put(store, at=AT + 100)
            return await store.spent(nonces) == [False, True, True]

        await comes_true(is_forgotten)

    async def test_a_clock_that_was_set_back_forgets_nothing(self, place: Place) -> None:
        store = await place.open(answers_kept=100)
        await put(store, request=b"a", nonces=(Nonce(b"n", AT + 300),), at=AT)
        await put(store, request=b"b", at=AT - 1_000_000)
        await put(store, request=b"c", at=AT + 50)
        assert await store.answered((b"a", b"b", b"c")) == [1, 2, 3]
        assert await store.spent([Nonce(b"n", AT + 300)]) == [True]

    async def test_how_far_imports_have_come_is_kept_until_it_is_forgotten(self, place: Place) -> None:
        store = await place.open()
        assert await store.checkpoint("one") == Checkpoint()
        reached = Checkpoint(offset=10, lines=2, registered=1, replaced=0, unchanged=1, rejected=0, chunks=3)
        long_name, odd_name = "x" * 3_000, "not\udcffutf8"
        await put(store, [write("88.1/A")], checkpoints=(("one", reached),))
        await put(store, checkpoints=((long_name, Checkpoint(lines=7)), (odd_name, Checkpoint(lines=8))))
        store = await place.open()
        assert await store.checkpoint("one") == reached
        assert await store.checkpoint(long_name) == Checkpoint(lines=7)
        assert await store.checkpoint(odd_name) == Checkpoint(lines=8)
        await put(store, checkpoints=(("one", None), ("never there", None)))
        assert await store.checkpoint("one") == Checkpoint()
        assert await store.checkpoint(long_name) == Checkpoint(lines=7)


class TestStaying:
    async def test_everything_is_there_when_it_is_opened_again(self, place: Place) -> None:
        store = await place.open()
        secret = await store.secret()
        made = entry(
            [write("88.1/A", secret=b"s")],
            [Prefix("88.1", "h")],
            [node("88.1")],
            request=b"r",
            nonces=(Nonce(b"n", AT + 300),),
        )
        await store.commit(Commit(entries=[made], tiles=[(b"t", b"tile")], tree_head=b"head"))
        before = await everything(store)
        store = await place.open()
        assert await everything(store) == before
        assert await store.secret() == secret
        assert len(secret) == 32
        assert await put(store, [write("88.1/B")]) == 2

    async def test_each_store_has_a_secret_of_its_own(self, new_place: NewPlace) -> None:
        async with AsyncExitStack() as places:
            one, other = [await places.enter_async_context(new_place()) for _ in range(2)]
            secrets = [await (await place.open()).secret() for place in (one, other)]
        assert secrets[0] != secrets[1]

    async def test_a_closed_store_says_so(self, place: Place) -> None:
        store = await place.open()
        await place.close()
        calls: list[Callable[[], object]] = [
            *(store.head, store.tree_head, store.secret),
            *(lambda: store.public([b"88.1/A"]), lambda: store.full([b"88.1/A"]), lambda: store.holds_below(b"88")),
            *(lambda: store.prefixes(None, 1), lambda: store.nodes(None, 1), lambda: store.changes(0, 1)),
            *(lambda: store.entries(0, 1), lambda: store.statements(0, 1), lambda: store.tile(b"t")),
            *(lambda: store.answered([b"r"]), lambda: store.spent([Nonce(b"n", 1)]), lambda: store.checkpoint("n")),
            *(lambda: put(store), lambda: store.commit(Commit(entries=[]))),
        ]
        for call in calls:
            with pytest.raises(Fault) as caught:
                await call()  # type: ignore[misc] # each of them gives something to wait for
            assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def everything(store: Store) -> list[object]:
    """Read one entry's traces in all places where there are any."""
    return [
        await store.full([b"88.1/A"]),
        await store.public([b"88.1/A"]),
        await store.prefixes(None, 9),
        await store.nodes(None, 9),
        await store.changes(0, 9),
        await store.entries(0, 9),
        await store.tile(b"t"),
        await store.tree_head(),
        await store.answered([b"r"]),
        await store.spent([Nonce(b"n", AT)]),
    ]


class Model:
    """What a store holds, in the simplest words: the measure for any sequence of commits."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.records: dict[bytes, tuple[Write, int]] = {}
        self.keys: list[set[bytes]] = []

    def apply(self, entries: Sequence[Entry]) -> None:
        for each in entries:
            self.head += 1
            self.keys.append({one.key for one in each.writes})
            self.records |= {one.key: (one, self.head) for one in each.writes}


suffixes = st.sampled_from(["A", "b", "C/d", "x" * 480, "x" * 520, "x" * 520 + "y", "零部件"])
# What stands behind the root of a prefix, which is another one for each example.
planned_writes = st.fixed_dictionaries(
    {
        "text": st.builds("{}/{}".format, st.sampled_from([".1", ".1.2", ".12", ""]), suffixes),
        "data": st.binary(max_size=9),
        "secret": st.sampled_from([b"", b"s"]),
        "deleted": st.booleans(),
        "is_new": st.booleans(),
    }
)
# Many neighbours too: then a store may go another way.
planned_runs = st.builds(
    lambda prefix, first, count: [{"text": f"{prefix}/{each:05}"} for each in range(first, first + count)],
    st.sampled_from([".1", ".9"]),
    st.integers(0, 500),
    st.integers(64, 100),
)
planned_some = st.lists(planned_writes, max_size=12, unique_by=lambda each: str(each["text"]).upper())
planned_entries = planned_some | planned_runs
roots = map("88{:06}".format, count())


@given(commits=st.lists(st.lists(planned_entries, max_size=4), max_size=5))
@settings(
    max_examples=40,
    deadline=None,
    # All examples go on in one store, each below a root of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_sequence_of_commits_gives_what_a_model_gives(
    store: Store, commits: list[list[list[dict[str, Any]]]]
) -> None:
    root, model, before = next(roots), Model(await store.head()), await store.head()
    for planned in commits:
        entries = [entry([write(**each | {"text": root + each["text"]}) for each in one]) for one in planned]
        model.apply(entries)
        assert await store.commit(Commit(entries=entries)) == model.head == await store.head()
    keys = list(model.records)
    public, full = await store.public(keys), await store.full(keys)
    for key, body, whole in zip(keys, public.bodies, full.bodies, strict=True):
        held, index = model.records[key]
        assert body == held.public + wire.version_field(index)
        assert whole == (held.full or held.public) + wire.version_field(index)
    for prefix in (root.encode(), root.encode() + b".1", root.encode() + b".1.2"):
        below = {
            key: each for key, (each, _) in model.records.items() if key.startswith((prefix + b"/", prefix + b"."))
        }
        there = [wire.registered_spelling(each.public) for each in below.values() if each.public[1] == FOUND]
        assert sorted((await listed(store, prefix, derived=True, limit=11))[0]) == sorted(there)
        assert await store.holds_below(prefix) is bool(below)
    changes = (await store.changes(before, 100)).changes
    assert [set(change.keys) for change in changes] == model.keys
    assert all(after.index == before.index + 1 for before, after in pairwise(changes))
