"""The journal of a ring, verified by command: what fits, and whatever was altered on the ring past the registry."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from deploy.cassandra.ring import Ring
from nodes.auditing import read_trust
from nodes.settings import NodeSettings
from registry.rebuild import Finding, rebuild
from registry.ring_audit import compare_ring
from registry.rows import IdentifierRow, PrefixRow
from resolver.clock import SetClock, SystemClock
from resolver.counting import Figures
from resolver.store.cassandra.layout import JOURNAL, PARTS, hash_of, part_of
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.survey import Survey
from resolver.store.cassandra.writer import CassandraWriter
from resolver.store.counts import Delta
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.snapshot import Snapshot
from tests.habits.tree import ROOT
from tests.keyspaces import Keyspace, Keyspaces, writing
from tests.services.ports import free_ports
from tests.services.rings import RunningRing
from tests.signing import registering
from tests.small_registry import ENTRIES, SECONDARY, chunk_of, identifier_row, opened_over, submit_history
from tests.topnode import told, topnode

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(600)]

AGO: Final = 3_000
"""So many seconds ago the history begins: its nonces need not be remembered any more, and the ring forgets them by
its own clock, in minutes."""


class History(NamedTuple):
    """A keyspace with an entry of every kind, the folder with the keys, and a store that was made of its journal."""

    keyspace: Keyspace
    data: Path
    planned: Path
    size: int

    def config(self) -> Path:
        return configured(self.data, self.keyspace.settings)


def configured(data: Path, ring: CassandraSettings) -> Path:
    """Write the settings of a node on this ring, whose keys lie in this folder."""
    config = data / "node.toml"
    config.write_text(
        f"data = '{data}'\n[registry]\nkey = '{data}/journal.pem'\n[cassandra]\nhosts = {list(ring.hosts)}\n"
        f"port = {ring.port}\nkeyspace = '{ring.keyspace}'\nreplicas = 1\ndatacenter = '{ring.datacenter}'\n"
    )
    return config


@asynccontextmanager
async def surveyed(keyspace: Keyspace) -> AsyncIterator[Survey]:
    with closing(Survey(keyspace.session(), keyspace.settings, CollectorRegistry())) as survey:
        await survey.renew()
        yield survey


async def count(keyspace: Keyspace, delta: Delta) -> None:
    async with writing(keyspace) as writer:
        await writer.counts.add([delta])


async def counts_in(data: Path, source: str, day: int) -> list[tuple[bytes, Figures]]:
    with closing(EmbeddedWriter.open(data, owner=Owner.here("a test", clock=SystemClock()))) as store:
        return await store.counts.rows(source, day, None, 10)


async def plan_again(survey: Survey, data: Path, planned: Path) -> int:
    """Make a store of the journal, as verifying does; everything in it must fit."""
    findings: list[Finding] = []
    trust = read_trust(NodeSettings(data=data), data)
    with closing(EmbeddedWriter.open(planned, owner=Owner.here("a test", clock=SystemClock()))) as target:
        made = await rebuild(survey, target, trust, note=findings.append, tell=lambda _done, _total: None)
    assert findings == []
    return made.size


async def compared(survey: Survey, planned: Path, size: int, *, now: float | None = None) -> list[Finding]:
    findings: list[Finding] = []
    with closing(Snapshot.open(planned)) as rebuilt:
        await compare_ring(
            survey,
            rebuilt,
            size=size,
            now=time.time() if now is None else now,
            note=findings.append,
            tell=lambda _done, _total: None,
        )
    return findings


@pytest.fixture(scope="module")
def history(keyspaces: Keyspaces, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    data, planned = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("planned")

    async def write(keyspace: Keyspace) -> int:
        clock = SetClock(time.time() - AGO)
        async with writing(keyspace) as writer, opened_over(writer, data, clock) as small:
            assert await submit_history(small, clock) == ENTRIES
        async with surveyed(keyspace) as survey:
            return await plan_again(survey, data, planned)

    with keyspaces.one() as keyspace:
        yield History(keyspace, data, planned, asyncio.run(write(keyspace)))


# --- by command --------------------------------------------------------------------------------------------------


def test_verify_says_how_much_there_is_and_that_it_fits(history: History) -> None:
    config = history.config()
    document = told(topnode("journal", "verify", "--config", config, "--json"))
    assert (document["entries"], document["found"], document["findings"]) == (ENTRIES, 0, [])
    assert document["rows"]["records"] > 600
    assert all(rows for name, rows in document["rows"].items() if name != "nonces"), document["rows"]
    newest = told(topnode("journal", "show", "--config", config, "--json"))
    assert newest["entries"][-1]["index"] == ENTRIES
    assert newest["checkpoint"].startswith(f"topnode/top\n{ENTRIES}\n")
    entry = told(topnode("journal", "show", 1, "--config", config, "--json"))
    assert (entry["kind"], entry["actor"]) == ("node-apply.v1", SECONDARY)
    assert json.loads(topnode("journal", "show", 1, "--config", config, "--body").stdout)["node"] == SECONDARY


def test_rebuild_makes_an_embedded_store_of_the_ring_with_its_keys(history: History, tmp_path: Path) -> None:
    counted = [(b"88.111", Figures(5, 4))]
    asyncio.run(count(history.keyspace, Delta(source="worker 1", sequence=3, day=20_786, rows=counted)))
    made = told(topnode("journal", "rebuild", "--config", history.config(), "--to", tmp_path / "new", "--json"))
    assert made["entries"] == ENTRIES
    verified = told(topnode("journal", "verify", "--data", tmp_path / "new", "--json"))
    assert (verified["entries"], verified["root"], verified["found"]) == (ENTRIES, made["root"], 0)
    assert asyncio.run(counts_in(tmp_path / "new", "worker 1", 20_786)) == counted
    nowhere = topnode("journal", "rebuild", "--to", tmp_path / "other")
    assert (nowhere.returncode, b"Give --from" in nowhere.stderr) == (2, True)


def test_an_envelope_that_was_altered_is_found_and_the_exit_code_is_1(history: History) -> None:
    keyspace = history.keyspace
    place = f"idx = {ENTRIES} AND epoch = 1 AND place = 0 AND part = 0"
    ((octets,),) = keyspace.rows(f"SELECT octets FROM {{}}.artefacts WHERE {place}")
    changing = f"UPDATE {{}}.artefacts SET octets = 0x%s WHERE {place}"
    keyspace.rows(changing % flipped(octets).hex())
    try:
        run = topnode("journal", "verify", "--config", history.config())
    finally:
        keyspace.rows(changing % octets.hex())
    assert run.returncode == 1, run.stderr
    assert b"It is not the one that the statement names by its hash." in run.stdout
    assert b"what follows on the first may be its consequence" in run.stdout


# --- one damage at a time ----------------------------------------------------------------------------------------


def flipped(octets: bytes) -> bytes:
    return octets[:-1] + bytes((octets[-1] ^ 1,))


class Damage(NamedTuple):
    """What is done to the ring, how it is undone, and what is found: the kinds, and words of the first finding."""

    does: str
    undoes: str
    kinds: set[str]
    says: str


Find = Callable[[Keyspace], Damage]


def in_table(table: str, column: str, place: str, kind: str, *, found: str = "", takes_away: bool = False) -> Find:
    """Change a cell, or take its row away."""

    def make(keyspace: Keyspace) -> Damage:
        ((octets,),) = keyspace.rows(f"SELECT {column} FROM {{}}.{table} WHERE {place}")
        put = f"UPDATE {{}}.{table} SET {column} = 0x%s WHERE {place}"
        does = f"DELETE FROM {{}}.{table} WHERE {place}" if takes_away else put % flipped(octets).hex()
        says = "is missing" if takes_away else "is not what the journal comes to"
        return Damage(does, put % octets.hex(), {kind}, found or says)

    return make


def planted(table: str, names: str, values: str, place: str, kind: str) -> Find:
    """Put a row there that no entry wrote."""
    return lambda _keyspace: Damage(
        f"INSERT INTO {{}}.{table} ({names}) VALUES ({values})",
        f"DELETE FROM {{}}.{table} WHERE {place}",
        {kind},
        "a row that no entry wrote",
    )


def in_listing(*, key: bytes, spelling: str = "", hashed: int | None = None) -> Find:
    """List a key otherwise than it is registered, or not at all."""
    at = hash_of(key) if hashed is None else hashed
    place = f"prefix = 0x{key.partition(b'/')[0].hex()} AND bucket = 1 AND hash = {at} AND key = 0x{key.hex()}"

    def make(keyspace: Keyspace) -> Damage:
        rows = keyspace.rows(f"SELECT spelling FROM {{}}.listing WHERE {place}")
        put = f"UPDATE {{}}.listing SET spelling = '%s' WHERE {place}"
        away = f"DELETE FROM {{}}.listing WHERE {place}"
        undoes = put % rows[0][0] if rows else away
        says = "is missing" if not spelling else "is not what" if rows else ""
        return Damage(put % spelling if spelling else away, undoes, {"listing"}, says)

    return make


def first_of(table: str, name: str, column: str, kind: str, *, takes_away: bool = False) -> Find:
    """Damage any row of a table."""

    def make(keyspace: Keyspace) -> Damage:
        key, _ = min(keyspace.rows(f"SELECT {name}, {column} FROM {{}}.{table}"))
        place = f"{name} = 0x{key.hex()}" + (" AND part = 0" if table == "imports" else "")
        if column == "idx":
            ((answered,),) = keyspace.rows(f"SELECT idx FROM {{}}.answers WHERE {place}")
            put = f"UPDATE {{}}.answers SET idx = %d WHERE {place}"
            does = f"DELETE FROM {{}}.answers WHERE {place}" if takes_away else put % (answered + 1)
            return Damage(does, put % answered, {kind}, "is missing" if takes_away else "is not what")
        return in_table(table, column, place, kind, takes_away=takes_away)(keyspace)

    return make


def at_key(key: bytes) -> str:
    return f"key = 0x{key.hex()}"


def in_part(key: bytes) -> str:
    return f"part = {part_of(key)} AND {at_key(key)}"


A, B, PREFIX = b"88.111/A", b"88.111/B", b"88.111"
SINGLE = b"88.111/SINGLE-7"
"""It has no restricted values."""

NEW = b"88.111/PLANTED"
PLANTED_NONCE = (4_000_000_000).to_bytes(8, "big") + b"somebody\x00" + bytes(16)

DAMAGES: Final = {
    "a record changed": in_table("records", "public_body", at_key(A), "records"),
    "its restricted values changed": in_table("records", "full_body", at_key(A), "full", found="is not what"),
    "a record taken away": in_table("records", "public_body", at_key(SINGLE), "records", takes_away=True),
    "a record planted": planted("records", "key, public_body", f"0x{NEW.hex()}, 0x0802", at_key(NEW), "records"),
    "half a record planted": planted("records", "key, full_body", f"0x{NEW.hex()}, 0x0802", at_key(NEW), "records"),
    "a row of a listing lost": in_listing(key=A),
    "a spelling changed": in_listing(key=A, spelling="88.111/a"),
    "a deleted one listed": in_listing(key=B, spelling="88.111/B"),
    "one listed in the wrong place": in_listing(key=A, spelling="88.111/A", hashed=7),
    "a tile changed": first_of("tiles", "name", "octets", "tiles"),
    "a tile lost": first_of("tiles", "name", "octets", "tiles", takes_away=True),
    "a prefix changed": in_table("prefixes", "row", in_part(PREFIX), "prefixes"),
    "a prefix lost": in_table("prefixes", "row", in_part(PREFIX), "prefixes", takes_away=True),
    "a node changed": in_table("nodes", "row", in_part(PREFIX), "nodes"),
    "a node planted": planted(
        "nodes",
        "part, key, row",
        f"{PARTS - 1}, 0x{b'88.9'.hex()}, 0x00",
        f"part = {PARTS - 1} AND key = 0x{b'88.9'.hex()}",
        "nodes",
    ),
    "an answer changed": first_of("answers", "request", "idx", "answered"),
    "an answer lost": first_of("answers", "request", "idx", "answered", takes_away=True),
    "an answer planted": planted("answers", "request, idx", "0x00, 7", "request = 0x00", "answered"),
    "a nonce planted": planted(
        "nonces", "nonce", f"0x{PLANTED_NONCE.hex()}", f"nonce = 0x{PLANTED_NONCE.hex()}", "nonces"
    ),
    "an import set back": first_of("imports", "name", "row", "imports"),
    "a change told otherwise": in_table("feed", "change", "bucket = 0 AND idx = 9", "feed", found="changed is"),
    "a change lost": in_table("feed", "change", "bucket = 0 AND idx = 9", "feed", takes_away=True, found="missing"),
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_whatever_was_altered_is_found_and_nothing_else_is(history: History, what: str) -> None:
    """Each damage by itself; undone, everything fits again."""
    damage = DAMAGES[what](history.keyspace)
    async with surveyed(history.keyspace) as survey:
        history.keyspace.rows(damage.does)
        try:
            found = await compared(survey, history.planned, history.size)
        finally:
            history.keyspace.rows(damage.undoes)
        assert {each.kind for each in found} == damage.kinds, found
        assert len(found) == 1, found
        assert damage.says in found[0].detail


async def test_what_was_undone_fits_again(history: History) -> None:
    async with surveyed(history.keyspace) as survey:
        assert await compared(survey, history.planned, history.size) == []


async def test_a_nonce_that_must_be_remembered_and_is_not_is_found(history: History) -> None:
    """By the time of the newest entry; one that need not be remembered any more is nobody's loss."""
    with closing(Snapshot.open(history.planned)) as rebuilt:
        newest = max(row for row, _ in rebuilt.rows("nonces"))
    history.keyspace.rows(f"DELETE FROM {{}}.nonces WHERE nonce = 0x{newest.hex()}")
    async with surveyed(history.keyspace) as survey:
        found = await compared(survey, history.planned, history.size, now=0)
        assert newest[8:].hex() in "".join(each.detail for each in found if each.kind == "nonces")
        assert await compared(survey, history.planned, history.size) == []


async def test_an_entry_that_is_missing_is_named_and_those_behind_it_are_read(history: History) -> None:
    place = "bucket = 0 AND idx = 9 AND epoch = 1"
    columns = "statement, result, artefacts"
    ((statement, result, sizes),) = history.keyspace.rows(f"SELECT {columns} FROM {{}}.journal WHERE {place}")
    history.keyspace.rows(f"DELETE FROM {{}}.journal WHERE {place}")
    try:
        async with surveyed(history.keyspace) as survey:
            assert (await survey.kept(8)).index == 8
            with pytest.raises(Exception, match="The entry 9 is missing"):
                await survey.kept(9)
            assert (await survey.kept(10)).index == 10
            assert (await survey.kept(ENTRIES)).index == ENTRIES
    finally:
        history.keyspace.rows(
            f"INSERT INTO {{}}.journal (bucket, idx, epoch, {columns}) VALUES "
            f"(0, 9, 1, 0x{statement.hex()}, 0x{result.hex()}, {list(sizes)})"
        )


# --- a registry that goes on meanwhile ---------------------------------------------------------------------------


async def test_what_is_written_while_it_is_compared_is_passed_over_and_what_nobody_wrote_is_not(
    keyspaces: Keyspaces, tmp_path: Path
) -> None:
    """Records, listings, rows, answers, nonces and checkpoints that are newer than what was read of the journal."""
    clock, planned = SystemClock(), tmp_path / "planned"
    with keyspaces.one() as keyspace:
        async with (
            writing(keyspace) as writer,
            opened_over(writer, tmp_path, clock) as small,
            surveyed(keyspace) as survey,
        ):
            await small.join(SECONDARY)
            await small.submit(SECONDARY, "identifiers.v1", registering("88.111/A", "88.111/B", "88.111/C"))
            await small.take_chunk(chunk_of(identifier_row("88.111/D")), 1, is_last=False)
            await survey.renew()
            size = await plan_again(survey, tmp_path, planned)
            assert size == small.registry.journal.size
            assert await compared(survey, planned, size) == []

            rows = [{"op": "delete", "identifier": "88.111/B", "reason": "scrapped"}]
            await small.submit(SECONDARY, "identifiers.v1", {"rows": rows})
            await small.submit(SECONDARY, "identifiers.v1", registering("88.111/B", "88.111/E"))
            rows = [{"op": "delete", "identifier": "88.111/C", "reason": "scrapped"}]
            await small.submit(SECONDARY, "identifiers.v1", {"rows": rows})
            await small.join("88.112")
            await small.submit("88.112", "identifiers.v1", registering("88.112/A"))
            assert await compared(survey, planned, size) == []

            above = small.registry.journal.size + 1_000
            keyspace.rows(
                "INSERT INTO {}.records (key, public_body) VALUES (0x"
                + NEW.hex()
                + f", 0x0802) USING TIMESTAMP {above}"
            )
            (found,) = await compared(survey, planned, size)
            assert (found.kind, "88.111/PLANTED" in found.detail) == ("records", True)


async def test_a_ring_is_verified_while_one_of_three_nodes_is_down(ring: RunningRing, tmp_path: Path) -> None:
    """Every page is read from a quorum, whichever nodes hold it."""
    clock = SystemClock()
    with ring.keyspace() as name:
        settings = CassandraSettings(hosts=ring.hosts, port=ring.port, datacenter=ring.data_centre, keyspace=name)
        await migrate(settings, clock=clock, registry=CollectorRegistry())
        writer = await CassandraWriter.open(settings, owner="test", clock=clock, registry=CollectorRegistry())
        try:
            async with opened_over(writer, tmp_path, clock) as small:
                await small.join(SECONDARY)
                rows: list[PrefixRow | IdentifierRow] = [PrefixRow(prefix="88.200", holder="top")]
                rows += [identifier_row(f"88.200/{each}", each) for each in range(2_000)]
                await small.take_chunk(chunk_of(*rows), len(rows))
        finally:
            await writer.close()
        ring.kill(2)
        run = await asyncio.to_thread(topnode, "journal", "verify", "--config", configured(tmp_path, settings))
        assert run.returncode == 0, run.stdout + run.stderr
        ring.mend()


# --- a backup that was restored ----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "drill"
    if (tmp_path / "drill" / "ring").exists():
        deployed(Ring.remembered(tmp_path / "drill" / "ring"), "stop", "--kill")


def deployed(ring: Ring, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cassandra", "--folder", str(ring.folder), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_a_backup_restored_into_an_empty_ring_is_what_its_journal_comes_to(
    history: History, cassandra: RunningRing, place: Path
) -> None:
    """And the registry goes on over it: the head is the one that was copied."""
    native, storage, jmx = free_ports(3, *cassandra.hosts)
    ports = ("--native-port", native, "--storage-port", storage, "--jmx-port", jmx)
    keyspace = history.keyspace.settings.keyspace
    # They need not be remembered any more, and end by themselves, perhaps between two counts.
    history.keyspace.rows("TRUNCATE {}.nonces")
    tried = deployed(cassandra.ring, "drill", "--keyspace", keyspace, *ports, "--keep", place)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    spare = Ring.remembered(place / "ring")
    settings = CassandraSettings(
        hosts=tuple(spare.addresses), port=spare.native_port, datacenter=spare.data_centre, keyspace=keyspace
    )
    config = configured(history.data, settings)
    run = topnode("journal", "verify", "--config", config)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Everything in the keyspace {keyspace} of".encode() in run.stdout
    ((size,),) = history.keyspace.rows(f"SELECT size FROM {{}}.head WHERE name = '{JOURNAL}'")
    newest = told(topnode("journal", "show", "--config", config, "--json"))
    assert newest["entries"][-1]["index"] == size
