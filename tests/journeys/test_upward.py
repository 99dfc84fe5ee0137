"""A real top-level node and a real secondary one below it: what is registered below becomes known above, always."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from nodes.client import Options, Outcome, Row, Value
from nodes.upward.refused import FILE as REFUSED
from nodes.upward.watermark import FILE as WATERMARK
from registry.rows import PrefixRow
from resolver.query import Mode
from resolver.routes import Hosting, Prefix
from resolver.trust.verdicts import Trust
from resolver.v1 import resolver_pb2 as pb
from tests.fronts import clients
from tests.journeys.conftest import TopNode
from tests.nodes_below import allocated, is_told, prefix_of, registered, reviewed
from tests.running_node import ROOT, RunningNode, get, wait_until
from tests.services.ports import free_ports
from tests.topnode import topnode

CHILD: Final = "88.111"
MAKER: Final = "88.111.5"
SIGNED: Final = {"TOPNODE_FEDERATION__SIGNED": "true"}


def row(number: int, text: str = "a part", prefix: str = CHILD) -> Row:
    secret = Value(index=2, type="SECRET", data="only for its holder", permissions="1100")
    values = [Value(index=1, type="NAME", data=f"{text} {number}"), secret]
    return Row(identifier=f"{prefix}/SN-{number}", values=values, overwrite=True)


def name_at(node: RunningNode, identifier: str) -> str:
    """Give the name that a node tells of an identifier, or its outcome where it is not found."""
    answer = node.resolve(identifier)
    if answer.outcome != pb.OUTCOME_FOUND:
        return pb.Outcome.Name(answer.outcome).removeprefix("OUTCOME_").lower()
    assert [value.type for value in answer.record.values] == ["NAME"]
    return answer.record.values[0].data.decode()


def trust_of(node: RunningNode, identifier: str) -> list[tuple[str, Trust]]:
    """Ask a node to go down itself: the nodes on the way, the one with the record first, and what that is worth."""

    async def ask() -> list[list[tuple[str, Trust]]]:
        async with clients(node.fronts) as fronts:
            answers = [await client.resolve(identifier, Options(mode=Mode.RECURSIVE)) for client in fronts]
        return [[(hop.node, answer.trust) for hop in answer.hops] for answer in answers]

    said, also = asyncio.run(ask())
    assert said == also
    return said


def is_named(node: RunningNode, identifier: str, name: str) -> bool:
    return name_at(node, identifier) == name


class Pair:
    """A top-level node and a secondary one below it, which has joined."""

    def __init__(self, start: TopNode, folder: Path) -> None:
        self._start = start
        self._port, self._child_port = free_ports(2)
        self.top_data, self.child_data = folder / "top", folder / "child"
        self.top = self.start_top()
        self.child = self.start_child()

    def start_top(self) -> RunningNode:
        self.top = self._start("--registry", f"127.0.0.1:{self._port}", data=self.top_data, **SIGNED)
        return self.top

    def start_child(self) -> RunningNode:
        said = {
            "TOPNODE_NODE": CHILD,
            "TOPNODE_UPWARD__REGISTRY": f"127.0.0.1:{self._port}",
            "TOPNODE_UPWARD__ORGANISATION": "武汉示例",
            "TOPNODE_UPWARD__HEARTBEAT_EVERY": "200ms",
            **SIGNED,
        }
        address = f"127.0.0.1:{self._child_port}"
        self.child = self._start("--listen", address, tier="secondary", data=self.child_data, **said)
        return self.child

    def join(self) -> None:
        reviewed(self.top, CHILD)
        allocated(self.top, PrefixRow(prefix=CHILD, holder=CHILD))
        allocated(self.child, PrefixRow(prefix=CHILD, holder=CHILD))

    def wait_told(self) -> float:
        return wait_until(lambda: is_told(self.child), 60, what="all is told", log=self.child.log)


@pytest.fixture
def pair(top_node: TopNode, tmp_path: Path) -> Pair:
    return Pair(top_node, tmp_path)


def test_a_secondary_node_joins_and_what_is_registered_below_becomes_known_above(pair: Pair) -> None:
    assert registered(pair.child, row(0)) == [Outcome.REFUSED]
    pair.join()
    sensitive = PrefixRow(prefix=f"{CHILD}.7", holder=CHILD, case="sensitive", hosting="here")
    allocated(pair.child, sensitive)
    rows = [row(each) for each in range(2_500)]
    more = [Row(identifier=f"{CHILD}.7/{each}", values=[Value(index=1, type="NAME", data=each)]) for each in "aA"]
    assert set(registered(pair.child, *rows, *more)) == {Outcome.REGISTERED}
    pair.wait_told()
    assert name_at(pair.top, f"{CHILD}/SN-2499") == "a part 2499"
    # The workers above hear of the prefix, and of its case rule, within a moment.
    wait_until(lambda: [name_at(pair.top, f"{CHILD}.7/{each}") for each in "aA"] == ["a", "A"], 5, log=pair.top.log)
    answer = pair.top.resolve(f"{CHILD}/SN-0")
    assert answer.standing == pb.STANDING_REGISTERED_COPY
    for prefix in (CHILD, f"{CHILD}.7"):
        held = prefix_of(pair.top, prefix)
        assert held is not None
        assert (held.holder, held.hosting) == (CHILD, Hosting.DELEGATED)
        assert [f"{each.address}:{each.port}" for each in held.endpoints] == [pair.child.address]
    assert trust_of(pair.top, f"{CHILD}/SN-0") == [(CHILD, Trust.TRUSTED)]
    # Changed, deleted and disabled below: so it is above.
    rows = [row(1, "another"), Row(identifier=f"{CHILD}/SN-2", op="delete", reason="scrapped")]
    assert registered(pair.child, *rows) == [Outcome.REPLACED, Outcome.DELETED]
    pair.wait_told()
    assert [name_at(pair.top, f"{CHILD}/SN-{each}") for each in (1, 2)] == ["another 1", "not_here"]
    assert not (pair.child_data / REFUSED).exists()
    listed = topnode("node", "list", "--registry", pair.top.started.registry, "--data", pair.top_data, "--json")
    (found,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert found["heartbeat"]["applied_index"] >= 1
    assert pair.top.sample("topnode_child_heartbeat_age_seconds", child=CHILD) < 30
    assert (
        "heard"
        in topnode("node", "list", "--registry", pair.top.started.registry, "--data", pair.top_data).stdout.decode()
    )


def test_an_enterprise_below_a_secondary_node_becomes_known_at_the_top(
    pair: Pair, top_node: TopNode, tmp_path: Path
) -> None:
    maker = top_node(
        tier="enterprise",
        workers=0,
        data=tmp_path / "maker",
        TOPNODE_NODE=MAKER,
        TOPNODE_UPWARD__REGISTRY=pair.child.started.registry,
        TOPNODE_UPWARD__ORGANISATION="A maker",
    )
    pair.join()
    reviewed(pair.child, MAKER)
    allocated(pair.child, PrefixRow(prefix=MAKER, holder=MAKER))
    allocated(maker, PrefixRow(prefix=MAKER, holder=MAKER))
    assert registered(maker, row(1, prefix=MAKER)) == [Outcome.REGISTERED]
    for node in (pair.child, pair.top):
        wait_until(partial(is_named, node, f"{MAKER}/SN-1", "a part 1"), 60, log=node.log)
    # The secondary node sends on to the enterprise; the top sends to the secondary node.
    for node, below in ((pair.child, maker), (pair.top, pair.child)):
        held = prefix_of(node, MAKER)
        assert held is not None
        assert [f"{each.address}:{each.port}" for each in held.endpoints] == [below.address]
    # Signed at each step: by the maker for the secondary node, and by that one for the top.
    assert trust_of(pair.top, f"{MAKER}/SN-1") == [(MAKER, Trust.TRUSTED), (CHILD, Trust.TRUSTED)]


def test_the_node_above_is_killed_and_started_while_it_is_pushed_to(pair: Pair) -> None:
    pair.join()
    for lap in range(3):
        first = lap * 2_000
        assert set(registered(pair.child, *(row(each) for each in range(first, first + 2_000)))) == {
            Outcome.REGISTERED
        }
        pair.top.signal(signal.SIGKILL)
        pair.top.wait_ended()
        assert registered(pair.child, row(lap, "changed")) == [Outcome.REPLACED]
        pair.start_top()
    pair.wait_told()
    expected = [f"changed {each}" if each < 3 else f"a part {each}" for each in range(6_000)]
    assert names_at(pair.top, range(6_000)) == expected


def versions_at(node: RunningNode, numbers: range) -> list[int]:
    with node.channel() as channel:
        return [node.resolve(f"{CHILD}/SN-{each}", channel).version for each in numbers]


def names_at(node: RunningNode, numbers: range) -> list[str]:
    with node.channel() as channel:
        return [node.resolve(f"{CHILD}/SN-{each}", channel).record.values[0].data.decode() for each in numbers]


def test_an_outbox_that_is_replayed_changes_nothing(pair: Pair) -> None:
    pair.join()
    before = pair.child_data.parent / "watermark-before"
    wait_until(lambda: is_told(pair.child), what="the prefix is told")
    shutil.copy(pair.child_data / WATERMARK, before)
    registered(pair.child, *(row(each) for each in range(1_500)))
    pair.wait_told()
    versions = versions_at(pair.top, range(0, 1_500, 100))
    for _ in range(2):
        pair.child.stop()
        shutil.copy(before, pair.child_data / WATERMARK)
        pair.start_child()
        pair.wait_told()
    # The second time even the requests were the same.
    assert pair.child.sample("topnode_upward_repeated_answers_total") >= 1
    # Without the file everything is pushed again, by other requests: nothing of it changes anything.
    pair.child.stop()
    (pair.child_data / WATERMARK).unlink()
    pair.start_child()
    pair.wait_told()
    assert pair.child.sample("topnode_upward_rows_total", outcome="unchanged") >= 1_500
    assert names_at(pair.top, range(1_500)) == [f"a part {each}" for each in range(1_500)]
    assert versions_at(pair.top, range(0, 1_500, 100)) == versions


def test_the_child_is_killed_in_the_middle_and_nothing_that_it_took_is_lost(pair: Pair) -> None:
    pair.join()
    for lap in range(3):
        first = lap * 3_000
        registered(pair.child, *(row(each) for each in range(first, first + 3_000)))
        for pid in [pair.child.pid, *pair.child.pids().values()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pair.child.wait_ended()
        pair.start_child()
    pair.wait_told()
    assert names_at(pair.top, range(9_000)) == [f"a part {each}" for each in range(9_000)]


def test_a_long_outage_costs_those_below_nothing_and_is_made_up_for(pair: Pair) -> None:
    pair.join()
    pair.wait_told()
    pair.top.stop()
    registered(pair.child, *(row(each) for each in range(5_000)))
    registered(pair.child, *(row(each, "second") for each in range(0, 5_000, 10)))
    registered(pair.child, Row(identifier=f"{CHILD}/SN-3", op="delete"))
    assert name_at(pair.child, f"{CHILD}/SN-10") == "second 10"
    wait_until(lambda: pair.child.sample("topnode_upward_failures_total") >= 1, 60, what="it is tried")
    pair.child.stop()
    pair.start_child()
    assert name_at(pair.child, f"{CHILD}/SN-4999") == "a part 4999"
    pair.start_top()
    pair.wait_told()
    assert name_at(pair.top, f"{CHILD}/SN-3") in {"absent", "not_here"}
    assert name_at(pair.top, f"{CHILD}/SN-4990") == "second 4990"
    assert name_at(pair.top, f"{CHILD}/SN-4999") == "a part 4999"
    assert pair.child.sample("topnode_upward_enabled") == 1


@pytest.mark.parametrize("seconds", [3_600, -3_600])
def test_the_clock_of_the_child_is_wrong_by_an_hour(top_node: TopNode, tmp_path: Path, seconds: int) -> None:
    """The child's own clock signs at first; it is told the time above, corrects it, counts that, and is taken."""
    top = top_node()
    log = tmp_path / "child.log"
    script = Path(__file__).with_name("clock_child.py")
    arguments = [sys.executable, str(script), str(seconds), str(tmp_path / "child"), top.started.registry]
    with log.open("wb") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    try:
        assert process.stdout
        admin = json.loads(process.stdout.readline() or "{}").get("admin")
        assert admin, log.read_text()
        reviewed(top, CHILD)
        allocated(top, PrefixRow(prefix=CHILD, holder=CHILD))
        wait_until(lambda: (prefix_of(top, CHILD) or Prefix("x", "x")).hosting is Hosting.DELEGATED, 60, log=log)
        wait_until(lambda: name_at(top, f"{CHILD}/SN-1") == "a part 1", 60, what="a copy", log=log)
        offset = [line for line in get(admin, "/metrics")[1].splitlines() if "_clock_offset_seconds{" in line]
        assert float(offset[0].rpartition(" ")[2]) == pytest.approx(-seconds, abs=30)
        listed = topnode("node", "list", "--registry", top.started.registry, "--data", top.data, "--json")
        (found,) = [json.loads(line) for line in listed.stdout.splitlines()]
        assert abs(found["heartbeat"]["given_at"] - time.time()) < 60
        assert "the clock of the node above differs" in log.read_text()
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout:
            process.stdout.close()
