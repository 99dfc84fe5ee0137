"""The journal over a real store: groups of entries, the tree over them, receipts, and what it does when it cannot."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from registry.journal import Journal
from resolver.bounds import STATEMENT_BYTES
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store import Commit, Entry
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.keys import Algorithm, PrivateKey
from resolver.trust.merkle import leaf_hash, node_hash
from resolver.trust.notes import open_checkpoint
from resolver.trust.receipts import check_receipt

ORIGIN = "topnode/top"
KEY = PrivateKey.generate()


class FullStore(EmbeddedWriter):
    """A store with a full disk, lost words of commits that took place, or a foreign head, while a test says so."""

    is_full = False
    is_deaf = False
    is_foreign = False

    async def commit(self, commit: Commit) -> int:
        if self.is_full:
            raise Fault(Reason.STORE_FULL)
        index = await super().commit(commit)
        if self.is_deaf:
            raise Fault(Reason.STORE_UNAVAILABLE)
        return index

    async def tree_head(self) -> bytes:
        head = await super().tree_head()
        return head.replace(b"topnode/top", b"topnode/other") if self.is_foreign else head


def opened(path: Path) -> FullStore:
    return FullStore.open(path, owner=Owner.here("a test", clock=SystemClock()))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FullStore]:
    with closing(opened(tmp_path / "store")) as writer:
        yield writer


def entry(number: int) -> Entry:
    return Entry(
        statement=b"statement %d" % number,
        artefacts=(b"envelope",),
        result=b"",
        request=b"request %d" % number,
        at=number,
    )


def entries(first: int, count: int) -> list[Entry]:
    return [entry(number) for number in range(first, first + count)]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


async def test_groups_of_any_size_make_the_tree_of_the_rfc(store: FullStore) -> None:
    """The signed head is over all statements in their order, however they were grouped."""
    journal = await Journal.open(store, KEY, ORIGIN)
    for count in (1, 1, 3, 250, 1, 300, 2):
        await journal.commit(entries(journal.size + 1, count))
    head = open_checkpoint(journal.checkpoint, journal.verifier_key)
    leaves = [leaf_hash(each.statement) for each in entries(1, 558)]
    assert (head.origin, head.size, head.root) == (ORIGIN, 558, root_of(leaves))
    assert await store.tree_head() == journal.checkpoint


async def test_every_entry_has_a_receipt_that_holds_also_after_a_restart(tmp_path: Path) -> None:
    """Receipts are made anew in the tree as it is; the restarted journal signs the same head."""
    with closing(opened(tmp_path)) as store:
        journal = await Journal.open(store, KEY, ORIGIN)
        for count in (255, 1, 1, 300):
            await journal.commit(entries(journal.size + 1, count))
        checkpoint = journal.checkpoint
    with closing(opened(tmp_path)) as store:
        journal = await Journal.open(store, KEY, ORIGIN)
        assert journal.checkpoint == checkpoint
        await journal.commit(entries(558, 1))
        for index in (1, 2, 255, 256, 257, 512, 557, 558):
            receipt = await journal.receipt(index)
            assert receipt.statement == b"statement %d" % index
            assert check_receipt(receipt, journal.verifier_key).size == 558


async def test_a_commit_that_fails_leaves_the_journal_as_it_was(store: FullStore) -> None:
    journal = await Journal.open(store, KEY, ORIGIN)
    await journal.commit(entries(1, 300))
    checkpoint = journal.checkpoint
    store.is_full = True
    with pytest.raises(Fault) as caught:
        await journal.commit(entries(301, 300))
    assert caught.value.reason is Reason.STORE_FULL
    assert (journal.size, journal.checkpoint) == (300, checkpoint)
    store.is_full = False
    assert await journal.commit(entries(301, 300)) == 600
    check_receipt(await journal.receipt(600), journal.verifier_key)


@pytest.mark.parametrize("index", [0, -1, 3])
async def test_there_is_no_receipt_for_what_is_not_there(store: FullStore, index: int) -> None:
    journal = await Journal.open(store, KEY, ORIGIN)
    await journal.commit(entries(1, 2))
    with pytest.raises(Fault) as caught:
        await journal.receipt(index)
    assert caught.value.reason is Reason.ENTRY_UNKNOWN
    assert caught.value.variables["size"] == "2"


async def test_a_journal_goes_on_under_another_key(tmp_path: Path) -> None:
    """The present head is signed by the key that is given now; earlier receipts hold by the earlier key."""
    with closing(opened(tmp_path)) as store:
        before = await Journal.open(store, KEY, ORIGIN)
        await before.commit(entries(1, 3))
        earlier = await before.receipt(2)
    with closing(opened(tmp_path)) as store:
        after = await Journal.open(store, PrivateKey.generate(), ORIGIN)
        assert after.verifier_key != before.verifier_key
        check_receipt(await after.receipt(2), after.verifier_key)
        check_receipt(earlier, before.verifier_key)


@pytest.mark.parametrize(
    "statement", [b"statement 2", b"statement 2 of somebody else"], ids=["another size", "another root"]
)
async def test_entries_past_the_signed_head_are_damage(store: FullStore, statement: bytes) -> None:
    """Whatever was written without the journal is found when it is opened."""
    journal = await Journal.open(store, KEY, ORIGIN)
    await journal.commit(entries(1, 1))
    head = journal.checkpoint
    if statement != b"statement 2":
        await journal.commit(entries(2, 1))
        head = journal.checkpoint.replace(b"\n2\n", b"\n3\n")
    written = Entry(statement=statement, artefacts=(b"",), result=b"", request=b"foreign", at=0)
    await store.commit(Commit(entries=[written], tree_head=head))
    with pytest.raises(Fault) as caught:
        await Journal.open(store, KEY, ORIGIN)
    assert caught.value.reason is Reason.JOURNAL_DAMAGED


async def test_the_journal_of_another_node_is_refused(store: FullStore) -> None:
    await (await Journal.open(store, KEY, ORIGIN)).commit(entries(1, 1))
    with pytest.raises(Fault) as caught:
        await Journal.open(store, KEY, "topnode/another")
    assert caught.value.reason is Reason.JOURNAL_DAMAGED


async def test_only_ed25519_signs_the_head(store: FullStore) -> None:
    with pytest.raises(Fault) as caught:
        await Journal.open(store, PrivateKey.generate(Algorithm.ECDSA_P256), ORIGIN)
    assert caught.value.reason is Reason.KEY_INVALID


async def test_after_a_commit_of_which_nobody_knows_it_goes_on_where_the_store_is(store: FullStore) -> None:
    """The disk failed when all was written already: the next group follows on that, and the tree is over both."""
    journal = await Journal.open(store, KEY, ORIGIN)
    await journal.commit(entries(1, 300))
    store.is_deaf = True
    with pytest.raises(Fault) as raised:
        await journal.commit(entries(301, 2))
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    store.is_deaf = False
    assert await journal.commit(entries(303, 1)) == 303
    head = open_checkpoint(await store.tree_head(), journal.verifier_key)
    leaves = [leaf_hash(each.statement) for each in entries(1, 303)]
    assert (head.size, head.root) == (303, root_of(leaves))
    assert (await Journal.open(store, KEY, ORIGIN)).size == 303


async def test_what_does_not_fit_after_such_a_commit_is_refused_and_not_taken_up(store: FullStore) -> None:
    journal = await Journal.open(store, KEY, ORIGIN)
    await journal.commit(entries(1, 3))
    checkpoint = journal.checkpoint
    store.is_deaf = store.is_foreign = True
    with pytest.raises(Fault):
        await journal.commit(entries(4, 2))
    for _ in range(2):
        with pytest.raises(Fault) as caught:
            await journal.be_sure()
        assert caught.value.reason is Reason.JOURNAL_DAMAGED
        assert (journal.size, journal.checkpoint) == (3, checkpoint)
    store.is_deaf = store.is_foreign = False
    await journal.be_sure()
    assert journal.size == 5
    check_receipt(await journal.receipt(5), journal.verifier_key)


async def test_no_statement_is_longer_than_the_bound(store: FullStore) -> None:
    journal = await Journal.open(store, KEY, ORIGIN)
    with pytest.raises(Fault) as caught:
        await journal.commit([entry(1), replace(entry(2), statement=bytes(STATEMENT_BYTES + 1))])
    assert caught.value.reason is Reason.INTERNAL
    assert await store.head() == 0
    assert await journal.commit([entry(1), replace(entry(2), statement=bytes(STATEMENT_BYTES))]) == 2
