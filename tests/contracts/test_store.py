"""What every store must do, whatever it is made of."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver import wire
from resolver.answer import ABSENT, FOUND
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState
from resolver.routes import Protocol as Spoken
from resolver.store import Checkpoint, StoreReader, StoreWriter, Write, Written
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.writing import Retention
from tests.stores import listed, record, write, writes

LONG = "88.1/" + "x" * 600


class Store(StoreReader, StoreWriter, Protocol):
    """A store, read and written."""


class Place:
    """Where one store is; it can be opened, closed, and opened again."""

    def __init__(self, kind: str, folder: Path) -> None:
        assert kind == "embedded"
        self._folder = folder
        self._opened: EmbeddedWriter | None = None

    def open(self, *, changes_kept: int = 1_000) -> Store:
        self.close()
        self._opened = EmbeddedWriter.open(
            self._folder,
            owner=Owner.here("contract suite", clock=SystemClock()),
            retention=Retention(changes=changes_kept),
        )
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


KINDS = ["embedded"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(request.param, tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


async def text_of(store: StoreReader, key: bytes) -> bytes | None:
    """Give the data of the first value under a key."""
    (body,) = (await store.public([key])).bodies
    return None if body is None else wire.decode_record(body).values[0].data


class TestReading:
    async def test_a_new_store_holds_nothing(self, store: Store) -> None:
        assert (await store.public([b"88.1/A"])).bodies == [None]
        assert (await store.full([b"88.1/A"])).bodies == [None]
        assert await store.prefixes(None, 10) == []
        assert await store.head() == 0
        changes = await store.changes(0, 10)
        assert (changes.changes, changes.head, changes.is_lost) == ([], 0, False)

    async def test_bodies_come_in_the_order_asked_with_none_for_what_is_missing_and_repeats_repeated(
        self, store: Store
    ) -> None:
        await store.commit([write("88.1/A", b"a"), write("88.1/B", b"b")])
        keys = [b"88.1/B", b"88.1/NO", b"88.1/A", b"88.1/B"]
        for fetched in (await store.public(keys), await store.full(keys)):
            texts = [body and wire.decode_record(body).identifier.to_text() for body in fetched.bodies]
            assert texts == ["88.1/B", None, "88.1/A", "88.1/B"]

    async def test_nothing_is_asked_and_nothing_given(self, store: Store) -> None:
        committed = await store.commit([write("88.1/A")])
        fetched = await store.public([])
        assert (fetched.bodies, fetched.as_of) == ([], committed.index)

    async def test_a_body_ends_with_the_index_of_its_commit_and_a_batch_says_as_of_when(self, store: Store) -> None:
        first = await store.commit([write("88.1/A")])
        second = await store.commit([write("88.1/B", secret=b"s")])
        for fetched in (await store.public([b"88.1/A", b"88.1/B"]), await store.full([b"88.1/A", b"88.1/B"])):
            versions = [wire.decode_record(body).version for body in fetched.bodies if body]
            assert versions == [first.index, second.index]
            assert fetched.as_of == second.index

    async def test_restricted_values_are_never_in_what_everybody_may_read(self, store: Store) -> None:
        await store.commit([write("88.1/A", secret=b"hush"), write("88.1/B")])
        public = await store.public([b"88.1/A", b"88.1/B"])
        assert b"hush" not in b"".join(body or b"" for body in public.bodies)
        full = await store.full([b"88.1/A", b"88.1/B"])
        assert [len(wire.decode_record(body or b"").values) for body in full.bodies] == [2, 1]

    async def test_a_replaced_record_keeps_no_restricted_values(self, store: Store) -> None:
        await store.commit([write("88.1/A", secret=b"hush")])
        await store.commit([write("88.1/A", b"open", overwrite=True)])
        public, full = await store.public([b"88.1/A"]), await store.full([b"88.1/A"])
        assert public.bodies == full.bodies
        await store.commit([write("88.1/A", b"shut", secret=b"again", overwrite=True)])
        (body,) = (await store.full([b"88.1/A"])).bodies
        assert wire.decode_record(body or b"") == wire.decode_record(
            wire.record_body(record("88.1/A", b"shut", secret=b"again"), public=False) + wire.version_field(3)
        )


class TestCommitting:
    async def test_what_became_of_each_write_is_told_in_order(self, store: Store) -> None:
        await store.commit([write("88.1/A"), write("88.1/GONE", deleted=True)])
        committed = await store.commit(
            [
                write("88.1/A", b"other"),
                write("88.1/NEW"),
                write("88.1/GONE"),
                write("88.1/A", b"newer", overwrite=True),
                write("88.1/GONE", b"back", overwrite=True),
            ]
        )
        assert committed.written == [
            Written.EXISTS,
            Written.REGISTERED,
            Written.DELETED,
            Written.REPLACED,
            Written.REPLACED,
        ]
        assert await text_of(store, b"88.1/A") == b"newer"
        assert await text_of(store, b"88.1/GONE") == b"back"

    async def test_what_exists_is_kept_unless_overwriting_is_asked_for(self, store: Store) -> None:
        await store.commit([write("88.1/A", b"first")])
        await store.commit([write("88.1/A", b"second")])
        assert await text_of(store, b"88.1/A") == b"first"

    async def test_a_key_that_stands_twice_is_written_twice(self, store: Store) -> None:
        committed = await store.commit(
            [write("88.1/A", b"1"), write("88.1/A", b"2"), write("88.1/A", b"3", overwrite=True)]
        )
        assert committed.written == [Written.REGISTERED, Written.EXISTS, Written.REPLACED]
        assert await text_of(store, b"88.1/A") == b"3"
        assert (await store.changes(0, 10)).changes[0].keys == (b"88.1/A",)

    async def test_a_tombstone_is_a_body_that_says_absent(self, store: Store) -> None:
        await store.commit([write("88.1/A")])
        await store.commit([write("88.1/A", deleted=True, overwrite=True)])
        (body,) = (await store.public([b"88.1/A"])).bodies
        assert body is not None
        assert wire.body_outcome(body) == ABSENT
        assert wire.decode_record(body).tombstone is not None

    async def test_indexes_go_up_by_one_and_what_changes_nothing_has_none(self, store: Store) -> None:
        first = await store.commit([write("88.1/A")])
        assert (await store.commit([write("88.1/A")])).index == first.index
        assert (await store.commit()).index == first.index
        assert (await store.commit([write("88.1/B")])).index == first.index + 1
        assert await store.head() == first.index + 1

    async def test_all_is_written_or_nothing(self, store: Store) -> None:
        await store.commit(prefixes=[Prefix("88.1", "h")])
        with pytest.raises(Fault):
            await store.commit([write("88.1/A")], [Prefix("88.2", "h"), Prefix("88.1", "h", case=CaseRule.SENSITIVE)])
        assert (await store.public([b"88.1/A"])).bodies == [None]
        assert [row.text for row in await store.prefixes(None, 10)] == ["88.1"]
        assert await store.head() == 1
        assert len((await store.changes(0, 10)).changes) == 1

    async def test_commits_at_once_are_done_one_after_the_other(self, store: Store) -> None:
        committed = await asyncio.gather(*(store.commit([write(f"88.1/{each}")]) for each in range(20)))
        assert sorted(each.index for each in committed) == list(range(1, 21))


class TestLongKeys:
    """Keys up to 2,048 bytes, which not every engine takes as they are."""

    async def test_long_keys_with_the_same_beginning_are_different_keys(self, store: Store) -> None:
        committed = await store.commit([write(LONG + "A", b"a"), write(LONG + "B", b"b", secret=b"s")])
        assert committed.written == [Written.REGISTERED, Written.REGISTERED]
        keys = [(LONG + end).upper().encode() for end in "ABC"]
        assert [await text_of(store, key) for key in keys] == [b"a", b"b", None]
        (body,) = (await store.full([keys[1]])).bodies
        assert len(wire.decode_record(body or b"").values) == 2

    async def test_they_are_kept_replaced_and_deleted_like_others(self, store: Store) -> None:
        await store.commit([write(LONG)])
        committed = await store.commit([write(LONG), write(LONG, b"new", overwrite=True)])
        assert committed.written == [Written.EXISTS, Written.REPLACED]
        await store.commit([write(LONG, deleted=True, overwrite=True)])
        assert (await store.commit([write(LONG)])).written == [Written.DELETED]

    @pytest.mark.parametrize("length", [470, 477, 478, 479, 510, 511, 512, 2_048])
    async def test_every_length_is_found_and_listed_under_its_prefix(self, store: Store, length: int) -> None:
        text = "88.1/" + "y" * (length - 5)
        await store.commit([write(text), write("88.1/A"), write("88.10/A")])
        assert await text_of(store, text.upper().encode()) == b"a part"
        found, _ = await listed(store, b"88.1")
        assert sorted(found) == ["88.1/A", text]

    async def test_a_part_of_a_load_may_hold_them(self, store: Store) -> None:
        texts = [LONG + end for end in "ABC"] + ["88.1/A", "88.1/Z"]
        committed = await store.load(writes(texts), (), name="n", checkpoint=Checkpoint())
        assert committed.written == [Written.REGISTERED] * 5
        assert sorted((await listed(store, b"88.1"))[0]) == sorted(texts)


class TestListing:
    async def test_exactly_one_prefix_or_also_those_derived_from_it_by_segments(self, store: Store) -> None:
        texts = ["88.1/A", "88.1/B", "88.1.2/A", "88.1.2.3/A", "88.12/A", "88/A", "88.1-x/A", "88.0/A", "88.1.20/A"]
        await store.commit(writes(texts))
        assert sorted((await listed(store, b"88.1"))[0]) == ["88.1/A", "88.1/B"]
        derived = ["88.1.2.3/A", "88.1.2/A", "88.1.20/A", "88.1/A", "88.1/B"]
        assert sorted((await listed(store, b"88.1", derived=True))[0]) == derived
        assert (await listed(store, b"88.3", derived=True))[0] == []

    async def test_identifiers_are_listed_as_they_were_registered(self, store: Store) -> None:
        await store.commit([write("88.ab/Part-零"), write("88.ab/part-件")])
        assert sorted((await listed(store, b"88.AB"))[0]) == ["88.ab/Part-零", "88.ab/part-件"]

    async def test_deleted_ones_are_not_listed(self, store: Store) -> None:
        await store.commit([write("88.1/A"), write("88.1/B", deleted=True), write("88.1/C")])
        assert (await listed(store, b"88.1"))[0] == ["88.1/A", "88.1/C"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    async def test_pages_of_any_size_give_each_once(self, store: Store, limit: int) -> None:
        texts = [f"88.1/{each:03}" for each in range(20)] + [LONG + end for end in "ABC"]
        await store.commit(writes(texts))
        found, pages = await listed(store, b"88.1", limit=limit)
        assert sorted(found) == sorted(texts)
        assert pages >= len(texts) // limit

    async def test_what_comes_and_goes_between_pages_moves_nothing_else(self, store: Store) -> None:
        there = [f"88.1/{each:03}" for each in range(0, 40, 2)]
        await store.commit(writes(there))
        found: list[str] = []
        after = None
        for turn in range(100):
            page = await store.identifiers(b"88.1", derived=False, after=after, limit=3)
            found += page.identifiers
            after = page.next_after
            if after is None:
                break
            await store.commit(
                [write(f"88.1/{(7 * turn) % 40 | 1:03}"), write(f"88.1/{turn:03}X", deleted=True, overwrite=True)]
            )
        assert sorted(text for text in found if text in there) == there

    @pytest.mark.parametrize("longer", [100, 476, 477, 478, 479, 480, 510, 511, 512, 1_500])
    async def test_long_prefixes_are_told_apart(self, store: Store, longer: int) -> None:
        prefix = "88." + "p" * (longer - 3)
        mine = [f"{prefix}/A", f"{prefix}/B" + "b" * 100, f"{prefix}/" + "c" * 520]
        derived = [f"{prefix}.1/A", f"{prefix}.1/" + "d" * 500]
        others = [f"{prefix}q/A", f"{prefix}-1/A", f"{prefix[:-1]}o/A", f"{prefix}q/" + "e" * 500]
        await store.commit(writes(mine + derived + others))
        key = prefix.upper().encode()
        assert sorted((await listed(store, key, limit=2))[0]) == sorted(mine)
        assert sorted((await listed(store, key, derived=True, limit=2))[0]) == sorted(mine + derived)


class TestPrefixes:
    async def test_rows_come_back_whole_with_the_commit_as_their_epoch(self, store: Store) -> None:
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
        await store.commit([write("88.1/A")])
        committed = await store.commit(prefixes=[row])
        assert await store.prefixes(None, 10) == [replace(row, epoch=committed.index)]

    async def test_they_are_paged_in_an_order_that_stays(self, store: Store) -> None:
        texts = [f"88.{each}" for each in range(25)] + ["88." + "l" * 600 + end for end in "ab"]
        await store.commit(prefixes=[Prefix(text, "h") for text in texts])
        found: list[Prefix] = []
        while rows := await store.prefixes(found[-1].key if found else None, 4):
            found += rows
        assert sorted(row.text for row in found) == sorted(texts)
        assert found[:25] == sorted(found[:25], key=lambda row: row.key)

    async def test_a_row_is_changed_under_any_spelling_of_its_prefix(self, store: Store) -> None:
        await store.commit(prefixes=[Prefix("88.ab", "one")])
        await store.commit(prefixes=[Prefix("88.AB", "two")])
        (row,) = await store.prefixes(None, 10)
        assert (row.text, row.holder, row.epoch) == ("88.AB", "two", 2)

    async def test_the_case_rule_of_a_row_never_changes(self, store: Store) -> None:
        await store.commit(prefixes=[Prefix("88.1", "h")])
        with pytest.raises(Fault) as caught:
            await store.commit(prefixes=[Prefix("88.1", "h", case=CaseRule.SENSITIVE)])
        assert caught.value.reason is Reason.PREFIX_RULE_FIXED
        assert (caught.value.field, caught.value.variables["prefix"]) == ("case", "88.1")

    async def test_no_new_row_brings_registered_identifiers_under_another_rule(self, store: Store) -> None:
        """Their keys are folded by the old rule: under the new one they could not be found any more."""
        await store.commit([write("88.1.5/abc")], [Prefix("88.1", "h")])
        other = Prefix("88.1.5", "h", case=CaseRule.SENSITIVE)
        with pytest.raises(Fault) as caught:
            await store.commit(prefixes=[other])
        assert caught.value.reason is Reason.PREFIX_RULE_FIXED
        # One that is only applied for rules nothing yet; when it is allocated it would.
        await store.commit(prefixes=[Prefix("88.1.5", "h", PrefixState.PENDING, CaseRule.SENSITIVE)])
        with pytest.raises(Fault):
            await store.commit(prefixes=[other])
        await store.commit(prefixes=[Prefix("88.1.6", "h", case=CaseRule.SENSITIVE), Prefix("88.1.5.1", "h")])

    async def test_an_allocated_row_keeps_ruling_what_is_below_it(self, store: Store) -> None:
        sensitive = Prefix("88.1", "h", case=CaseRule.SENSITIVE)
        await store.commit([write("88.1/abc", rule=CaseRule.SENSITIVE)], [sensitive])
        with pytest.raises(Fault):
            await store.commit(prefixes=[Prefix("88.1", "h", PrefixState.REJECTED, CaseRule.SENSITIVE)])
        await store.commit(prefixes=[Prefix("88.1", "h", PrefixState.DISABLED, CaseRule.SENSITIVE)])

    async def test_identifiers_that_differ_by_case_are_two_under_a_sensitive_rule(self, store: Store) -> None:
        texts = ["88.1/abc", "88.1/ABC"]
        committed = await store.commit([write(text, rule=CaseRule.SENSITIVE) for text in texts])
        assert committed.written == [Written.REGISTERED] * 2
        assert sorted((await listed(store, b"88.1"))[0]) == sorted(texts)


class TestFeed:
    async def test_each_commit_is_one_change_that_names_all_it_changed(self, store: Store) -> None:
        await store.commit([write("88.1/A")], [Prefix("88.1", "h")])
        await store.commit([write("88.1/A"), write("88.1/B")])
        await store.commit([write("88.1/A", deleted=True, overwrite=True)])
        changes = await store.changes(0, 10)
        assert [change.index for change in changes.changes] == [1, 2, 3]
        assert [change.keys for change in changes.changes] == [(b"88.1/A",), (b"88.1/B",), (b"88.1/A",)]
        assert [[row.text for row in change.prefixes] for change in changes.changes] == [["88.1"], [], []]
        assert changes.changes[0].prefixes[0].epoch == 1
        assert (changes.head, changes.is_lost) == (3, False)

    async def test_it_is_read_on_from_any_index_without_a_gap(self, store: Store) -> None:
        for each in range(10):
            await store.commit([write(f"88.1/{each}")])
        seen: list[int] = []
        while changes := (await store.changes(seen[-1] if seen else 0, 3)).changes:
            seen += [change.index for change in changes]
        assert seen == list(range(1, 11))
        assert not (await store.changes(10, 3)).is_lost

    async def test_a_reader_behind_what_is_kept_is_told(self, place: Place) -> None:
        store = place.open(changes_kept=3)
        for each in range(10):
            await store.commit([write(f"88.1/{each}")])
        lost = await store.changes(6, 10)
        assert (lost.is_lost, lost.changes, lost.head) == (True, [], 10)
        kept = await store.changes(7, 10)
        assert (kept.is_lost, [change.index for change in kept.changes]) == (False, [8, 9, 10])

    async def test_a_reader_ahead_of_the_store_is_told(self, store: Store) -> None:
        await store.commit([write("88.1/A")])
        assert (await store.changes(2, 10)).is_lost

    async def test_very_many_keys_are_named_by_their_prefixes(self, store: Store) -> None:
        many = [write(f"88.{each % 3}/{each}") for each in range(6_000)]
        await store.commit(many)
        (change,) = (await store.changes(0, 10)).changes
        assert (change.keys, set(change.below)) == ((), {b"88.0", b"88.1", b"88.2"})

    async def test_a_load_is_told_by_the_prefixes_below_which_something_changed(self, store: Store) -> None:
        await store.commit([write("88.3/A")])
        part = [write("88.2/A"), write("88.1/A"), write("88.3/A"), write("88.1/B")]
        committed = await store.load(part, [Prefix("88.9", "h")], name="n", checkpoint=Checkpoint())
        changes = (await store.changes(1, 10)).changes
        assert changes[-1].index == committed.index
        assert {prefix for change in changes for prefix in change.below} == {b"88.1", b"88.2"}
        assert [row.text for change in changes for row in change.prefixes] == ["88.9"]
        assert not any(change.keys for change in changes)


class TestLoading:
    async def test_what_became_of_each_write_is_told_in_the_order_given(self, store: Store) -> None:
        await store.commit([write("88.1/B"), write("88.1/D", deleted=True)])
        part = [
            write("88.1/E"),
            write("88.1/B"),
            write("88.1/A"),
            write("88.1/D"),
            write("88.1/E", b"again"),
            write("88.1/B", b"new", overwrite=True),
        ]
        committed = await store.load(part, (), name="n", checkpoint=Checkpoint())
        assert committed.written == [
            Written.REGISTERED,
            Written.EXISTS,
            Written.REGISTERED,
            Written.DELETED,
            Written.EXISTS,
            Written.REPLACED,
        ]
        assert await text_of(store, b"88.1/B") == b"new"

    @pytest.mark.parametrize("order", ["sorted", "reversed", "mixed", "twice"])
    async def test_any_order_gives_the_same_store(self, store: Store, order: str) -> None:
        texts = [f"88.{each % 7}/{each:05}" for each in range(2_000)]
        chosen = {
            "sorted": sorted(texts),
            "reversed": sorted(texts, reverse=True),
            "mixed": texts,
            "twice": sorted(texts + texts),
        }[order]
        committed = await store.load(writes(chosen), (), name="n", checkpoint=Checkpoint())
        assert committed.written.count(Written.REGISTERED) == len(texts)
        assert set(committed.written) <= {Written.REGISTERED, Written.EXISTS}
        found = await store.public([text.encode() for text in texts])
        assert [wire.decode_record(body or b"").identifier.to_text() for body in found.bodies] == texts

    async def test_parts_below_between_and_above_what_is_there(self, store: Store) -> None:
        for numbers in (range(500, 600), range(100, 200), range(150, 550), range(590, 700), range(800, 900)):
            await store.load(writes([f"88.1/{each:03}" for each in numbers]), (), name="n", checkpoint=Checkpoint())
        found, _ = await listed(store, b"88.1")
        assert found == [f"88.1/{each:03}" for each in (*range(100, 700), *range(800, 900))]

    async def test_restricted_values_stay_out_of_public_bodies(self, store: Store) -> None:
        part = [write(f"88.1/{each:03}", secret=b"hush" if each % 2 else b"") for each in range(100)]
        await store.load(part, (), name="n", checkpoint=Checkpoint())
        keys = [each.key for each in part]
        assert b"hush" not in b"".join(body or b"" for body in (await store.public(keys)).bodies)
        values = [len(wire.decode_record(body or b"").values) for body in (await store.full(keys)).bodies]
        assert values == [1, 2] * 50

    async def test_the_checkpoint_of_each_name_is_kept_until_it_is_forgotten(self, place: Place) -> None:
        store = place.open()
        assert await store.checkpoint("one") == Checkpoint()
        reached = Checkpoint(offset=10, lines=2, registered=1, replaced=0, unchanged=1, rejected=0)
        await store.load([write("88.1/A")], (), name="one", checkpoint=reached)
        await store.load([], (), name="x" * 3_000, checkpoint=Checkpoint(lines=7))
        store = place.open()
        assert await store.checkpoint("one") == reached
        assert await store.checkpoint("x" * 3_000) == Checkpoint(lines=7)
        await store.forget("one")
        await store.forget("never there")
        assert await store.checkpoint("one") == Checkpoint()

    async def test_a_part_written_again_changes_nothing(self, store: Store) -> None:
        part = writes([f"88.1/{each}" for each in range(50)])
        first = await store.load(part, (), name="n", checkpoint=Checkpoint(lines=50))
        again = await store.load(part, (), name="n", checkpoint=Checkpoint(lines=50))
        assert again.written == [Written.EXISTS] * 50
        assert again.index == first.index

    async def test_rows_of_prefixes_are_written_before_the_records(self, store: Store) -> None:
        """A rule that differs from the inherited one is accepted as long as nothing is registered below it."""
        sensitive = Prefix("88.1", "h", case=CaseRule.SENSITIVE)
        part = [write("88.1/abc", rule=CaseRule.SENSITIVE)]
        await store.load(part, [sensitive], name="n", checkpoint=Checkpoint())
        assert await text_of(store, b"88.1/abc") == b"a part"


class TestStaying:
    async def test_everything_is_there_when_it_is_opened_again(self, place: Place) -> None:
        store = place.open()
        secret = await store.secret()
        await store.commit([write("88.1/A", secret=b"s")], [Prefix("88.1", "h")])
        before = (await store.full([b"88.1/A"]), await store.prefixes(None, 9), await store.changes(0, 9))
        store = place.open()
        assert (await store.full([b"88.1/A"]), await store.prefixes(None, 9), await store.changes(0, 9)) == before
        assert await store.secret() == secret
        assert len(secret) == 32
        assert (await store.commit([write("88.1/B")])).index == 2

    async def test_each_store_has_a_secret_of_its_own(self, tmp_path: Path) -> None:
        places = [Place(kind, tmp_path / str(each)) for kind in KINDS for each in range(2)]
        secrets = [await place.open().secret() for place in places]
        for place in places:
            place.close()
        assert len(set(secrets)) == len(secrets)

    async def test_a_closed_store_says_so(self, place: Place) -> None:
        store = place.open()
        place.close()
        for call in (store.head(), store.public([b"88.1/A"]), store.full([b"88.1/A"]), store.commit()):
            with pytest.raises(Fault) as caught:
                await call
            assert caught.value.reason is Reason.STORE_UNAVAILABLE


class Model:
    """What a store holds, in the simplest words: the measure for any sequence of writes."""

    def __init__(self) -> None:
        self.records: dict[bytes, Write] = {}
        self.index = 0

    def apply(self, batch: Sequence[Write]) -> list[Written]:
        became = [self._apply(each) for each in batch]
        self.index += any(each in (Written.REGISTERED, Written.REPLACED) for each in became)
        return became

    def _apply(self, each: Write) -> Written:
        held = self.records.get(each.key)
        if held is not None and not each.overwrite:
            return Written.EXISTS if held.public[1] == FOUND else Written.DELETED
        self.records[each.key] = each
        return Written.REGISTERED if held is None else Written.REPLACED


suffixes = st.sampled_from(["A", "b", "C/d", "x" * 480, "x" * 520, "x" * 520 + "y", "零部件"])
batches = st.lists(
    st.builds(
        write,
        st.builds("{}/{}".format, st.sampled_from(["88.1", "88.1.2", "88.12", "88"]), suffixes),
        st.binary(max_size=9),
        secret=st.sampled_from([b"", b"s"]),
        deleted=st.booleans(),
        overwrite=st.booleans(),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=st.lists(st.tuples(st.booleans(), batches), max_size=6))
@settings(max_examples=40, deadline=None)
async def test_any_sequence_of_commits_and_loads_gives_what_a_model_gives(
    kind: str, steps: list[tuple[bool, list[Write]]]
) -> None:
    with TemporaryDirectory() as folder:
        place, model = Place(kind, Path(folder) / "store"), Model()
        store = place.open()
        for is_load, batch in steps:
            if is_load:
                committed = await store.load(batch, (), name="n", checkpoint=Checkpoint())
            else:
                committed = await store.commit(batch)
            assert committed.written == model.apply(batch)
            assert committed.index == model.index == await store.head()
        keys = list(model.records)
        public, full = await store.public(keys), await store.full(keys)
        for key, body, whole in zip(keys, public.bodies, full.bodies, strict=True):
            held = model.records[key]
            assert body is not None
            assert body.startswith(held.public)
            assert whole is not None
            assert whole.startswith(held.full or held.public)
        for prefix in (b"88", b"88.1", b"88.1.2"):
            there = [
                wire.registered_spelling(each.public)
                for key, each in model.records.items()
                if each.public[1] == FOUND and key.startswith((prefix + b"/", prefix + b"."))
            ]
            assert sorted((await listed(store, prefix, derived=True, limit=3))[0]) == sorted(there)
        indexes = [change.index for change in (await store.changes(0, 100)).changes]
        assert all(after == before + 1 for before, after in pairwise(indexes))
        place.close()
