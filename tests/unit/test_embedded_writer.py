"""What is the embedded writer's own: its transactions and its map, what its feed forgets, and damage it refuses."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest

from resolver import wire
from resolver.bounds import CHUNK_BYTES
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit, Nonce, Write
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.layout import HEAD_ROW, lmdb_key, number
from resolver.store.embedded.listing import SCANNED_MAX
from resolver.store.embedded.opening import MAP_START
from resolver.store.embedded.reader import CHANGES_BYTES
from resolver.store.embedded.writing import Retention
from tests.small_store import AT, entry, put
from tests.stores import listed, write, writes

ALL_OF_IT = Retention()


def own(path: Path, *, retention: Retention = ALL_OF_IT, map_size: int = MAP_START) -> EmbeddedWriter:
    owner = Owner.here("test", clock=SystemClock())
    return EmbeddedWriter.open(path, owner=owner, retention=retention, map_size=map_size)


def many(texts: range, prefix: str = "88.1") -> list[Write]:
    body = write("88.1/ANY").public
    return [Write(b"%s/%07d" % (prefix.encode(), each), body) for each in texts]


def plant(path: Path, database: bytes, change: Callable[[lmdb.Transaction, Any], object]) -> None:
    """Change a database behind the store's back."""
    with closing(lmdb.open(str(path), max_dbs=20)) as environment:
        opened = environment.open_db(database)
        with environment.begin(write=True) as transaction:
            change(transaction, opened)


class TestTransactions:
    async def test_reads_go_on_while_the_disk_is_waited_for(self, tmp_path: Path) -> None:
        """The event loop is free as long as a transaction runs."""
        with closing(own(tmp_path)) as writer:
            committing = asyncio.create_task(put(writer, many(range(20_000))))
            reads = 0
            while not committing.done():
                await writer.head()
                reads += 1
                await asyncio.sleep(0)
            assert reads > 10

    async def test_a_caller_that_goes_away_stops_no_other(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            leaving = asyncio.create_task(put(writer, many(range(5_000), "88.1")))
            staying = asyncio.create_task(put(writer, [write("88.2/A")]))
            await asyncio.sleep(0)
            leaving.cancel()
            assert await staying > 0
            assert await put(writer, [write("88.3/A")]) == await writer.head()

    async def test_one_that_waits_while_the_store_is_closed_is_told(self, tmp_path: Path) -> None:
        writer = own(tmp_path)
        first = asyncio.create_task(put(writer, many(range(20_000))))
        waiting = asyncio.create_task(put(writer, [write("88.2/A")]))
        await asyncio.sleep(0)
        writer.close()
        assert await first == 1
        with pytest.raises(Fault) as caught:
            await waiting
        assert caught.value.reason is Reason.STORE_UNAVAILABLE

    async def test_what_fails_in_the_middle_leaves_nothing_anywhere(self, tmp_path: Path) -> None:
        """The second entry's request has no name, which LMDB does not take."""
        checkpoints = (("n", Checkpoint(lines=1)),)
        nonce = Nonce(b"n", AT + 9)
        good = entry(many(range(100)), [Prefix("88.1", "h")], request=b"r", nonces=(nonce,), checkpoints=checkpoints)
        commit = Commit(entries=[good, entry(request=b"")], tiles=[(b"t", b"tile")], tree_head=b"head")
        with closing(own(tmp_path)) as writer:
            with pytest.raises(Fault):
                await writer.commit(commit)
            assert (await writer.head(), await writer.tree_head(), await writer.tile(b"t")) == (0, b"", None)
            assert (await writer.public([b"88.1/0000000"])).bodies == [None]
            assert (await writer.prefixes(None, 9), (await writer.changes(0, 9)).changes) == ([], [])
            assert (await writer.entries(0, 9), await writer.answered([b"r"])) == ([], [0])
            assert await writer.spent([nonce]) == [False]
            assert await writer.checkpoint("n") == Checkpoint()
            assert await writer.commit(Commit(entries=[good])) == 1

    async def test_a_key_that_stands_twice_all_the_same_is_the_last_ones(self, tmp_path: Path) -> None:
        """An entry names each key once; where it does not, appending would keep the first without a word."""
        part = sorted([*many(range(100)), write("88.1/0000050", b"last")], key=lambda each: each.key)
        with closing(own(tmp_path)) as writer:
            await put(writer, part)
            (body,) = (await writer.public([b"88.1/0000050"])).bodies
            assert wire.decode_record(body or b"").values[0].data == b"last"
            assert None not in (await writer.public([each.key for each in part])).bodies

    def test_closing_twice_is_closing(self, tmp_path: Path) -> None:
        writer = own(tmp_path)
        writer.close()
        writer.close()


class TestMap:
    async def test_commits_at_once_outgrow_it_together(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, map_size=256 << 10)) as writer:
            indexes = await asyncio.gather(*(put(writer, many(range(500), f"88.{each}")) for each in range(60)))
            assert sorted(indexes) == list(range(1, 61))
            assert (await writer.public([b"88.59/0000499"])).bodies != [None]

    async def test_the_largest_chunk_outgrows_it_many_times_in_one_commit(self, tmp_path: Path) -> None:
        chunk = bytes(CHUNK_BYTES)
        with closing(own(tmp_path, map_size=256 << 10)) as writer:
            before = entry(many(range(100)), artefacts=(b"before",))
            assert await writer.commit(Commit(entries=[before, entry(artefacts=(b"envelope", chunk))])) == 2
            assert await writer.head() == 2
            kept = await writer.entries(0, 9)
            assert [each.artefacts for each in kept] == [(b"before",), (b"envelope", chunk)]
            assert None not in (await writer.public([each.key for each in many(range(100))])).bodies
            assert await writer.statements(1, 9) == [kept[1].statement]


class TestSecondJournal:
    @pytest.mark.parametrize("database", [b"entries", b"artefacts", b"answers", b"feed"])
    async def test_whatever_stands_above_the_head_is_refused_and_kept(self, tmp_path: Path, database: bytes) -> None:
        """LMDB itself would say nothing, and write nothing."""
        with closing(own(tmp_path)) as writer:
            await put(writer)
        plant(tmp_path, database, lambda transaction, db: transaction.put(number(2) + b"\xff", b"theirs", db=db))
        with closing(own(tmp_path)) as writer:
            with pytest.raises(Fault) as caught:
                await put(writer, [write("88.1/A")])
            assert caught.value.reason is Reason.JOURNAL_DAMAGED
            assert (await writer.head(), (await writer.public([b"88.1/A"])).bodies) == (1, [None])

    async def test_a_head_that_was_set_back_is_refused(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await writer.commit(Commit(entries=[entry(statement=b"a"), entry(statement=b"b")]))
        plant(tmp_path, b"meta", lambda transaction, db: transaction.put(HEAD_ROW, number(1), db=db))
        with closing(own(tmp_path)) as writer:
            with pytest.raises(Fault) as caught:
                await put(writer, statement=b"another")
            assert caught.value.reason is Reason.JOURNAL_DAMAGED
            assert await writer.statements(0, 9) == [b"a", b"b"]

    async def test_a_head_that_is_gone_is_not_the_beginning(self, tmp_path: Path) -> None:
        own(tmp_path).close()
        plant(tmp_path, b"meta", lambda transaction, db: transaction.delete(HEAD_ROW, db=db))
        with closing(own(tmp_path)) as writer, pytest.raises(Fault) as caught:
            await put(writer)
        assert caught.value.reason is Reason.STORE_UNAVAILABLE

    async def test_a_missing_artefact_is_damage(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await put(writer, artefacts=(b"envelope", b"chunk"))
        plant(tmp_path, b"artefacts", lambda transaction, db: transaction.delete(number(1) + b"\x01", db=db))
        with closing(own(tmp_path)) as writer:
            with pytest.raises(Fault) as caught:
                await writer.entries(0, 9)
            assert caught.value.reason is Reason.JOURNAL_DAMAGED
            assert len(await writer.statements(0, 9)) == 1


class TestListing:
    async def test_a_page_looks_at_so_many_rows_and_the_next_one_goes_on(self, tmp_path: Path) -> None:
        gone = write("88.1/ANY", deleted=True).public
        with closing(own(tmp_path)) as writer:
            deleted = [Write(each.key, gone) for each in many(range(2 * SCANNED_MAX + 5))]
            await put(writer, [*deleted, write("88.1/LAST")])
            assert await listed(writer, b"88.1") == (["88.1/LAST"], 3)

    async def test_what_lies_behind_the_prefix_is_not_looked_at(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await put(writer, [write("88.1/A"), *many(range(SCANNED_MAX + 5), "88.2")])
            for derived in (False, True):
                assert await listed(writer, b"88.1", derived=derived) == (["88.1/A"], 1)

    @pytest.mark.parametrize(("others", "is_held"), [(SCANNED_MAX, False), (SCANNED_MAX + 1, True)])
    async def test_whether_a_prefix_too_long_for_its_keys_holds_anything_is_looked_at_so_long(
        self, tmp_path: Path, others: int, *, is_held: bool
    ) -> None:
        """Behind that it is said to, which keeps the case rule as it is: the safe side."""
        lead = "88." + "P" * 500
        with closing(own(tmp_path)) as writer:
            await put(writer, many(range(others), lead + "Q"))
            assert await writer.holds_below(f"{lead}R".encode()) is is_held


class TestFull:
    async def test_restricted_values_go_with_their_record_from_the_file_too(self, tmp_path: Path) -> None:
        """A replaced body under a short and under a long key, and one in the same commit."""
        long = "88.1/" + "x" * 600
        with closing(own(tmp_path)) as writer:
            await put(writer, [write("88.1/A", secret=b"s"), write(long, secret=b"s")])
            entries = [entry([write("88.1/B", secret=b"s")]), entry([write("88.1/B", is_new=True)])]
            await writer.commit(Commit(entries=[*entries, entry([write("88.1/A"), write(long, deleted=True)])]))
        found: list[bytes | memoryview] = []
        plant(tmp_path, b"full", lambda transaction, db: found.extend(key for key, _ in transaction.cursor(db)))
        assert found == []

    async def test_the_text_of_a_long_key_is_kept_once(self, tmp_path: Path) -> None:
        long = "88.1/" + "x" * 600
        with closing(own(tmp_path)) as writer:
            for deleted in (False, True, False):
                await put(writer, [write(long, deleted=deleted)])
        found: list[bytes | memoryview] = []
        plant(tmp_path, b"long_keys", lambda transaction, db: found.extend(key for key, _ in transaction.cursor(db)))
        assert found == [lmdb_key(long.upper().encode())]


class TestFeed:
    async def test_it_forgets_the_oldest_where_its_bytes_are_too_many(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, retention=Retention(octets=256 << 10))) as writer:
            for turn in range(40):
                await put(writer, many(range(turn * 1_000, turn * 1_000 + 1_000)))
            assert (await writer.changes(0, 1)).is_lost
            kept = (await writer.changes(35, 100)).changes
            assert [change.index for change in kept] == [36, 37, 38, 39, 40]

    async def test_so_much_of_it_is_given_at_once(self, tmp_path: Path) -> None:
        """A worker that follows serves nobody while it decodes."""
        with closing(own(tmp_path)) as writer:
            await writer.commit(Commit(entries=[entry([write(f"88.1/{'x' * 500}{each}")]) for each in range(2_000)]))
            one = entry(prefixes=[Prefix(f"88.{'l' * 500}{each}", "h") for each in range(1_000)])
            await writer.commit(Commit(entries=[one] * 2))
            changes = (await writer.changes(0, 9_999)).changes
            octets = sum(len(key) for change in changes for key in change.keys)
            assert CHANGES_BYTES * 0.9 < octets < CHANGES_BYTES
            assert len((await writer.changes(2_000, 9_999)).changes) == 1

    async def test_the_newest_is_kept_however_large_it_is(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, retention=Retention(octets=1))) as writer:
            for turn in range(3):
                await put(writer, many(range(turn * 1_000, turn * 1_000 + 1_000)))
            assert [change.index for change in (await writer.changes(2, 9)).changes] == [3]

    async def test_when_less_is_to_be_kept_than_was_it_forgets_in_steps(self, tmp_path: Path) -> None:
        """So that no commit takes long; and a reader is told all the same what is lost."""
        with closing(own(tmp_path)) as writer:
            await writer.commit(Commit(entries=[entry() for _ in range(3_000)]))
        with closing(own(tmp_path, retention=Retention(changes=10))) as writer:
            oldest = []
            for _ in range(4):
                head = await put(writer)
                lost = [(await writer.changes(after, 1)).is_lost for after in range(head)]
                oldest.append(lost.count(True) + 1)
                assert lost == sorted(lost, reverse=True)
            assert oldest == [1_002, 2_003, 2_994, 2_995]

    async def test_prefixes_that_are_too_many_are_named_by_those_above_them(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await put(writer, writes([f"88.{each % 3}.{each}.7/A" for each in range(6_000)]))
            (change,) = (await writer.changes(0, 9)).changes
            assert set(change.below) == {b"88.0", b"88.1", b"88.2"}

    async def test_prefixes_too_long_to_show_in_their_keys_are_all_named(self, tmp_path: Path) -> None:
        prefix = "88." + "p" * 600
        part = [write(f"{prefix}{each % 3}/{each:04}") for each in range(6_000)]
        with closing(own(tmp_path)) as writer:
            await put(writer, part)
            (change,) = (await writer.changes(0, 9)).changes
            assert set(change.below) == {f"{prefix}{each}".upper().encode() for each in range(3)}


class TestAnswers:
    async def test_they_are_kept_for_ninety_days_where_nothing_else_is_said(self, tmp_path: Path) -> None:
        days = 90 * 86_400
        with closing(own(tmp_path)) as writer:
            await put(writer, request=b"r", at=AT)
            await put(writer, at=AT + days)
            assert await writer.answered([b"r"]) == [1]
            await put(writer, at=AT + days + 1)
            assert await writer.answered([b"r"]) == [0]


class TestForgetting:
    """What is old goes by the time of later entries, and by nothing else: the same entries leave the same behind."""

    async def test_answers_go_with_the_first_entry_that_is_too_late_for_them(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, retention=Retention(answers=100))) as writer:
            await put(writer, request=b"a", at=AT)
            await put(writer, request=b"b", at=AT + 100)
            assert await writer.answered([b"a", b"b"]) == [1, 2]
            await put(writer, request=b"c", at=AT + 101)
            assert await writer.answered([b"a", b"b", b"c"]) == [0, 2, 3]

    async def test_nonces_go_with_the_first_entry_that_is_too_late_for_them(self, tmp_path: Path) -> None:
        nonces = [Nonce(b"%d" % until, AT + until) for until in (10, 11, 12)]
        with closing(own(tmp_path)) as writer:
            await put(writer, nonces=tuple(nonces[::-1]), at=AT)
            await put(writer, at=AT + 11)
            assert await writer.spent(nonces) == [False, True, True]

    @pytest.mark.parametrize("at_once", [1, 7, 25])
    async def test_what_is_old_goes_faster_than_new_comes(self, tmp_path: Path, at_once: int) -> None:
        """Also when much has piled up; and it depends on the entries only, not on how they were grouped."""
        old = [entry(request=b"r%d" % each, nonces=(Nonce(b"%d" % each, AT),), at=AT) for each in range(50)]
        new = [entry(at=AT + 200, nonces=(Nonce(b"x%d" % each, AT + 500),)) for each in range(25)]
        with closing(own(tmp_path, retention=Retention(answers=100))) as writer:
            await writer.commit(Commit(entries=old))
            for first in range(0, 25, at_once):
                await writer.commit(Commit(entries=new[first : first + at_once]))
            assert await writer.answered([b"r%d" % each for each in range(50)]) == [0] * 50
            assert not any(await writer.spent([Nonce(b"%d" % each, AT) for each in range(50)]))
            assert all(await writer.spent([Nonce(b"x%d" % each, AT + 500) for each in range(25)]))
