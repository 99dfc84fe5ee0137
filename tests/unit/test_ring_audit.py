"""What a ring holds is compared with what its journal comes to: over a small ring; journeys do it over a real one."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import pytest

from registry.rebuild import Finding
from registry.ring_audit import check_loads, compare_ring
from resolver.bounds import ANSWERS_KEPT
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint
from resolver.store.embedded.layout import import_row
from resolver.store.embedded.snapshot import DATABASES, Snapshot
from tests.signing import registering
from tests.small_registry import ENTRIES, SECONDARY, chunk_of, identifier_row, opened, write_history
from tests.small_ring import SmallRing

AT: Final = 1_800_000_000.0


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an entry of every kind; nobody writes to it."""
    data = tmp_path_factory.mktemp("history") / "data"
    data.mkdir()
    asyncio.run(write_history(data))
    return data


@pytest.fixture
def copy(history: Path, tmp_path: Path) -> Path:
    """A copy of that store, which is the ring."""
    return Path(shutil.copytree(history, tmp_path / "copy"))


@contextmanager
def altering(data: Path, database: str) -> Iterator[Any]:
    """Give a transaction that writes into one database, past everything that guards it."""
    with (
        closing(lmdb.open(str(data), map_size=1 << 30, max_dbs=len(DATABASES))) as environment,
        environment.begin(environment.open_db(database.encode()), write=True) as transaction,
    ):
        yield transaction


async def compared(
    ring: Path,
    planned: Path,
    *,
    now: float = AT,
    size: int = ENTRIES,
    change: Callable[[SmallRing], None] | None = None,
) -> list[Finding]:
    findings: list[Finding] = []
    told: list[tuple[int, int]] = []
    with closing(SmallRing.open(ring)) as held, closing(Snapshot.open(planned)) as rebuilt:
        if change is not None:
            change(held)
        counts = await compare_ring(
            held, rebuilt, size=size, now=now, note=findings.append, tell=lambda *each: told.append(each)
        )
    assert counts["entries"] == size
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    return findings


async def test_what_is_the_same_is_found_to_be_the_same(history: Path, copy: Path) -> None:
    assert await compared(copy, history) == []


@pytest.mark.parametrize("database", ["records", "full", "answered", "tiles", "feed"])
async def test_a_row_that_is_lost_is_found(history: Path, copy: Path, database: str) -> None:
    """In the feed it is an old one: the newest are taken away in order."""
    with altering(copy, database) as transaction, transaction.cursor() as cursor:
        assert cursor.first()
        cursor.delete()
    (found, *more) = await compared(copy, history)
    assert (found.kind, len(more)) == (database, database == "records")
    assert [each.kind for each in more] == ["listing"][: len(more)]


async def test_a_row_that_nobody_wrote_is_found(history: Path, copy: Path) -> None:
    with altering(copy, "answered") as transaction:
        transaction.put(b"x", (7).to_bytes(8, "big"))
    nonce = (2_000_000_000).to_bytes(8, "big") + b"somebody"
    with altering(copy, "nonces") as transaction:
        transaction.put(nonce, b"")
    assert [each.kind for each in await compared(copy, history)] == ["answered", "nonces"]


async def test_a_listing_that_says_too_little_or_too_much_is_found(history: Path, copy: Path) -> None:
    def change(ring: SmallRing) -> None:
        ring.unlisted.add(b"88.111/A")
        ring.listed_too.add(b"88.999")

    found = await compared(copy, history, change=change)
    assert sorted((each.kind, each.detail) for each in found) == [
        ("listing", "A row is missing: '88.111/A'."),
        ("listing", "There is a row that no entry wrote: '88.999'."),
    ]


async def test_what_need_not_be_remembered_any_more_may_be_gone_or_not(history: Path, copy: Path) -> None:
    """Nonces after minutes, answers after three months; before that each one that is gone is found."""
    for database in ("answered", "nonces"):
        with altering(copy, database) as transaction, transaction.cursor() as cursor:
            assert cursor.last()
            cursor.delete()
    assert [each.kind for each in await compared(copy, history)] == ["answered", "nonces"]
    later = AT + 10_000
    assert [each.kind for each in await compared(copy, history, now=later)] == ["answered"]
    assert await compared(copy, history, now=later + ANSWERS_KEPT) == []
    # Here the rebuilt store has forgotten, and the ring has not.
    assert [each.kind for each in await compared(history, copy, now=later)] == ["answered"]
    assert await compared(history, copy, now=later + ANSWERS_KEPT) == []


async def test_what_was_written_since_the_journal_was_read_is_passed_over(history: Path, copy: Path) -> None:
    async with opened(copy, SetClock(AT + 1_500)) as small:
        rows = [{"op": "delete", "identifier": "88.200.0/0000", "reason": "scrapped"}]
        await small.submit("local", "prefix-state.v1", {"prefix": "88.115", "state": "disabled"})
        await small.submit("local", "node-suspend.v1", {"node": SECONDARY})
        await small.submit("local", "prefix-allocate.v1", {"rows": [{"prefix": "88.300", "holder": "top"}]})
        await small.submit("local", "identifiers.v1", registering("88.300/NEW", "88.200.1/NEW"))
        await small.submit("local", "identifiers.v1", {"rows": rows})
        await small.take_chunk(chunk_of(identifier_row("88.300/D")), 1, name="another", is_last=False)
    assert await compared(copy, history) == []


async def test_while_a_load_is_under_way_around_the_servers_nothing_can_be_compared(copy: Path) -> None:
    with closing(SmallRing.open(copy)) as ring:
        await check_loads(ring)
    with altering(copy, "meta") as transaction:
        transaction.put(import_row("big"), msgspec.msgpack.encode(Checkpoint(offline=9)))
    with closing(SmallRing.open(copy)) as ring, pytest.raises(Fault) as refused:
        await check_loads(ring)
    assert refused.value.reason is Reason.LOAD_UNFINISHED
