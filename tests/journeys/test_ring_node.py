"""Two machines of a top-level node on one ring: one writes, the other stands by, both answer."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.trust.receipts import Receipt, check_receipt
from resolver.v1 import resolver_pb2
from tests.journeys.conftest import TopNode
from tests.ring_site import Member, Site
from tests.running_node import RunningNode, wait_until, within_a_second
from tests.services.rings import RunningRing
from tests.topnode import told, topnode

pytestmark = pytest.mark.needs("cassandra")

TAKE_OVER_SECONDS = 10.0
"""What is promised."""


@pytest.fixture
def site(tmp_path: Path, cassandra: RunningRing) -> Iterator[Site]:
    """A ring whose keyspace is migrated, by the command that operators use."""
    with cassandra.keyspace() as keyspace:
        made = Site(tmp_path, cassandra, keyspace)
        applied = told(topnode("store", "migrate", *made.options(), "--json"))
        assert applied["applied"] == ["0001_store.cql", "0002_counts.cql", "0003_loads.cql"]
        yield made


@pytest.fixture
def machine(site: Site, top_node: TopNode) -> Callable[[str], RunningNode]:
    """A factory of the node's machines, by name."""
    return lambda name: top_node(*site.options(), workers=1, data=site.folder / name)


def test_the_one_that_stands_by_takes_over_from_one_that_was_killed(
    site: Site, machine: Callable[[str], RunningNode]
) -> None:
    """Within ten seconds, with all that was answered; whoever asks again gets the first answer, provable as ever."""
    first = machine("first")
    assert first.comes_to("serving") < TAKE_OVER_SECONDS
    second = machine("second")
    assert second.conditions()["owner"] == "standing by"
    assert second.get("/readyz")[0] == 200, "it answers, and is ready to write"
    member = Member(site, first)
    octets = member.signed("88.111/A")
    answered = first.submit(octets)
    assert _is_known(answered, site)
    within_a_second(lambda: _resolves(second, "88.111/A", answered.receipt.index))

    # Nobody starts it anew meanwhile: that one would stand by too, and sometimes be first.
    owner = first.pids()["owner"]
    os.kill(first.pid, signal.SIGSTOP)
    try:
        os.kill(owner, signal.SIGKILL)
        assert second.comes_to("serving") < TAKE_OVER_SECONDS
    finally:
        os.kill(first.pid, signal.SIGCONT)
    again = second.submit(octets)
    assert again.repeated_answer
    assert again.result == answered.result
    assert again.receipt.index == answered.receipt.index
    later = second.submit(member.signed("88.111/B"))
    assert later.receipt.index == answered.receipt.index + 1
    assert _is_known(later, site)
    for each in (first, second):
        within_a_second(partial(_resolves, each, "88.111/B", later.receipt.index))
    assert first.comes_to("standing by") < TAKE_OVER_SECONDS


def test_a_writer_that_was_frozen_past_its_lease_commits_nothing_more(
    site: Site, machine: Callable[[str], RunningNode]
) -> None:
    """What it is asked then is refused or answered by nobody, is not there, and it stands by from then on."""
    first = machine("first")
    first.comes_to("serving")
    member = Member(site, first)
    second = machine("second")
    frozen = first.pids()["owner"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert second.comes_to("serving") < TAKE_OVER_SECONDS
        index = second.submit(member.signed("88.111/B")).receipt.index
    finally:
        os.kill(frozen, signal.SIGCONT)
    with pytest.raises(Fault) as caught:
        first.submit(member.signed("88.111/LATE"))
    assert caught.value.reason in {Reason.STORE_FENCED, Reason.NODE_UNREACHABLE}
    wait_until(lambda: first.pids()["owner"] not in {0, frozen})
    assert first.comes_to("standing by") < TAKE_OVER_SECONDS
    assert "STORE_FENCED" in first.log.read_text()
    assert second.resolve("88.111/LATE").outcome == resolver_pb2.OUTCOME_ABSENT
    assert second.submit(member.signed("88.111/C")).receipt.index == index + 1


def test_one_that_is_stopped_in_order_is_followed_at_once(machine: Callable[[str], RunningNode]) -> None:
    """It lets go of the store, so that nobody waits until its lease is over."""
    first, second = machine("first"), machine("second")
    first.comes_to("serving")
    assert second.conditions()["owner"] == "standing by"
    assert first.stop() == 0
    assert second.comes_to("serving") < 4


def test_a_ring_that_is_not_ready_is_told_in_plain_words(
    tmp_path: Path, cassandra: RunningRing, top_node: TopNode
) -> None:
    """Without its tables, with another name for its data centre, with too few nodes, with no key of the journal."""
    with cassandra.keyspace() as keyspace:
        site = Site(tmp_path, cassandra, keyspace)
        sane = site.config.read_text()
        for changed, reason in (
            (sane, "STORE_NOT_MIGRATED"),
            (sane.replace(cassandra.data_centre, "elsewhere"), "elsewhere"),
            (sane.replace("key = ", "# key = ", 1), "registry.key"),
        ):
            site.config.write_text(changed)
            node = top_node(*site.options(), data=tmp_path / "data", ready=False)
            assert node.wait_ended() == 1
            assert reason in node.log.read_text()
        site.config.write_text(sane.replace("replicas = 1", "replicas = 3"))
        refused = topnode("store", "migrate", *site.options())
        assert refused.returncode == 1
        assert b"3 copies of each row need as many nodes; datacenter1 has 1" in refused.stderr


def test_a_ring_for_tests_is_refused_for_a_registry(site: Site) -> None:
    """It tells of writes before they are on its disk, and has one copy of each."""
    checked = topnode("store", "check", *site.options(), "--json")
    found: list[dict[str, Any]] = told(checked, 1)  # type: ignore[assignment] # a list here
    refused = {each["what"] for each in found if each["fitness"] == "refused"}
    assert refused == {"replicas", "commitlog_sync"}
    assert b"a power cut loses registrations" in topnode("store", "check", *site.options()).stdout


def _resolves(node: RunningNode, identifier: str, version: int) -> bool:
    answer = node.resolve(identifier)
    return answer.outcome == resolver_pb2.OUTCOME_FOUND and answer.version == version


def _is_known(response: pb.SubmitResponse, site: Site) -> bool:
    """Does the receipt prove the entry by the key that all machines share?"""
    message = response.receipt
    receipt = Receipt(
        index=message.index,
        statement=message.statement,
        leaf_hash=message.leaf_hash,
        checkpoint=message.checkpoint,
        proof=tuple(message.inclusion_proof),
    )
    check_receipt(receipt, site.verifier_key)
    return True
