"""Rebuilding a store from its journal gives the same store; verifying finds whatever was altered in one."""

import asyncio
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import lmdb
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.auditing import Verdict, read_trust, rebuild_store, verify
from nodes.settings import NodeSettings
from registry.audit import differences
from registry.entries import entry_of
from registry.kinds import PLANNERS
from registry.plans import Outcome, Plan
from registry.rebuild import Finding, Pace, Trust, rebuild, refuse
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified, Verifier
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store import Entry, Kept
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner
from resolver.store.embedded.layout import KEY_MAX, artefact_row, entry_decoder, entry_encoder, number
from resolver.store.embedded.snapshot import DATABASES, Snapshot
from resolver.trust.actors import Node, NodeTable
from resolver.trust.heads import LIFETIME, SKEW
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators, OperatorSettings
from resolver.trust.receipts import check_receipt
from tests.signing import SUBMIT, registering
from tests.small_registry import ENTRIES, KINDS, SECONDARY, SmallRegistry, application, opened, write_history
from tests.stores import listed

CLOCK: Final = SystemClock()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an entry of every kind; nobody writes to it."""
    data = tmp_path_factory.mktemp("history") / "data"
    data.mkdir()
    asyncio.run(write_history(data))
    return data


@pytest.fixture
def copy(history: Path, tmp_path: Path) -> Path:
    """A copy of that store, to be altered."""
    return Path(shutil.copytree(history, tmp_path / "copy"))


def trust(data: Path, **more: Any) -> Trust:
    return read_trust(NodeSettings(data=data), data, **more)


def silent(_what: str) -> Callable[[int, int], None]:
    return lambda _done, _total: None


async def verified(data: Path, believed: Trust | None = None) -> Verdict:
    return await verify(data, believed or trust(data), scratch=None, clock=CLOCK, told=silent)


async def kinds(data: Path) -> set[str]:
    """In what something does not fit."""
    return {finding.kind for finding in (await verified(data)).findings}


async def rebuilt(data: Path, target: Path) -> Path:
    await rebuild_store(data, target, trust(data), clock=CLOCK, told=silent)
    return target


def rows(data: Path, database: str) -> dict[bytes, bytes]:
    with closing(Snapshot.open(data)) as snapshot:
        return dict(snapshot.rows(database))


def mode(path: Path) -> int:
    return path.stat().st_mode


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@contextmanager
def altering(data: Path, database: str) -> Iterator[Any]:
    """Give a transaction that writes into one database of a store, past everything that guards it."""
    with (
        closing(lmdb.open(str(data), map_size=1 << 30, max_dbs=len(DATABASES))) as environment,
        environment.begin(environment.open_db(database.encode()), write=True) as transaction,
    ):
        yield transaction


def flip(data: Path, database: str, key: bytes, place: int) -> None:
    """Change one bit of a row, or of its key where the row is empty."""
    with altering(data, database) as transaction:
        row = transaction.get(key)
        if row:
            transaction.put(key, flipped(row, place))
        else:
            transaction.delete(key)
            transaction.put(flipped(key, place), row)


def flipped(octets: bytes, place: int) -> bytes:
    place %= len(octets)
    return octets[:place] + bytes((octets[place] ^ 1,)) + octets[place + 1 :]


# --- the same again ----------------------------------------------------------------------------------------------


async def test_the_history_has_an_entry_of_every_kind_and_nothing_in_it_does_not_fit(history: Path) -> None:
    with closing(Snapshot.open(history)) as journal:
        size = await journal.head()
        statements = [pb.Statement.FromString(each) for each in await journal.statements(0, size)]
    assert {each.kind for each in statements} == KINDS
    assert any(each.refused for each in statements)
    assert [each.accepted_at for each in statements] != sorted(each.accepted_at for each in statements)
    verdict = await verified(history)
    assert (verdict.findings, verdict.found, verdict.entries) == ([], 0, size)
    assert all(verdict.rows.values()), verdict.rows


async def test_a_rebuilt_store_has_the_same_rows_in_every_database(history: Path, tmp_path: Path) -> None:
    """Records, versions, prefixes, nodes, statements, results, envelopes, chunks, tree, answers, nonces, imports."""
    target = await rebuilt(history, tmp_path / "new")
    for database in DATABASES:
        held, made = rows(history, database), rows(target, database)
        assert held.pop(b"secret", None) != made.pop(b"secret", b"")
        assert held == made, database


async def test_what_a_rebuilt_store_answers_and_lists_is_the_same(history: Path, tmp_path: Path) -> None:
    target = await rebuilt(history, tmp_path / "new")
    keys = list(rows(history, "records"))
    with closing(EmbeddedReader.open(history)) as one, closing(EmbeddedReader.open(target)) as other:
        assert await one.public(keys) == await other.public(keys)
        assert await one.full(keys) == await other.full(keys)
        for prefix in (b"88", b"88.111", b"88.200.1"):
            assert await listed(one, prefix, derived=True) == await listed(other, prefix, derived=True)
        assert await one.prefixes(None, 1_000) == await other.prefixes(None, 1_000)
        assert await one.nodes(None, 1_000) == await other.nodes(None, 1_000)


async def test_the_registry_goes_on_over_a_rebuilt_store(history: Path, tmp_path: Path) -> None:
    """With the same key, after the same tree, and with a first answer for whoever asks again."""
    target = await rebuilt(history, tmp_path / "new")
    assert not mode(target / "journal.pem") & 0o077
    assert mode(target) == mode(history)
    async with opened(target, SetClock()) as small:
        size = small.registry.journal.size
        octets = small.signed("local", "node-suspend.v1", {"node": SECONDARY})
        first, again = await small.registry.submit(octets), await small.registry.submit(octets)
        assert first.receipt is not None
        assert first.receipt.index == size + 1
        assert check_receipt(first.receipt, trust(history).verifier_key).size == size + 1
        assert again.is_repeated
    assert await kinds(target) == set()


@pytest.mark.parametrize("pace", [Pace(entries=1), Pace(entries=7), Pace(records=50), Pace(octets=3_000)])
async def test_how_entries_are_grouped_makes_no_difference(history: Path, tmp_path: Path, pace: Pace) -> None:
    target = tmp_path / "new"
    with (
        closing(Snapshot.open(history)) as held,
        closing(EmbeddedWriter.open(target, owner=Owner.here("a test", clock=CLOCK))) as writer,
    ):
        await rebuild(held, writer, trust(history), note=refuse, tell=silent(""), pace=pace)
    for database in set(DATABASES) - {"meta"}:
        assert rows(history, database) == rows(target, database), database


async def test_a_store_whose_records_were_altered_is_mended_by_rebuilding(copy: Path, tmp_path: Path) -> None:
    key = next(iter(rows(copy, "records")))
    flip(copy, "records", key, 9)
    assert await kinds(copy) == {"records"}
    assert await kinds(await rebuilt(copy, tmp_path / "new")) == set()


async def test_an_empty_store_has_nothing_that_does_not_fit(tmp_path: Path) -> None:
    async with opened(tmp_path, SetClock()):
        pass
    verdict = await verified(tmp_path)
    assert (verdict.entries, verdict.found) == (0, 0)
    assert (await rebuild_store(tmp_path, tmp_path / "new", trust(tmp_path), clock=CLOCK, told=silent)).size == 0


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_was_asked_for_comes_to_the_same_again(tmp_path: Path, seed: int) -> None:
    """Requests of all kinds at random, sensible and not, in groups of any size, while terms end and clocks jump."""
    chance, clock = random.Random(seed), SetClock()
    async with opened(tmp_path, clock) as small:
        for node in ("88.1", "88.2"):
            await small.join(node)
        await small.join("88.1.5", parent="88.1")
        for _ in range(60):
            clock.advance(chance.choice((0, 1, 1, 1, 300, -200)))
            asked = [some_request(chance, small) for _ in range(chance.randint(1, 12))]
            prefix = chance.choice(("88.1", "88.2", "88.1.5"))
            asked.append(small.signed("local", "prefix-state.v1", {"prefix": prefix, "state": "enabled"}))
            asked.append(small.signed("local", "prefix-renew.v1", {"prefix": prefix, "expires_at": 0}))
            await asyncio.gather(*(small.registry.submit(each) for each in asked), return_exceptions=True)
        assert small.registry.journal.size > 100
    assert (await verified(tmp_path)).findings == []


def some_request(chance: random.Random, small: SmallRegistry) -> bytes:
    """Sign something that may well be refused."""
    pick, now = chance.choice, int(small.clock.wall())
    actor = pick(("local", "88.1", "88.1", "88.2", "88.1.5"))
    prefix = pick(("88.1", "88.1.5", "88.1.6", "88.2", "88.2.1", "88.3"))
    node = pick(("88.1.5", "88.2", "88.9"))
    row = {"prefix": prefix, "holder": pick(("88.1", "88.2", "88.1.5", "top"))}
    special: dict[str, Any] = pick(({}, {"case": "sensitive"}, {"expires_at": now + 200}))
    endpoints = [{"protocol": "http", "address": "127.0.0.1", "port": 80}]
    kind, body = pick(
        (
            *(("identifiers.v1", some_rows_of_identifiers(chance, prefix)) for _ in range(8)),
            ("prefix-allocate.v1", {"rows": [row | special]}),
            ("prefix-allocate.v1", {"rows": [row | special]}),
            ("prefix-apply.v1", {"prefix": prefix}),
            ("prefix-state.v1", {"prefix": prefix, "state": pick(("enabled", "disabled", "enabled", "to_delete"))}),
            ("prefix-renew.v1", {"prefix": prefix, "expires_at": pick((0, now + 100, now + 10_000))}),
            ("route.v1", {"prefix": prefix, "hosting": pick(("here", "delegated")), "endpoints": endpoints}),
            ("node-suspend.v1", {"node": node}),
            ("node-resume.v1", {"node": node}),
            ("node-resume.v1", {"node": node}),
        )
    )
    return small.signed(actor, kind, body)


def some_rows_of_identifiers(chance: random.Random, prefix: str) -> dict[str, Any]:
    value: dict[str, Any] = {"index": chance.randint(1, 3), "type": "NAME", "data": str(chance.randrange(3))}
    if chance.random() < 0.3:
        value["permissions"] = "1100"
    rows: list[dict[str, Any]] = []
    for _ in range(chance.randint(1, 6)):
        identifier = f"{prefix}/{chance.choice('aAbBcd')}"
        rows.append(
            chance.choice(
                (
                    {"identifier": identifier, "values": [value], "overwrite": chance.random() < 0.7},
                    {"identifier": identifier, "values": [value]},
                    {"mint": prefix, "values": [value]},
                    {"op": "update", "identifier": identifier, "values": [value]},
                    {"op": "set_values", "identifier": identifier, "values": [value]},
                    {"op": "remove_values", "identifier": identifier, "indexes": [1]},
                    {"op": "delete", "identifier": identifier, "reason": "at random"},
                )
            )
        )
    return {"rows": rows, "partial": chance.random() < 0.8}


TELL: Final = """
from registry.entries import result_of
from registry.plans import Outcome, Plan
from resolver.errors import Fault, Reason

fault = Fault(Reason.PREFIX_NOT_HELD, field="identifier", variables={name: name for name in "abcdefgh"})
print(result_of("identifiers.v1", Plan(outcomes=[Outcome.REFUSED], refusals={0: fault})).hex())
"""


def test_what_callers_are_told_is_the_same_in_every_process() -> None:
    """Else no rebuild could give the same: the order of a map's entries changes from process to process."""
    assert len({output_of(TELL) for _ in range(4)}) == 1


def output_of(script: str, *arguments: object) -> bytes:
    """Run a script in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, cwd=root, timeout=60, stdout=subprocess.PIPE).stdout


# --- altered -----------------------------------------------------------------------------------------------------

FOUND_IN: Final[Mapping[str, set[str]]] = {
    "artefacts": {"envelope", "chunk"},
    "entries": {"entry", "statement", "envelope", "chunk", "signature", "result", "wording", "tree", "plan"},
    "meta": {"tree head", "tree", "entry", "meta"},
}
"""In what an altered byte of these databases may be found; of all others in the database itself."""


@pytest.mark.parametrize("database", DATABASES)
async def test_one_altered_byte_is_found_in_whatever_row_it_is(history: Path, tmp_path: Path, database: str) -> None:
    chance = random.Random(database)
    held = rows(history, database)
    held.pop(b"secret", None)
    held.pop(b"format", None)
    for turn, key in enumerate(chance.sample(sorted(held), min(4, len(held)))):
        copied = Path(shutil.copytree(history, tmp_path / f"copy-{turn}"))
        flip(copied, database, key, chance.randrange(100_000))
        found = await kinds(copied)
        assert found & FOUND_IN.get(database, {database}), (key, found)


async def test_an_altered_byte_in_the_file_itself_is_found(copy: Path) -> None:
    key, body = next(item for item in rows(copy, "records").items() if b"part 17" in item[1])
    file = copy / "data.mdb"
    octets = file.read_bytes()
    assert body in octets
    file.write_bytes(octets.replace(body, flipped(body, body.index(b"part 17"))))
    (finding,) = (await verified(copy)).findings
    assert finding.kind == "records"
    assert key.decode() in finding.detail


async def test_a_finding_names_the_entry_that_wrote_what_was_altered(copy: Path) -> None:
    entry = entry_decoder.decode(rows(copy, "entries")[number(9)])
    for database, key in (
        ("answers", number(9)),
        ("feed", number(9)),
        ("nodes", SECONDARY.encode()),
        ("prefixes", b"88.115"),
        ("tiles", b"tile/0/000"),
    ):
        flip(copy, database, key, 0 if database != "tiles" else 8 * 32 + 5)
    flip(copy, "entries", number(9), entry_encoder.encode(entry).index(entry.statement) + 3)
    findings = (await verified(copy)).findings
    assert {("tiles", 9), ("feed", 9), ("answers", 9)} <= {(each.kind, each.index) for each in findings}
    expected = {kind: await row_epoch(copy, kind) for kind in ("nodes", "prefixes")}
    assert {each.kind: each.index for each in findings if each.kind in expected} == expected


async def row_epoch(data: Path, database: str) -> int:
    """The index of the last entry that says something about the node or the prefix."""
    names = {"nodes": "node-takeover.v1", "prefixes": "route.v1"}
    with closing(Snapshot.open(data)) as journal:
        for index in range(await journal.last(), 0, -1):
            kept = await journal.kept(index)
            if index != 9 and pb.Statement.FromString(kept.statement).kind == names[database]:
                return index
    raise AssertionError


@pytest.mark.parametrize("index", [1, 20, 40, ENTRIES])
async def test_a_removed_entry_is_found(copy: Path, index: int) -> None:
    with altering(copy, "entries") as transaction:
        assert transaction.delete(number(index))
    findings = (await verified(copy)).findings
    assert (findings[0].index, findings[0].kind) == (index, "entry")
    with pytest.raises(Fault) as refused:
        await rebuilt(copy, copy.parent / "new")
    assert refused.value.reason is Reason.JOURNAL_DAMAGED
    assert refused.value.variables == {"index": str(index), "kind": "entry"}
    assert names(copy.parent) == [copy.name]


async def test_a_removed_envelope_is_found(copy: Path) -> None:
    with altering(copy, "artefacts") as transaction:
        assert transaction.delete(artefact_row(5, 0))
    findings = (await verified(copy)).findings
    assert (findings[0].index, findings[0].kind) == (5, "entry")


async def test_entries_taken_off_the_end_are_found(copy: Path) -> None:
    """With everything that they had changed left as it was, and without."""
    head = len(rows(copy, "entries"))
    with altering(copy, "meta") as transaction:
        transaction.put(b"head", number(head - 3))
    assert {"tree", "entries"} <= await kinds(copy)
    for database in ("entries", "answers", "feed"):
        with altering(copy, database) as transaction:
            for index in range(head - 2, head + 1):
                transaction.delete(number(index))
    assert "tree" in await kinds(copy)


@pytest.mark.parametrize("database", sorted(set(DATABASES) - {"meta"}))
async def test_a_row_that_was_removed_or_that_nobody_wrote_is_found(copy: Path, database: str) -> None:
    key = next(reversed(rows(copy, database)))
    with altering(copy, database) as transaction:
        row = transaction.pop(key)
    assert await kinds(copy) & {database, "entry"}
    with altering(copy, database) as transaction:
        transaction.put(key, row)
        transaction.put(key + b"\x00" if len(key) < KEY_MAX else flipped(key, -1), row)
    assert database in await kinds(copy)


async def test_a_tree_head_that_another_key_signed_is_found(copy: Path) -> None:
    pinned = trust(copy)
    (copy / "journal.pem").unlink()
    PrivateKey.generate().to_file(copy / "journal.pem")
    assert await kinds(copy) == {"tree head"}
    assert (await verified(copy, pinned)).findings == []


# --- a node that cheats ------------------------------------------------------------------------------------------


async def ready_of(small: SmallRegistry, octets: bytes, nodes: tuple[Node, ...] = (), *, late: int = 0) -> Verified:
    """A request as a planner gets it, taken so many seconds from now; `nodes` are believed as they are given."""
    table = NodeTable()
    table.put([*await small.registry.store.nodes(None, 1_000), *nodes])
    verifier = Verifier(
        node="top",
        nodes=table,
        operators=Operators([("local", small.keys["local"].public)]),
        registry=CollectorRegistry(),
        kinds=PLANNERS.keys(),
    )
    ready = verifier.verify(octets, SUBMIT)
    return replace(ready, request=replace(ready.request, at=int(small.clock.wall()) + late))


async def slip_in(
    small: SmallRegistry, octets: bytes, nodes: tuple[Node, ...] = (), *, late: int = 0, **changes: Any
) -> None:
    """Write an entry as a node can that passes the ladder by: with its journal's key, and all that belongs to it.

    `nodes` and `late` as in `ready_of`; `changes` are of the entry.
    """
    ready = await ready_of(small, octets, nodes, late=late)
    state = small.registry.state
    await state.begin(ready.request.at)
    plan = await PLANNERS[ready.request.kind](ready.request, state)
    await commit(small, replace(entry_of(ready, plan), **changes))


async def commit(small: SmallRegistry, entry: Entry) -> None:
    await small.registry.journal.commit([entry])


async def signed_by_a_replaced_key(small: SmallRegistry) -> None:
    (before,) = [each for each in await small.registry.store.nodes(None, 9) if each.node == SECONDARY]
    old = small.keys[SECONDARY]
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/LATE"))
    new = PrivateKey.generate()
    body = {"key": application(SECONDARY, new)["key"]}
    await small.submit(SECONDARY, "node-rotate.v1", body, keys=[new])
    assert old.public.key_id == before.keys[-1].key_id
    await slip_in(small, octets, (replace(before, epoch=10_000),))


async def signed_by_a_suspended_node(small: SmallRegistry) -> None:
    (before,) = [each for each in await small.registry.store.nodes(None, 9) if each.node == SECONDARY]
    await small.submit("local", "node-suspend.v1", {"node": SECONDARY})
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/LATE"))
    await slip_in(small, octets, (replace(before, epoch=10_000),))


async def signed_by_nobody_known(small: SmallRegistry) -> None:
    (before,) = [each for each in await small.registry.store.nodes(None, 9) if each.node == SECONDARY]
    small.keys[SECONDARY] = stranger = PrivateKey.generate()
    key = replace(before.keys[0], key_id=stranger.public.key_id, spki=stranger.public.spki)
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/FOREIGN"))
    await slip_in(small, octets, (replace(before, keys=(key,), epoch=10_000),))


async def with_an_altered_signature(small: SmallRegistry) -> None:
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/ALTERED"))
    request = pb.SubmitRequest.FromString(octets)
    request.signatures[0].sig = flipped(request.signatures[0].sig, 5)
    altered = request.SerializeToString()
    statement = pb.Statement(kind="identifiers.v1", actor=SECONDARY, accepted_at=int(small.clock.wall()))
    statement.envelope_sha256 = sha256(altered).digest()
    entry = Entry(
        statement=statement.SerializeToString(), artefacts=(altered,), result=b"", request=b"r", at=int(CLOCK.wall())
    )
    await commit(small, entry)


async def taken_twice(small: SmallRegistry) -> None:
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/TWICE"))
    await slip_in(small, octets)
    await slip_in(small, octets)


async def with_a_spent_nonce(small: SmallRegistry) -> None:
    nonce = "0123456789abcdef" * 2
    for text in ("88.111/ONE", "88.111/OTHER"):
        await slip_in(small, small.signed(SECONDARY, "identifiers.v1", registering(text), nonce=nonce))


async def long_after_its_time(small: SmallRegistry) -> None:
    """An envelope that somebody kept is taken when nobody would take it any more."""
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/KEPT"))
    await slip_in(small, octets, late=LIFETIME + SKEW + 1)


async def before_its_time(small: SmallRegistry) -> None:
    """What was signed today is said to have been there yesterday."""
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/EARLIER"))
    await slip_in(small, octets, late=-86_400)


async def for_a_time_without_end(small: SmallRegistry) -> None:
    ends = int(small.clock.wall()) + 10 * LIFETIME
    await slip_in(small, small.signed(SECONDARY, "identifiers.v1", registering("88.111/LONG"), expires_at=ends))


async def with_more_than_was_asked_for(small: SmallRegistry) -> None:
    """The store holds a record that the signed request does not name."""
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/ASKED"))
    other = await ready_of(small, small.signed(SECONDARY, "identifiers.v1", registering("88.111/NOT-ASKED")))
    plan = await PLANNERS["identifiers.v1"](other.request, small.registry.state)
    await slip_in(small, octets, writes=plan.writes)


async def with_another_result(small: SmallRegistry) -> None:
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/TOLD-OTHERWISE"))
    await slip_in(small, octets, result=pb.Result(outcomes=[Outcome.DELETED.value]).SerializeToString())  # type: ignore[list-item] # a number of the enumeration


async def with_a_row_refused_that_was_not(small: SmallRegistry) -> None:
    octets = small.signed(SECONDARY, "identifiers.v1", registering("88.111/REFUSED", partial=True))
    ready = await ready_of(small, octets)
    refused = Plan(outcomes=[Outcome.REFUSED], refusals={0: Fault(Reason.PREFIX_NOT_HELD)})
    await commit(small, entry_of(ready, refused))


async def without_leave(small: SmallRegistry) -> None:
    """A request that every planner refuses, written as if it had been allowed."""
    octets = small.signed(SECONDARY, "node-suspend.v1", {"node": SECONDARY})
    ready = await ready_of(small, octets)
    await commit(small, entry_of(ready, Plan(outcomes=[Outcome.REPLACED])))


@pytest.mark.parametrize(
    ("cheat", "kind"),
    [
        (signed_by_a_replaced_key, "signature"),
        (signed_by_a_suspended_node, "signature"),
        (signed_by_nobody_known, "signature"),
        (with_an_altered_signature, "signature"),
        (taken_twice, "repetition"),
        (with_a_spent_nonce, "repetition"),
        (long_after_its_time, "time"),
        (before_its_time, "time"),
        (for_a_time_without_end, "time"),
        (with_more_than_was_asked_for, "records"),
        (with_another_result, "result"),
        (with_a_row_refused_that_was_not, "statement"),
        (without_leave, "plan"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_what_a_node_wrote_against_the_rules_is_found(tmp_path: Path, cheat: Any, kind: str) -> None:
    """The tree and its head are right, and hashes fit: only verifying and planning again can tell."""
    async with opened(tmp_path, SetClock()) as small:
        await small.join(SECONDARY)
        await cheat(small)
        size = small.registry.journal.size
    findings = (await verified(tmp_path)).findings
    assert kind in {each.kind for each in findings}
    assert (findings[0].kind, findings[0].index) == (kind, size)
    if kind != "records":
        with pytest.raises(Fault) as refused:
            await rebuilt(tmp_path, tmp_path / "new")
        assert refused.value.variables == {"index": str(size), "kind": kind}


async def test_only_other_words_for_a_refusal_are_told_and_stop_no_rebuilding(tmp_path: Path) -> None:
    """Another version of this software has other sentences."""
    async with opened(tmp_path, SetClock()) as small:
        await small.join(SECONDARY)
        await small.submit(SECONDARY, "identifiers.v1", registering("88.112/X", "88.111/A", partial=True))
        size = small.registry.journal.size
    with altering(tmp_path, "entries") as transaction:
        entry = entry_decoder.decode(transaction.get(number(size)))
        result = pb.Result.FromString(entry.result)
        result.refusals[0].error.message = "Other words."
        transaction.put(number(size), entry_encoder.encode(replace(entry, result=result.SerializeToString())))
    (finding,) = (await verified(tmp_path)).findings
    assert (finding.index, finding.kind) == (size, "wording")
    target = await rebuilt(tmp_path, tmp_path / "new")
    assert rows(target, "entries") == rows(tmp_path, "entries")


# --- operators ---------------------------------------------------------------------------------------------------


async def test_an_operator_who_left_is_believed_when_named(tmp_path: Path) -> None:
    former = PrivateKey.generate()
    (tmp_path / "wang.pem").write_text(former.public.to_pem())
    data = tmp_path / "data"
    settings = OperatorSettings(name="wang", key=tmp_path / "wang.pem")
    async with opened(data, SetClock(), operators=(settings,)) as small:
        small.keys["wang"] = former
        await small.submit("wang", "prefix-allocate.v1", {"rows": [{"prefix": "88.1", "holder": "top"}]})
    assert "signature" in await kinds(data)
    assert (await verified(data, trust(data, former=[("wang", tmp_path / "wang.pem")]))).findings == []


def test_no_key_is_made_for_verifying(copy: Path) -> None:
    (copy / "operator.pem").unlink()
    pinned = trust(copy)
    assert pinned.operators.keys == {}
    (copy / "journal.pem").unlink()
    with pytest.raises(Fault) as refused:
        trust(copy)
    assert refused.value.reason is Reason.FILE_UNREADABLE
    assert trust(copy, pinned=pinned.verifier_key).verifier_key == pinned.verifier_key
    assert not {name for name in names(copy) if name.endswith(".pem")}


# --- where it is made --------------------------------------------------------------------------------------------


async def test_nothing_is_rebuilt_over_something(history: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").touch()
    with pytest.raises(Fault) as refused:
        await rebuilt(history, tmp_path / "new")
    assert refused.value.reason is Reason.STORE_EXISTS
    assert names(tmp_path) == ["new"]
    (tmp_path / "new" / "mine").unlink()
    assert await kinds(await rebuilt(history, tmp_path / "new")) == set()


async def test_a_used_store_is_no_target(history: Path, copy: Path) -> None:
    with (
        closing(Snapshot.open(history)) as held,
        closing(EmbeddedWriter.open(copy, owner=Owner.here("a test", clock=CLOCK))) as writer,
        pytest.raises(Fault) as refused,
    ):
        await rebuild(held, writer, trust(history), note=refuse, tell=silent(""))
    assert refused.value.reason is Reason.STORE_EXISTS


async def test_progress_is_told_up_to_the_end(history: Path, tmp_path: Path) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}

    def told(what: str) -> Callable[[int, int], None]:
        heard[what] = []
        return lambda done, total: heard[what].append((done, total))

    verdict = await verify(history, trust(history), scratch=tmp_path, clock=CLOCK, told=told)
    assert heard["planning again"] == [(each, ENTRIES) for each in range(1, ENTRIES + 1)]
    total = sum(verdict.rows.values())
    assert heard["comparing"][-1] == (total, total)
    assert heard["comparing"] == sorted(heard["comparing"])
    assert names(tmp_path) == []


# --- a journal that grows meanwhile -------------------------------------------------------------------------------


class Growing:
    """A journal of which a reader sees more each time that it goes on to the newest state."""

    def __init__(self, snapshot: Snapshot, size: int, step: int) -> None:
        self.renewed = 0
        self._snapshot = snapshot
        self._size = size
        self._step = step

    async def head(self) -> int:
        return min(self._size, await self._snapshot.head())

    async def tree_head(self) -> bytes:
        return await self._snapshot.tree_head()

    async def last(self) -> int:
        return min(self._size, await self._snapshot.last())

    async def kept(self, index: int) -> Kept:
        assert index <= self._size
        return await self._snapshot.kept(index)

    async def renew(self) -> None:
        self.renewed += 1
        self._size += self._step


async def test_a_journal_that_grows_is_followed_until_it_is_near(history: Path, tmp_path: Path) -> None:
    pace = Pace(entries=10, near=30)
    with (
        closing(Snapshot.open(history)) as held,
        closing(EmbeddedWriter.open(tmp_path, owner=Owner.here("a test", clock=CLOCK))) as writer,
    ):
        source = Growing(held, 80, 5)
        findings: list[Finding] = []
        made = await rebuild(source, writer, trust(history), note=findings.append, tell=silent(""), pace=pace)
    # From 80 entries on it gains five for ten that are planned, until no more than 30 are left.
    assert (made.size, source.renewed) == (120, 8)
    assert [each.kind for each in findings] == ["tree"]


ALLOCATE: Final = """
import asyncio, sys
from pathlib import Path
from resolver.clock import SetClock
from tests.small_registry import opened

async def run():
    async with opened(Path(sys.argv[1]), SetClock()) as small:
        await small.submit("local", "prefix-allocate.v1", {"rows": [{"prefix": "88.2", "holder": "top"}]})

asyncio.run(run())
"""


async def test_a_snapshot_stays_in_its_state_until_it_is_renewed(tmp_path: Path) -> None:
    async with opened(tmp_path, SetClock()) as small:
        await small.submit("local", "prefix-allocate.v1", {"rows": [{"prefix": "88.1", "holder": "top"}]})
    with closing(Snapshot.open(tmp_path)) as snapshot:
        assert await snapshot.head() == 1
        # One process opens a store once.
        output_of(ALLOCATE, tmp_path)
        assert await snapshot.head() == 1
        assert [key for key, _ in snapshot.rows("prefixes")] == [b"88.1"]
        await snapshot.renew()
        assert await snapshot.head() == 2
        assert [key for key, _ in snapshot.rows("prefixes")] == [b"88.1", b"88.2"]


# --- differences -------------------------------------------------------------------------------------------------


def test_differences_are_those_of_two_dicts() -> None:
    chance = random.Random(5)
    for _ in range(200):
        one, other = (some_rows(chance) for _ in range(2))
        if chance.random() < 0.5:
            other = {**one, **dict(list(other.items())[:3])}
        found = differences(iter(sorted(one.items())), iter(sorted(other.items())))
        expected = {key: (one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key)}
        assert {each.key: (each.held, each.planned) for each in found} == expected


def some_rows(chance: random.Random) -> dict[bytes, bytes]:
    count = chance.choice((0, 5, 2_000))
    return {b"%05d" % chance.randrange(3_000): b"%d" % chance.randrange(3) for _ in range(count)}


def test_a_finding_says_where_and_what() -> None:
    fault = Finding(index=7, kind="signature", detail="It does not hold.").fault()
    assert fault.detail == "Entry 7, signature: It does not hold."
    assert re.match("Tree head: ", Finding(index=0, kind="tree head", detail="x").fault().detail)
