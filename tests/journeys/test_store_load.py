"""`topnode store load`: around the servers of a ring, killed in the middle, and nobody writes before it has ended."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.bulk import BulkSettings
from resolver.store.cassandra.putting_in import RUNS, PuttingIn, Step, Tools
from resolver.store.cassandra.runs import RunWriter, rows_through
from resolver.units import Size
from resolver.v1 import resolver_pb2
from tests.journeys.conftest import TopNode
from tests.keyspaces import Keyspaces, writing
from tests.ring_site import Site
from tests.running_node import RunningNode, wait_until, within_a_second
from tests.services.rings import RunningRing
from tests.small_store import put
from tests.stores import listed, write
from tests.topnode import started, told, topnode

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(400)]

COUNT = 30_000
"""Rows of three chunks and a bit."""

STEPS = ["plan, sign and keep", "build SSTables", "put them into the ring"]

PREFIXES = ({"prefix": "88.1", "holder": "88.1"}, {"prefix": "88.1.7", "holder": "88.1"})


class Loading:
    """A load into the ring of a site, and the command for it."""

    def __init__(self, site: Site, ring: RunningRing, keyspace: str) -> None:
        self.file = site.folder / "rows.ndjson"
        self.folder = site.folder / "load"
        self.site = site
        self._ring = ring
        self._keyspace = keyspace
        self._key = site.folder / "anna-private.pem"
        site.anna.key.to_file(self._key)

    def command(self, **options: object) -> list[object]:
        """Give the arguments of `topnode`; `options` override those of the load."""
        all_options = {
            "name": "first",
            "folder": self.folder,
            "config": self.site.config,
            "data": self.site.folder / "loader",
            "actor": "anna",
            "key": self._key,
            "memory": "16MiB",
            "nodetool": shlex.join(self._ring.ring.nodetool(1, [])),
            **options,
        }
        words = [word for name, word in all_options.items() for word in (f"--{name}", word)]
        return ["store", "load", self.file, *words, "--json"]

    def applied(self) -> int:
        """Give the index of the newest entry that is in the ring."""
        rows = self._ring.cql(f"SELECT applied FROM {self._keyspace}.watermark")
        return rows[0].applied if rows else 0

    def takes_records_and_fails(self) -> None:
        """Have the ring take the SSTables of all records, and the load end with an error before it takes others."""
        program = self.site.folder / "fails-at-listing"
        program.write_text('#!/bin/sh\ncase "$*" in *listing*) exit 1;; esac\nexec "$@"\n')
        program.chmod(0o755)
        nodetool = shlex.join([str(program), *self._ring.ring.nodetool(1, [])])
        assert "fails-at-listing" in self.refused("TOOL_FAILED", nodetool=nodetool)
        assert self._ring.cql(f"SELECT COUNT(*) FROM {self._keyspace}.records")[0].count > COUNT // 2

    def refused(self, reason: str, **options: object) -> str:
        """Run the command, which must be refused for this reason, and give what it says."""
        run = topnode(*self.command(**options))
        said = run.stderr.decode()
        assert (run.returncode, reason in said) == (1, True), said
        return said


@pytest.fixture
def loading(tmp_path: Path, cassandra: RunningRing) -> Iterator[Loading]:
    with cassandra.keyspace() as keyspace:
        site = Site(tmp_path, cassandra, keyspace)
        told(topnode("store", "migrate", *site.options(), "--json"))
        yield Loading(site, cassandra, keyspace)


def row(identifier: str) -> dict[str, Any]:
    return {"identifier": identifier, "values": [{"index": 1, "type": "NAME", "data": f"part {identifier}"}]}


def sorted_rows(count: int) -> Iterable[dict[str, Any]]:
    """Rows below two prefixes, in the order of their keys; half of them are spelled otherwise than their keys."""
    yield from PREFIXES
    half = count // 2
    yield from (row(f"88.1.7/{'sn' if number % 2 else 'SN'}-{number:06}") for number in range(half))
    yield from (row(f"88.1/{'sn' if number % 2 else 'SN'}-{number:06}") for number in range(half, count))


def written(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))


def test_a_load_that_was_killed_goes_on_and_nobody_writes_before_it_has_ended(
    loading: Loading, top_node: TopNode
) -> None:
    """Resolvers go on meanwhile, and know its records within a second of the end and not before.

    Not even when the ring has them already.
    """
    site = loading.site
    written(loading.file, sorted_rows(COUNT))
    with started(*loading.command()) as child:
        wait_until(lambda: loading.applied() >= 2, 100, what="two chunks")
        os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=60)
    reached = loading.applied()
    node = top_node(*site.options(), workers=1, data=site.folder / "node")
    assert node.conditions()["owner"] == "standing by"
    wait_until(lambda: "The load first around the servers is not finished" in node.log.read_text())
    assert not _resolves(node, "88.1.7/SN-000001")
    loading.refused("LOAD_UNFINISHED", name="another", folder=site.folder / "elsewhere")
    said = loading.refused("FILE_UNREADABLE", folder=site.folder / "elsewhere")
    (records,) = re.findall(r"(\d+)\s+records\s+are\s+in\s+run\s+files", said)
    # One more entry may have been committed than was applied.
    runs = loading.folder / RUNS
    assert int(records) in {rows_through(runs, reached), rows_through(runs, reached + 1)}

    loading.takes_records_and_fails()
    for authoritative in (False, True):
        assert not _resolves(node, f"88.1.7/SN-{2 + authoritative:06}", authoritative=authoritative)

    child = started(*loading.command())
    output, errors = child.communicate(timeout=300)
    within_a_second(partial(_resolves, node, "88.1.7/SN-000001"))
    assert child.returncode == 0, errors.decode()
    summary = json.loads(output)
    assert summary["registered"] == COUNT + len(PREFIXES)
    assert summary["resumed_at_line"] > 8_000
    assert [step["step"] for step in summary["steps"]] == STEPS
    assert summary["index"] == loading.applied() > reached
    for number in (0, COUNT // 2 - 1, COUNT // 2, COUNT - 1):
        prefix = "88.1.7" if number < COUNT // 2 else "88.1"
        assert node.resolve(f"{prefix}/sn-{number:06}").outcome == resolver_pb2.OUTCOME_FOUND

    node.comes_to("serving")
    answered = node.submit(_replacing(site, "88.1/sn-015000"))
    assert answered.receipt.index == summary["index"] + 1
    within_a_second(lambda: node.resolve("88.1/SN-015000").version == answered.receipt.index)
    verdict = told(topnode("journal", "verify", *site.options(), "--data", site.folder / "loader", "--json"))
    assert verdict["findings"] == []
    assert verdict["entries"] == summary["index"] + 1


def test_rows_that_are_not_sorted_end_a_load_before_they_are_committed(loading: Loading) -> None:
    rows = list(sorted_rows(4))
    written(loading.file, [*rows, rows[-1]])
    assert "88.1/SN-000003 comes twice" in loading.refused("LOAD_UNSORTED")
    assert loading.applied() == 0
    # Nothing has begun: it may be loaded in any way.
    written(loading.file, rows)
    summary = told(topnode(*loading.command()))
    assert (summary["registered"], summary["steps"]) == (6, [])
    written(loading.file, [row("88.1/Z")])
    loading.refused("LOAD_PREFIX_IN_USE")


async def test_an_end_that_was_interrupted_is_gone_on_with_where_it_stood(
    keyspaces: Keyspaces, cassandra: RunningRing, tmp_path: Path
) -> None:
    """Nothing is built twice, and what a node has taken already is not missed."""
    done: list[str] = []
    told_of: list[Step] = []
    builder, nothing = (sys.executable, "-m", "deploy.cassandra.bulk"), ("false",)
    nodetool = tuple(cassandra.ring.nodetool(1, []))
    with keyspaces.one() as keyspace, RunWriter(tmp_path / RUNS) as runs:
        runs.add(1, [write(f"88.1/{number:04}", is_new=True) for number in range(1_000)])
        async with writing(keyspace) as writer:
            await put(writer)
            for tools, fails in (
                (Tools(builder=nothing, nodetool=nodetool), True),
                (Tools(builder=builder, nodetool=nothing), True),
                (Tools(builder=nothing, nodetool=nodetool), False),
                (Tools(builder=nothing, nodetool=nothing), False),
            ):
                put_in = PuttingIn(
                    writer,
                    tmp_path,
                    keyspace.settings.keyspace,
                    tools,
                    BulkSettings(memory=Size(8 << 20)),
                    clock=SystemClock(),
                    on_step=done.append,
                    on_done=told_of.append,
                )
                if fails:
                    with pytest.raises(Fault) as caught:
                        await put_in(runs)
                    assert caught.value.reason is Reason.TOOL_FAILED
                else:
                    await put_in(runs)
                    assert await listed(writer, b"88.1") == ([], 1)
            await put(writer)
            assert len((await listed(writer, b"88.1", limit=2_000))[0]) == 1_000
    assert done == [*["build SSTables"], *["build SSTables", "put them into the ring"] * 3]
    assert {each.rows for each in told_of} == {1_000}


def _replacing(site: Site, identifier: str) -> bytes:
    values = [{"index": 1, "type": "NAME", "data": "another"}]
    return site.anna.request(
        "identifiers.v1", {"rows": [{"identifier": identifier, "values": values, "overwrite": True}]}
    )


def _resolves(node: RunningNode, identifier: str, **options: Any) -> bool:
    return node.resolve(identifier, **options).outcome == resolver_pb2.OUTCOME_FOUND
