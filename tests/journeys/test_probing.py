"""Children that are probed, as real processes: incidents, the 51 % rule, takeovers in the journal, and hand-backs.

One top-level node with three secondary nodes below it, for all tests; probes come every half second.
"""

import asyncio
import json
import os
import re
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from nodes.probing.deciding import Due, Standing
from nodes.probing.seen import ChildSeen, NodesSeen
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_rpc_error
from resolver.trust.keys import PrivateKey
from resolver.v1 import resolver_pb2
from tests.running_node import RunningNode, wait_until
from tests.services.bad_networks import bad_network
from tests.services.ports import free_ports
from tests.signing import Signing, registering
from tests.topnode import told, topnode

WINDOW: Final = 6.0
PROBING: Final = {
    "TOPNODE_PROBING__EVERY": "500ms",
    "TOPNODE_PROBING__TIMEOUT": "500ms",
    "TOPNODE_PROBING__WINDOW": "6s",
    "TOPNODE_PROBING__LEAST": "10",
}
AGREED: Final = ("88.1", "88.2")
NAMES: Final = (*AGREED, "88.3")
SECONDS: Final = 60.0
"""A bound for a busy machine; what is waited for comes within two windows."""


class Child:
    """A secondary node, in one process, that keeps its address when it is started again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.key = PrivateKey.generate()
        self._folder = folder
        (self.port,) = free_ports(1)
        self.running = self._start()

    def start_again(self) -> None:
        self.running = self._start()

    def kill(self) -> None:
        self.running.process.kill()
        self.running.stop()

    def _start(self) -> RunningNode:
        listen = ["--workers", "0", "--listen", f"127.0.0.1:{self.port}"]
        environment = {"TOPNODE_NODE": self.name, "TOPNODE_PROBING__ENABLED": "false"}
        log = self._folder / f"{self.name}.log"
        return RunningNode(self._folder / self.name, log, listen, environment, tier="secondary").wait_ready()


class Top:
    """A top-level node that probes."""

    def __init__(self, top: RunningNode) -> None:
        self.top = top

    def seen(self) -> NodesSeen:
        status, text = self.top.get("/nodes")
        assert status == 200, text
        return NodesSeen.from_json(text.encode())

    def child(self, name: str) -> ChildSeen:
        return {each.node: each for each in self.seen().children}[name]

    def comes_to(self, name: str, so: Callable[[ChildSeen], bool], what: str) -> ChildSeen:
        """Wait until it is so of a child, and give how it is seen then."""

        def is_so() -> bool:
            return any(child.node == name and so(child) for child in self.seen().children)

        wait_until(is_so, SECONDS, what=f"{name} {what}", log=self.top.log)
        return self.child(name)

    def row(self, name: str) -> pb.Node:
        with self.top.registry_channel() as channel:
            call = channel.unary_unary(
                "/topnode.registry.v1.RegistryService/GetNode",
                pb.GetNodeRequest.SerializeToString,
                pb.GetNodeResponse.FromString,
            )
            response: pb.GetNodeResponse = call(pb.GetNodeRequest(node=name), timeout=10)
        return response.node

    def ask(self, identifier: str) -> resolver_pb2.Answer:
        """Ask recursively.

        Raises:
            Fault: as the node says.
        """
        options = resolver_pb2.Options(mode=resolver_pb2.MODE_RECURSIVE)
        request = resolver_pb2.ResolveRequest(identifier=identifier, options=options)
        with self.top.channel() as channel:
            call = channel.unary_unary(
                "/topnode.resolver.v1.ResolverService/Resolve",
                resolver_pb2.ResolveRequest.SerializeToString,
                resolver_pb2.ResolveResponse.FromString,
            )
            try:
                response: resolver_pb2.ResolveResponse = call(request, timeout=10)
            except grpc.RpcError as error:
                raise fault_of_rpc_error(error) from None  # type: ignore[arg-type] # it has the same methods
        return response.answer

    def join(self, child: Child, port: int) -> None:
        """Let a child join that is reached at this port."""
        spki = b64encode(child.key.public.spki).decode()
        application = {"node": child.name, "tier": "secondary", "organisation": "A works", "key": spki}
        signing = Signing(child.name, child.key, now=time.time())
        agreement = child.name in AGREED
        self.top.submit(signing.request("node-apply.v1", {**application, "agreement": agreement}))
        operator = self.top.operator()
        self.top.submit(operator.request("node-review.v1", {"node": child.name, "decision": "enable"}))
        endpoint = {"protocol": "grpc", "address": "127.0.0.1", "port": port}
        row = {"prefix": child.name, "holder": child.name, "hosting": "delegated", "endpoints": [endpoint]}
        self.top.submit(operator.request("prefix-allocate.v1", {"rows": [row]}))


class Stage(Top):
    """The top-level node and its children."""

    def __init__(self, folder: Path, workers: int) -> None:
        top = RunningNode(folder / "top", folder / "top.log", ["--workers", str(workers)], PROBING)
        super().__init__(top.wait_ready())
        self.children = {name: Child(name, folder) for name in NAMES}
        for child in self.children.values():
            self.join(child, child.port)

    def all_well(self) -> None:
        """Wait until every child is up, for a whole window."""

        def seen() -> bool:
            children = self.seen().children
            return len(children) == len(NAMES) and all(self._is_whole(each) for each in children)

        wait_until(seen, SECONDS, what="all well", log=self.top.log)

    def statement(self, index: int) -> pb.Statement:
        with self.top.registry_channel() as channel:
            call = channel.unary_unary(
                "/topnode.registry.v1.RegistryService/GetReceipt",
                pb.GetReceiptRequest.SerializeToString,
                pb.GetReceiptResponse.FromString,
            )
            response: pb.GetReceiptResponse = call(pb.GetReceiptRequest(index=index), timeout=10)
        return pb.Statement.FromString(response.receipt.statement)

    def register(self, name: str, *identifiers: str) -> list[int]:
        """Have a child deposit copies; give the outcomes."""
        signing = Signing(name, self.children[name].key, now=time.time())
        response = self.top.submit(signing.request("identifiers.v1", registering(*identifiers)))
        return list(response.result.outcomes)

    def is_answered_for(self, identifier: str) -> resolver_pb2.Answer:
        """Wait until an identifier is found out of the copies, in its child's place; give the answer."""

        def seen() -> bool:
            with suppress(Fault):
                return self._is_taken_over(self.ask(identifier))
            return False

        wait_until(seen, what=f"{identifier} out of the copies", log=self.top.log)
        return self.ask(identifier)

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run `topnode node ...` as the operator of the top-level node."""
        data = ("--registry", self.top.started.registry, "--data", str(self.top.data), "--json")
        return told(topnode("node", *arguments, *data))

    def close(self) -> None:
        for child in self.children.values():
            with suppress(ProcessLookupError):
                child.running.signal(signal.SIGCONT)
            child.running.stop()
        self.top.stop()

    @staticmethod
    def _is_whole(child: ChildSeen) -> bool:
        return child.standing is Standing.UP and not child.failed and not child.takeover and not child.incident

    @staticmethod
    def _is_taken_over(answer: resolver_pb2.Answer) -> bool:
        return answer.takeover and answer.outcome == resolver_pb2.OUTCOME_FOUND


def joined(text: bytes) -> bytes:
    """Give what was written for people on one line."""
    return b" ".join(text.split())


@contextmanager
def stage_of(folder: Path, workers: int) -> Iterator[Stage]:
    made = Stage(folder, workers)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_of(tmp_path_factory.mktemp("stage"), 1) as made:
        yield made


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The stage with everybody well, before and after."""
    shared.all_well()
    yield shared
    for child in shared.children.values():
        if child.running.process.poll() is not None:
            child.start_again()
        child.running.signal(signal.SIGCONT)


pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("probing")]


def test_a_killed_child_is_taken_over_and_gets_its_prefixes_back(stage: Stage) -> None:
    """Journalled both times; meanwhile its copies answer, and it writes as before."""
    name, child = "88.1", stage.children["88.1"]
    assert stage.register(name, "88.1/A") == [pb.OUTCOME_REGISTERED]
    child.kill()
    opened = stage.comes_to(name, lambda seen: seen.incident is not None, "has an incident").incident
    assert opened
    assert opened.cause == "unreachable"
    began = time.monotonic()
    assert not stage.row(name).takeover, "three failures are an incident, and no reason to take over"
    stage.comes_to(name, lambda seen: seen.takeover, "is taken over")
    assert time.monotonic() - began < SECONDS
    row = stage.row(name)
    assert (row.takeover, row.takeover_automatic) == (True, True)
    assert "probes failed" in row.takeover_reason
    statement = stage.statement(row.version)
    assert (statement.kind, statement.actor) == ("node-takeover.v1", "local")

    # What it deposits goes on, and is what answers in its place.
    stage.is_answered_for("88.1/A")
    assert stage.register(name, "88.1/MEANWHILE") == [pb.OUTCOME_REGISTERED]
    answer = stage.is_answered_for("88.1/MEANWHILE")
    assert answer.standing == resolver_pb2.STANDING_REGISTERED_COPY

    child.start_again()
    closed = stage.comes_to(name, lambda seen: seen.incident is None, "has recovered").incidents[0]
    assert (closed.number, closed.began_at) == (opened.number, opened.began_at)
    assert closed.ended_at > closed.began_at
    recovered = time.monotonic()
    assert stage.row(name).takeover, "one window must pass without a failure"
    stage.comes_to(name, lambda seen: not seen.takeover, "answers for itself again")
    assert time.monotonic() - recovered > WINDOW / 2
    row = stage.row(name)
    assert (row.takeover, row.takeover_automatic, row.takeover_since) == (False, False, 0)
    assert stage.statement(row.version).kind == "node-takeover.v1"


def test_a_stopped_child_without_an_agreement_is_an_operators(stage: Stage) -> None:
    """What an operator has begun is not ended by itself."""
    name, child = "88.3", stage.children["88.3"]
    child.running.signal(signal.SIGSTOP)
    seen = stage.comes_to(name, lambda seen: seen.due == Due.OPERATOR_TAKES_OVER, "is an operator's")
    assert (seen.standing, seen.takeover) == (Standing.DOWN, False)
    assert seen.incident
    assert seen.incident.cause == "no answer in time"
    begin = ("node", "takeover", name, "--begin", "--reason", "it does not answer", "--admin", "127.0.0.1:1")
    begun = topnode(*begin, "--registry", stage.top.started.registry, "--data", stage.top.data, "--json")
    assert told(begun)["outcomes"] == ["replaced"]
    assert begun.stderr.startswith(b"Whether top suspects itself is not known (--admin): http://127.0.0.1:1/nodes:")
    row = stage.row(name)
    assert (row.takeover, row.takeover_automatic, row.takeover_reason) == (True, False, "it does not answer")
    child.running.signal(signal.SIGCONT)
    stage.comes_to(name, lambda seen: seen.due == Due.OPERATOR_HANDS_BACK, "is an operator's to hand back")
    assert stage.row(name).takeover
    assert 'topnode_probe_operator_due{child="88.3",worker="prober"} 1.0' in stage.top.get("/metrics")[1]
    assert b"hand back, by an operator" in topnode("nodes", "--admin", stage.top.started.admin).stdout
    stage.command("takeover", name, "--end", "--reason", "it is back")
    stage.comes_to(name, lambda seen: not seen.takeover, "is handed back")


def test_nobody_is_taken_over_while_more_than_half_fail_together(stage: Stage) -> None:
    """Then it is more likely this node: it says so. When enough are back, the one that is not is taken over."""
    for name in AGREED:
        stage.children[name].running.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    for name in AGREED:
        stage.comes_to(name, lambda seen: seen.standing is Standing.DOWN, "is down")
    seen = stage.seen()
    assert (seen.suspects_itself, seen.failing, seen.counted) == (True, 2, 3)
    wait_until(lambda: time.monotonic() - stopped > 2 * WINDOW, what="two windows")
    assert stage.seen().suspects_itself
    assert not any(stage.row(name).takeover for name in NAMES)
    assert "suspects itself" in stage.top.log.read_text()
    assert 'topnode_probe_suspects_itself{worker="prober"} 1.0' in stage.top.get("/metrics")[1]
    plain = topnode("nodes", "--admin", stage.top.started.admin)
    assert b"2 of 3 nodes fail together: top suspects itself. Nothing is taken over by itself." in joined(
        plain.stderr
    )

    # It is an operator's to decide, who is told first.
    begin = ("node", "takeover", "88.2", "--begin", "--reason", "it is not us", "--admin", stage.top.started.admin)
    signed = ("--registry", stage.top.started.registry, "--data", stage.top.data)
    refused = topnode(*begin, *signed)
    assert refused.returncode == 2
    assert b"2 of 3 nodes fail together: top suspects itself." in joined(refused.stderr)
    assert not stage.row("88.2").takeover
    assert topnode(*begin, *signed, "--although-suspect").returncode == 0
    row = stage.row("88.2")
    assert (row.takeover, row.takeover_automatic, row.takeover_reason) == (True, False, "it is not us")
    ended = topnode("node", "takeover", "88.2", "--end", "--reason", "it was", *signed)
    assert (ended.returncode, ended.stderr) == (0, b""), "who ends one is asked for nothing"

    stage.children["88.2"].running.signal(signal.SIGCONT)
    stage.comes_to("88.1", lambda seen: seen.takeover, "is taken over")
    assert not stage.row("88.2").takeover
    stage.children["88.1"].running.signal(signal.SIGCONT)
    stage.comes_to("88.1", lambda seen: not seen.takeover, "answers for itself again")


def test_what_an_operator_ends_is_not_begun_again_before_the_child_was_up(stage: Stage) -> None:
    name = "88.2"
    stage.children[name].running.signal(signal.SIGSTOP)
    stage.comes_to(name, lambda seen: seen.takeover, "is taken over")
    stage.command("takeover", name, "--end", "--reason", "its copies are wrong")
    seen = stage.comes_to(name, lambda seen: seen.due == Due.OPERATOR_TAKES_OVER, "is an operator's")
    assert (seen.standing, seen.takeover) == (Standing.DOWN, False)
    # Longer than it is waited between two requests for the same.
    ended = time.monotonic()
    wait_until(lambda: time.monotonic() - ended > 12, what="twelve seconds")
    assert not stage.row(name).takeover
    assert stage.child(name).due == Due.OPERATOR_TAKES_OVER


def test_nodes_are_shown_and_counted(stage: Stage) -> None:
    admin = stage.top.started.admin
    shown = topnode("nodes", "--admin", admin)
    assert shown.returncode == 0
    lines = [line.strip() for line in shown.stdout.decode().splitlines()]
    assert [line.split()[:3] for line in lines if line.startswith("88.")] == [[n, "secondary", "up"] for n in NAMES]
    assert b"\x1b" not in shown.stdout, "no colours in a pipe"
    document = told(topnode("nodes", "--admin", admin, "--json"))
    assert [each["node"] for each in document["children"]] == list(NAMES)
    one = told(topnode("nodes", "88.1", "--admin", admin, "--json"))
    assert (one["standing"], one["failed"], one["availability"]) == ("up", 0, 1.0)
    assert set(one["latency_seconds"]) == {"p50", "p95", "p99"}
    assert b"endpoint" in topnode("nodes", "88.1", "--admin", admin).stdout
    unknown = topnode("nodes", "88.9", "--admin", admin)
    assert (unknown.returncode, b"NODE_UNKNOWN" in unknown.stderr) == (1, True)
    exposed = stage.top.get("/metrics")[1]
    assert 'topnode_probe_child_up{child="88.1",worker="prober"} 1.0' in exposed
    assert 'topnode_probe_children{standing="up",worker="prober"} 3.0' in exposed
    assert 'topnode_probe_availability_ratio{child="88.1",worker="prober"} 1.0' in exposed


def test_a_killed_prober_comes_back_and_callers_notice_nothing(stage: Stage) -> None:
    killed = stage.top.pids()["prober"]
    os.kill(killed, signal.SIGKILL)
    assert stage.top.get("/readyz")[0] == 200
    wait_until(lambda: stage.top.pids()["prober"] not in (0, killed) and stage.top.get("/nodes")[0] == 200)
    stage.comes_to("88.1", lambda seen: seen.standing is Standing.UP, "is probed again")


def test_another_node_at_a_childs_address_is_not_the_child(stage: Stage) -> None:
    """Whoever answers there says who it is, and that is looked at."""
    endpoint = {"protocol": "grpc", "address": "127.0.0.1", "port": stage.children["88.2"].port}
    signing = Signing("88.3", stage.children["88.3"].key, now=time.time())
    stage.top.submit(signing.request("route.v1", {"prefix": "88.3", "hosting": "delegated", "endpoints": [endpoint]}))
    try:
        seen = stage.comes_to("88.3", lambda seen: seen.incident is not None, "has an incident")
        assert seen.incident
        assert seen.incident.cause == "another node answers"
    finally:
        endpoint["port"] = stage.children["88.3"].port
        route = {"prefix": "88.3", "hosting": "delegated", "endpoints": [endpoint]}
        stage.top.submit(Signing("88.3", stage.children["88.3"].key, now=time.time()).request("route.v1", route))


@contextmanager
def seen_from_two(folder: Path) -> Iterator[tuple[Top, Top]]:
    """A top-level node without children yet, and another one, which is a vantage point of the first."""
    (admin,) = free_ports(1)
    settings = folder / "top.toml"
    settings.write_text(f'[[probing.vantage]]\nname = "north"\nadmin = "127.0.0.1:{admin}"\n')
    probing = {**PROBING, "TOPNODE_PROBING__LEAST": "8"}
    arguments = {
        "north": ("--admin", f"127.0.0.1:{admin}"),
        "top": ("--config", str(settings)),
    }
    windows = {"north": "12s", "top": "4s"}
    with ExitStack() as stack:
        running = {}
        for name, more in arguments.items():
            environment = {**probing, "TOPNODE_PROBING__WINDOW": windows[name]}
            data, log = folder / name, folder / f"{name}.log"
            running[name] = RunningNode(data, log, ["--workers", "0", *more], environment)
            stack.callback(running[name].stop)
        yield Top(running["top"].wait_ready()), Top(running["north"].wait_ready())


def figures(top: RunningNode, name: str, **labels: str) -> dict[str, float]:
    """A metric of the node with these labels, by process."""
    wanted = "".join(f'{label}="{value}",' for label, value in labels.items())
    exposed = top.get("/metrics")[1]
    found = re.findall(rf'^{name}{{{wanted}worker="([^"]+)"}} (\S+)$', exposed, re.MULTILINE)
    return {worker: float(value) for worker, value in found}


async def test_a_vantage_point_outvotes_the_own_way_to_a_child_until_it_is_gone(stage: Stage, tmp_path: Path) -> None:
    """The child is seen well from there: it is not down. Then the own probes decide alone, and it is taken over."""
    name = "88.1"

    def is_cut_off(seen: ChildSeen) -> bool:
        return seen.probes >= 7 and seen.failed == seen.probes

    def everybody_joins(top: Top, north: Top, port: int) -> None:
        for child in stage.children.values():
            north.join(child, child.port)
            top.join(child, port if child.name == name else child.port)
        # As many that no failures of the own window are half of all.
        top.comes_to(name, lambda seen: seen.elsewhere.probes >= 8 and seen.standing is Standing.UP, "is up")

    def look_from_both(top: Top) -> None:
        seen = top.comes_to(name, is_cut_off, "is cut off from here")
        assert (seen.standing, seen.takeover, top.row(name).takeover) == (Standing.UP, False, False)
        document = told(topnode("nodes", "--admin", top.top.started.admin, "--json"))
        assert document["vantage"] == [{"name": "north", "counts": True, "cause": ""}]

    def look_alone(top: Top, north: Top) -> None:
        def figure(name: str) -> float:
            return figures(top.top, f"topnode_probe_elsewhere_{name}", vantage="north")["worker-0"]

        failures = figure("failures_total")
        assert figure("counts") == 1
        north.top.process.kill()
        wait_until(lambda: figure("counts") == 0, SECONDS, what="it counts for nothing", log=top.top.log)
        assert figure("failures_total") > failures
        assert "the vantage point counts for nothing" in top.top.log.read_text()
        seen = top.comes_to(name, lambda seen: seen.takeover, "is taken over")
        assert (seen.standing, seen.elsewhere.probes) == (Standing.DOWN, 0)
        (vantage,) = top.seen().vantage
        assert (vantage.counts, bool(vantage.cause)) == (False, True)

    async with bad_network("127.0.0.1", stage.children[name].port) as network:
        with seen_from_two(tmp_path) as (top, north):
            await asyncio.to_thread(everybody_joins, top, north, network.port)
            network.reset()
            await asyncio.to_thread(look_from_both, top)
            await asyncio.to_thread(look_alone, top, north)


async def test_the_first_caller_of_a_child_that_fell_silent_is_told_at_once(stage: Stage, tmp_path: Path) -> None:
    """By every worker, after probes alone; not while the prober says nothing any more; and it is asked again."""
    name, both = "88.3", {"worker-0", "worker-1"}
    child = stage.children[name].running
    hosted = {"prefix": name, "holder": name, "hosting": "here"}
    child.submit(child.operator().request("prefix-allocate.v1", {"rows": [hosted]}, node=name))

    def is_told_down(top: Top, *, so: bool = True) -> bool:
        return figures(top.top, "topnode_child_told_down_endpoints") == dict.fromkeys(both, float(so))

    def everybody_asks(top: Top, port: int) -> None:
        for each in stage.children.values():
            top.join(each, port if each.name == name else each.port)

        def have_asked() -> bool:
            with suppress(Fault):
                top.ask(f"{name}/{time.monotonic_ns()}")
            answered = figures(top.top, "topnode_child_calls_total", child=name, outcome="answered")
            return answered.keys() == both

        wait_until(have_asked, SECONDS, what="both workers have asked", log=top.top.log)
        top.comes_to(name, lambda seen: bool(seen.probes), "is probed")

    def first_callers_are_told_at_once(top: Top) -> None:
        failed = figures(top.top, "topnode_child_calls_total", child=name, outcome="failed")
        wait_until(lambda: is_told_down(top), SECONDS, what="they are told", log=top.top.log)
        for number in range(6):
            began = time.monotonic()
            with pytest.raises(Fault) as told_at_once:
                top.ask(f"{name}/FIRST-{number}")
            assert time.monotonic() - began < 1.0, "half of the deadline"
            assert told_at_once.value.reason is Reason.CHILD_UNREACHABLE
        assert figures(top.top, "topnode_child_calls_total", child=name, outcome="failed") == failed

    def the_word_of_a_silent_prober_runs_out(top: Top) -> None:
        prober = top.top.pids()["prober"]
        os.kill(prober, signal.SIGSTOP)
        wait_until(lambda: is_told_down(top, so=False), SECONDS, what="it has run out", log=top.top.log)
        assert min(figures(top.top, "topnode_probe_telling_failures_total").values()) > 0
        os.kill(prober, signal.SIGCONT)
        wait_until(lambda: is_told_down(top), SECONDS, what="they are told again", log=top.top.log)

    def it_is_asked_again(top: Top) -> None:
        def is_answered() -> bool:
            with suppress(Fault):
                return top.ask(f"{name}/NONE").outcome == resolver_pb2.OUTCOME_ABSENT
            return False

        wait_until(is_answered, SECONDS, what="it is asked again", log=top.top.log)
        wait_until(lambda: is_told_down(top, so=False), SECONDS, what="nobody is told", log=top.top.log)

    async with bad_network("127.0.0.1", stage.children[name].port) as network:
        with ExitStack() as stack:
            node = RunningNode(tmp_path / "top", tmp_path / "log", ["--workers", "2"], PROBING)
            stack.callback(node.stop)
            top = Top(node.wait_ready())
            await asyncio.to_thread(everybody_asks, top, network.port)
            network.fall_silent()
            await asyncio.to_thread(first_callers_are_told_at_once, top)
            await asyncio.to_thread(the_word_of_a_silent_prober_runs_out, top)
            network.heal()
            await asyncio.to_thread(it_is_asked_again, top)


def test_in_one_process_too(tmp_path: Path) -> None:
    with stage_of(tmp_path, 0) as stage:
        stage.all_well()
        with suppress(Fault):
            stage.ask("88.1/A")
        stage.children["88.1"].kill()
        told_down = "topnode_child_told_down_endpoints"
        wait_until(lambda: figures(stage.top, told_down) == {"worker-0": 1}, SECONDS, log=stage.top.log)
        stage.comes_to("88.1", lambda seen: seen.takeover, "is taken over")
        assert stage.row("88.1").takeover_automatic
        assert json.loads(stage.top.get("/readyz")[1])["ready"]


def test_who_probes_nobody_says_so(tmp_path: Path) -> None:
    top = RunningNode(tmp_path / "top", tmp_path / "log", ["--workers", "1"], {"TOPNODE_PROBING__ENABLED": "false"})
    try:
        top.wait_ready()
        status, text = top.get("/nodes")
        assert (status, "probing.enabled" in text) == (503, True)
        assert set(top.conditions()) == {"owner", "worker-0"}
        shown = topnode("nodes", "--admin", top.started.admin)
        assert (shown.returncode, Reason.NODE_UNREACHABLE.name in shown.stderr.decode()) == (1, True)
    finally:
        top.stop()
