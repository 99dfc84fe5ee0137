"""Real input: the package index of the Debian release that this machine runs, registered and resolved back.

Nobody here wrote these registrations: names with `+`, `~` and `:`, makers in many scripts, hashes, home pages. What
must come back is read out of the index by a regular expression; the rows were made by another parser.
"""

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from nodes.client import Client
from nodes.demo.asking import Connection, read
from nodes.demo.node import running
from nodes.serving.started import Started
from resolver.answer import Answer, Outcome, Standing
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.errors import Fault
from resolver.query import Mode
from tests.fronts import addresses, clients

pytestmark = [
    pytest.mark.needs("debian-index"),
    pytest.mark.timeout(300),
    # One node for all of it.
    pytest.mark.asyncio(loop_scope="module"),
]

FIELDS = {
    "NAME": "Package",
    "VERSION": "Version",
    "MAINTAINER": "Maintainer",
    "SHA256": "SHA256",
    "SIZE": "Size",
    "HOMEPAGE": "Homepage",
    "SECTION": "Section",
    "SUMMARY": "Description",
}
CALLERS = 32
CONNECTIONS = 8

Wanted = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def index() -> str:
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True, timeout=60)
    return listed.stdout.decode()


@pytest.fixture(scope="module")
def wanted(index: str) -> Wanted:
    """Say what must come back, from the text of the index alone."""
    found = {}
    for stanza in re.split(r"\n{2,}", index.strip()):
        texts = {kind: _text(stanza, field) for kind, field in FIELDS.items()}
        values = {kind: text.encode() for kind, text in texts.items() if text}
        if "SHA256" in values:
            values["SHA256"] = bytes.fromhex(texts["SHA256"])
        name = f"88.199.12/{texts['NAME']}_{texts['VERSION']}_{_text(stanza, 'Architecture')}"
        found[name] = values
    return found


def _text(stanza: str, field: str) -> str:
    match = re.search(rf"^{field}:[ \t]*(.*?)[ \t]*$", stanza, re.MULTILINE)
    return match[1] if match else ""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, index: str) -> Path:
    """Have the script turn the index into rows."""
    folder = tmp_path_factory.mktemp("debian")
    (folder / "index").write_text(index, encoding="utf-8")
    with (folder / "packages.ndjson").open("wb") as printed:
        command = [sys.executable, "-m", "nodes.demo.debian", str(folder / "index")]
        subprocess.run(command, stdout=printed, check=True, timeout=120)
    return folder / "packages.ndjson"


async def _load(rows: Path, data: Path) -> dict[str, int]:
    command = [sys.executable, "-m", "nodes", "load", str(rows), "--data", str(data), "--json"]
    loading = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await loading.communicate()
    assert loading.returncode == 0, said
    summary: dict[str, int] = json.loads(said)
    return summary


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(rows: Path, wanted: Wanted) -> AsyncIterator[Started]:
    """Run a node, and load the rows through it."""
    data = rows.parent / "data"
    async with running(data, workers=2, log=rows.parent / "log") as node:
        summary = await _load(rows, data)
        assert (summary["registered"], summary["rejected"]) == (len(wanted) + 1, 0)  # one is the prefix
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts(node: Started) -> AsyncIterator[list[Client]]:
    async with clients(addresses(node)) as fronts:
        yield fronts


async def test_every_package_comes_back_value_by_value_singly(node: Started, wanted: Wanted) -> None:
    """Each by a call of its own, which the node counts: each value under its registered spelling, nothing besides."""
    assert len(wanted) > 10_000
    before = await _calls(node)
    assert _differences(wanted, await _singly(node, list(wanted))) == []
    counted = await _calls(node) - before
    assert counted["Resolve"] >= len(wanted)
    assert counted["BatchResolve"] == 0


async def test_every_package_comes_back_value_by_value_in_batches(
    node: Started, fronts: list[Client], wanted: Wanted
) -> None:
    for client in fronts:
        before = await _calls(node)
        assert _differences(wanted, await client.resolve_batch(list(wanted))) == []
        counted = await _calls(node) - before
        assert counted["BatchResolve"] >= len(wanted) // BATCH_IDENTIFIERS
        assert counted["Resolve"] == 0


async def test_what_is_not_in_the_index_is_absent(fronts: list[Client], wanted: Wanted) -> None:
    """Also what differs by case only: Debian compares versions byte by byte, so the prefix is case-sensitive."""
    others = [f"{name}~nothing" for name in list(wanted)[:500]]
    others += [swapped for name in list(wanted)[:500] if (swapped := name.swapcase()) not in wanted]
    for client in fronts:
        answers = await client.resolve_batch(others)
        assert {answer.outcome if isinstance(answer, Answer) else answer for answer in answers} == {Outcome.ABSENT}


async def _singly(node: Started, names: Sequence[str]) -> list[Answer | Fault]:
    """Resolve each by a unary call, several at once, at either front; the answers in the order of the names.

    Not by the client: what is asked of that at the same time travels in batches.
    """
    answers: dict[str, Answer | Fault] = {}
    rest = iter(names)

    async def call(connection: Connection) -> None:
        for name in rest:
            (answers[name],) = read(await connection.send([name], Mode.LOCAL), 1)

    async with AsyncExitStack() as opened, asyncio.TaskGroup() as callers:
        for address in islice(cycle(addresses(node)), CONNECTIONS):
            connection = Connection(address)
            opened.push_async_callback(connection.close)
            for _ in range(CALLERS // CONNECTIONS):
                callers.create_task(call(connection))
    return [answers[name] for name in names]


async def _calls(node: Started) -> Counter[str]:
    """Give the answered calls of all workers by their method, as the node's metrics tell them."""
    text = await asyncio.to_thread(_metrics, node)
    calls: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "topnode_resolver_calls_total" and sample.labels["code"] == "OK":
                calls[sample.labels["method"]] += int(sample.value)
    return calls


def _metrics(node: Started) -> str:
    with urllib.request.urlopen(f"http://{node.admin}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _differences(wanted: Wanted, answers: Sequence[Answer | Fault]) -> list[str]:
    return list(_each_difference(wanted, answers))[:10]


def _each_difference(wanted: Wanted, answers: Sequence[Answer | Fault]) -> Iterator[str]:
    kinds = list(FIELDS)
    for (name, values), answer in zip(wanted.items(), answers, strict=True):
        if isinstance(answer, Fault) or answer.record is None:
            yield f"{name}: {answer}"
            continue
        if answer.outcome is not Outcome.FOUND or answer.standing is not Standing.AUTHORITATIVE:
            yield f"{name}: {answer.outcome}, {answer.standing}"
        if answer.record.identifier.to_text() != name:
            yield f"{name}: comes back as {answer.record.identifier}"
        told = {value.type: value.data for value in answer.record.values}
        if told != values or len(answer.record.values) != len(values):
            yield f"{name}: {told} instead of {values}"
        if any(value.index != kinds.index(value.type) + 1 for value in answer.record.values):
            yield f"{name}: an index is not that of its type"
