"""The corpus: the same everywhere, any registration by its number, and what the node is modelled on."""

import hashlib
import json
import subprocess
import sys
from ipaddress import ip_address, ip_network

import pytest

from nodes.demo.corpus import RUN, Corpus, prefix_row
from nodes.demo.wuhan import PLANNED_NODES, SECONDARY_NODES
from resolver.handle import CaseRule, Handle
from resolver.record import DEFAULT_PERMISSIONS, DEFAULT_TTL, Permission, Relative
from resolver.routes import Hosting, RouteTable

SIZE = 60_000
DOCUMENTATION = [ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24")]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(SIZE)


@pytest.fixture(scope="module")
def rows(corpus: Corpus) -> list[bytes]:
    return b"".join(corpus.chunks()).splitlines()


def test_the_bytes_are_the_same_on_every_machine() -> None:
    """A change of this digest is a new corpus: raise VERSION with it."""
    corpus = Corpus(10_000)
    digest = hashlib.sha256(corpus.prefix_rows())
    for chunk in corpus.chunks():
        digest.update(chunk)
    assert digest.hexdigest() == "dc6abe6e92f230b972706c6658cbe631a677556e4fa750a8bc7d462d711d289b"


def test_as_a_script_it_prints_prefixes_and_then_registrations() -> None:
    """Under another hash seed, in another process, the same bytes come out."""
    command = [sys.executable, "-m", "nodes.demo.corpus", "1000"]
    printed = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True, timeout=60)
    corpus = Corpus(1_000)
    assert printed.stdout == corpus.prefix_rows() + b"".join(corpus.chunks())


def test_seven_secondary_and_25_enterprise_nodes_are_connected_and_five_planned() -> None:
    assert len(SECONDARY_NODES) == 7
    assert sum(len(node.enterprises) for node in SECONDARY_NODES) == 25
    assert len(PLANNED_NODES) == 5
    assert all(node.enterprises for node in PLANNED_NODES)


def test_every_prefix_is_its_own_and_stands_below_its_secondary_node() -> None:
    members = [(node.prefix, each.prefix) for node in SECONDARY_NODES + PLANNED_NODES for each in node.enterprises]
    assert all(below.rpartition(".")[0] == above for above, below in members)
    names = [below for _, below in members] + [node.prefix for node in SECONDARY_NODES + PLANNED_NODES]
    assert len(set(names)) == len(names)


def test_segments_that_differ_by_leading_zeros_are_two_enterprises() -> None:
    makers = {each.prefix: each.maker for node in SECONDARY_NODES for each in node.enterprises}
    assert makers["88.101.42"] != makers["88.101.0042"]


def test_endpoints_have_documentation_addresses_or_example_names() -> None:
    """Nothing that the demo shows leads to a real machine."""
    for prefix in Corpus(0, SECONDARY_NODES + PLANNED_NODES).prefixes:
        for endpoint in prefix.endpoints:
            if not endpoint.address.endswith(".example"):
                assert any(ip_address(endpoint.address) in network for network in DOCUMENTATION)


def test_some_prefixes_are_hosted_here_and_some_delegated() -> None:
    hostings = [prefix.hosting for prefix in Corpus(0).prefixes]
    assert hostings.count(Hosting.HERE) >= 5
    assert hostings.count(Hosting.DELEGATED) >= 15


def test_prefix_rows_hold_what_the_prefixes_say(corpus: Corpus) -> None:
    for prefix in corpus.prefixes:
        row = json.loads(prefix_row(prefix))
        assert (row["prefix"], row["holder"], row["state"]) == (prefix.text, prefix.holder, "enabled")
        assert (row["case"].upper(), row["hosting"].upper()) == (prefix.case.name, prefix.hosting.name)
        assert [each["address"] for each in row["endpoints"]] == [each.address for each in prefix.endpoints]


def test_every_number_has_one_row_in_order(corpus: Corpus, rows: list[bytes]) -> None:
    assert len(rows) == len(corpus) == SIZE
    for number in range(0, SIZE, 97):
        assert json.loads(rows[number])["identifier"] == corpus.identifier(number)


def test_a_row_and_the_registration_of_its_number_say_the_same(corpus: Corpus, rows: list[bytes]) -> None:
    """The registration is what answers are compared with; the row is what is loaded."""
    for number in range(0, SIZE, 131):
        row, expected = json.loads(rows[number]), corpus.registration(number)
        assert row["identifier"] == expected.identifier
        assert row["registrant"] == expected.prefix.text == expected.identifier.partition("/")[0]
        assert len(row["values"]) == len(expected.values)
        for said, value in zip(row["values"], expected.values, strict=True):
            assert (said["index"], said["type"], said["data"]) == (value.index, value.type, value.data.decode())
            assert Relative(said.get("ttl", DEFAULT_TTL)) == value.lifetime
            assert int(said.get("permissions", f"{DEFAULT_PERMISSIONS:b}"), 2) == value.permissions
            references = [(each["handle"], each["index"]) for each in said.get("references", [])]
            assert references == [(each.handle, each.index) for each in value.references]


def test_no_two_registrations_have_the_same_key(corpus: Corpus, rows: list[bytes]) -> None:
    """By the case rule of their prefixes, and none of them is what `unregistered` gives."""
    table = RouteTable()
    table.put(corpus.prefixes)

    def key(identifier: str) -> bytes:
        handle = Handle.from_text(identifier)
        sensitive = table.scope(handle.prefix.encode()).case_sensitive
        return handle.canonical(CaseRule.SENSITIVE if sensitive else CaseRule.INSENSITIVE)

    keys = {key(json.loads(row)["identifier"]) for row in rows}
    assert len(keys) == SIZE
    assert not any(key(corpus.unregistered(number)) in keys for number in range(0, SIZE, 97))


def test_below_the_case_sensitive_prefix_things_differ_by_case_only(rows: list[bytes]) -> None:
    identifiers = [json.loads(row)["identifier"] for row in rows]
    sensitive = [each for each in identifiers if each.startswith("88.1021.150/")]
    assert len({each.upper() for each in sensitive}) < len(sensitive) == len(set(sensitive))


def test_registrations_are_rich(corpus: Corpus) -> None:
    """Several values each, some restricted, some with a reference, one with its own time to live."""
    seen = [corpus.registration(number) for number in range(0, SIZE, 250)]
    assert all(len(each.values) >= 6 for each in seen)
    assert any(not value.permissions & Permission.PUBLIC_READ for each in seen for value in each.values)
    assert all(value.is_public for each in seen for value in each.public)
    assert any(value.references for each in seen for value in each.values)


def test_a_reference_names_a_registration(corpus: Corpus) -> None:
    """The lot of steel that a brake was made of is registered too."""
    registered = {corpus.identifier(number) for number in range(SIZE)}
    brakes = (corpus.registration(number) for number in range(0, SIZE, RUN))
    references = [value.references[0].handle for each in brakes for value in each.values if value.references]
    assert references
    assert set(references) <= registered


def test_shares_add_up_whatever_the_size() -> None:
    for size in (0, 1, 24, 999, 12_345):
        assert sum(chunk.count(b"\n") for chunk in Corpus(size).chunks()) == size


@pytest.mark.parametrize("number", [-1, 100])
def test_a_number_beyond_the_corpus_is_refused(number: int) -> None:
    with pytest.raises(IndexError):
        Corpus(100).identifier(number)
