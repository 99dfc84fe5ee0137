"""Real input: the package index of the Debian release that this machine runs, registered and resolved back.

Nobody here wrote these registrations: names with `+`, `~` and `:`, makers in many scripts, hashes, home pages. What
must come back is read out of the index by a regular expression; the rows were made by another parser.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from nodes.client import Client
from nodes.demo.node import running
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault

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
async def client(rows: Path, wanted: Wanted) -> AsyncIterator[Client]:
    """Run a node, load the rows through it, and give a client."""
    data = rows.parent / "data"
    async with running(data, workers=2, log=rows.parent / "log") as node:
        summary = await _load(rows, data)
        assert (summary["registered"], summary["rejected"]) == (len(wanted) + 1, 0)  # one is the prefix
        async with Client(node.address) as client:
            yield client


async def test_every_package_comes_back_value_by_value(client: Client, wanted: Wanted) -> None:
    """Singly and in batches: each value of each package, under its registered spelling, and nothing besides."""
    assert len(wanted) > 10_000
    singly = await _singly(client, list(wanted))
    assert _differences(wanted, singly) == []
    in_batches = await client.resolve_batch(list(wanted))
    assert _differences(wanted, in_batches) == []


async def test_what_is_not_in_the_index_is_absent(client: Client, wanted: Wanted) -> None:
    """Also what differs by case only: Debian compares versions byte by byte, so the prefix is case-sensitive."""
    others = [f"{name}~nothing" for name in list(wanted)[:500]]
    others += [swapped for name in list(wanted)[:500] if (swapped := name.swapcase()) not in wanted]
    answers = await client.resolve_batch(others)
    assert {answer.outcome if isinstance(answer, Answer) else answer for answer in answers} == {Outcome.ABSENT}


async def _singly(client: Client, names: Sequence[str]) -> list[Answer | Fault]:
    """Resolve one after another, by several callers at once; the answers in the order of the names."""
    answers: dict[str, Answer | Fault] = {}
    rest = iter(names)

    async def call() -> None:
        for name in rest:
            answers[name] = await client.resolve(name)

    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(call())
    return [answers[name] for name in names]


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
