"""Writes while a node is taken over, as real processes: who may write, where it goes, and what comes after.

One top-level node and two secondary nodes below it, each with its own registry and outbox, for all tests. The way to
the resolver of the first, and its way up to the registry above, lead through networks that may fail.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import pytest

from nodes.client import Outcome, PrivateKey, RegistryClient, RegistryClientSettings, Row, Signer, Submitted, Value
from nodes.client.bulk import identifiers
from nodes.probing.deciding import Standing
from nodes.probing.seen import ChildSeen, NodesSeen
from nodes.upward.identity import KEY_FILE
from nodes.upward.watermark import FILE as WATERMARK
from registry.rows import PrefixRow
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_rpc_error
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from tests.nodes_below import allocated, is_told, prefix_of, registered, reviewed, signer
from tests.running_node import RunningNode, wait_until
from tests.services.bad_networks import NetworkApart
from tests.services.ports import free_ports

CHILD: Final = "88.111"
NEIGHBOUR: Final = "88.222"
PROBING: Final = {
    "TOPNODE_PROBING__EVERY": "300ms",
    "TOPNODE_PROBING__TIMEOUT": "300ms",
    "TOPNODE_PROBING__WINDOW": "3s",
    "TOPNODE_PROBING__LEAST": "8",
}
SECONDS: Final = 60.0
"""A bound for a busy machine; what is waited for comes within two windows."""

SHOWN: Final = 5.0
"""Likewise, for what is shown within a second."""

pytestmark = [pytest.mark.timeout(240)]


class Below:
    """A whole secondary node in one process, which keeps its addresses when it is started again."""

    def __init__(self, name: str, folder: Path, port: int, environment: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._address = f"127.0.0.1:{port}"
        self._environment = {
            "TOPNODE_NODE": name,
            "TOPNODE_PROBING__ENABLED": "false",
            "TOPNODE_UPWARD__ORGANISATION": "A works",
            "TOPNODE_UPWARD__AGREEMENT": "true",
            "TOPNODE_UPWARD__HEARTBEAT_EVERY": "200ms",
            **environment,
        }
        self.running = self._start()

    @property
    def data(self) -> Path:
        return self._folder / self.name

    @property
    def key(self) -> PrivateKey:
        """The one with which it signs above."""
        return PrivateKey.from_file(self.data / KEY_FILE)

    def start_again(self) -> None:
        self.running = self._start()

    def stop(self) -> None:
        self.running.stop()

    def kill(self) -> None:
        self.running.process.kill()
        self.running.stop()

    def wait_told(self) -> None:
        """Wait until the node above has taken everything."""
        wait_until(lambda: is_told(self.running), SECONDS, what="all is told", log=self.running.log)

    def _start(self) -> RunningNode:
        arguments = ["--workers", "0", "--listen", self._address]
        log = self._folder / f"{self.name}.log"
        return RunningNode(self.data, log, arguments, self._environment, tier="secondary").wait_ready()


class Stage:
    """The top-level node, the nodes below, and the networks: `way_down` to the child's resolver, `way_up` from it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        registry, port, another = free_ports(3)
        self.way_up = stack.enter_context(NetworkApart("127.0.0.1", registry))
        self.way_down = stack.enter_context(NetworkApart("127.0.0.1", port))
        above = ["--workers", "1", "--registry", f"127.0.0.1:{registry}"]
        self.top = RunningNode(folder / "top", folder / "top.log", above, PROBING).wait_ready()
        stack.callback(self.top.stop)
        ways = {"REGISTRY": self.way_up.address, "ENDPOINTS": f"grpc://{self.way_down.address}"}
        self.child = self._below(CHILD, folder, port, ways, stack)
        self.neighbour = self._below(NEIGHBOUR, folder, another, {"REGISTRY": self.top.started.registry}, stack)
        for below in (self.child, self.neighbour):
            reviewed(self.top, below.name)
            for node in (self.top, below.running):
                allocated(node, PrefixRow(prefix=below.name, holder=below.name))

    # --- the nodes -------------------------------------------------------------------------------------------------

    def begin_takeover(self) -> None:
        """Wait until the child is taken over, and the resolvers have heard of it."""
        self._comes_to(lambda seen: seen.takeover and seen.takeover_automatic, "is taken over")
        wait_until(lambda: self.answer(f"{CHILD}/nothing") == ("not here", True), SHOWN, log=self.top.log)

    def is_taken_over(self) -> bool:
        return self._seen().takeover

    def end_takeover(self) -> None:
        """Wait until the child answers for itself again."""
        self._comes_to(lambda seen: not seen.takeover, "is handed back")
        wait_until(lambda: self.answer(f"{CHILD}/nothing") == ("absent", False), SHOWN, log=self.top.log)

    def all_well(self) -> None:
        """Wait until both are up and have told everything."""
        self.way_up.heal()
        self.way_down.heal()
        if self.child.running.process.poll() is not None:
            self.child.start_again()
        self._comes_to(lambda seen: seen.standing is Standing.UP and not seen.takeover and not seen.failed, "is well")
        self.child.wait_told()

    # --- what is asked ---------------------------------------------------------------------------------------------

    def answer(self, identifier: str) -> tuple[str, bool]:
        """Ask the top recursively: the name of what is registered, or the outcome; and whether it is marked takeover.

        An answer that is marked is a registered copy, every time.
        """
        options = pb.Options(mode=pb.MODE_RECURSIVE)
        with self.top.channel() as channel:
            call = channel.unary_unary(
                "/topnode.resolver.v1.ResolverService/Resolve",
                pb.ResolveRequest.SerializeToString,
                pb.ResolveResponse.FromString,
            )
            try:
                given = call(pb.ResolveRequest(identifier=identifier, options=options), timeout=10).answer
            except grpc.RpcError as error:
                return fault_of_rpc_error(error).reason.name, False  # type: ignore[arg-type] # it has the same methods
        if given.outcome == pb.OUTCOME_FOUND:
            assert given.takeover is (given.standing == pb.STANDING_REGISTERED_COPY)
        return _named(given), given.takeover

    def says(self, expected: Mapping[str, str], *, takeover: bool) -> None:
        """Wait until the top answers so, recursively, below the child's prefixes."""
        wanted = {f"{CHILD}{suffix}": (text, takeover) for suffix, text in expected.items()}
        _come_to(wanted, lambda: {each: self.answer(each) for each in wanted})

    def holds(self, expected: Mapping[str, str]) -> None:
        """Wait until the top holds these copies itself."""
        wanted = {f"{CHILD}{suffix}": text for suffix, text in expected.items()}
        _come_to(wanted, lambda: {each: _named(self.top.resolve(each)) for each in wanted})

    def child_says(self, expected: Mapping[str, str]) -> None:
        """Wait until the child answers so to those who ask it, whatever the node above says of it."""
        wanted = {f"{CHILD}{suffix}": text for suffix, text in expected.items()}
        _come_to(wanted, lambda: {each: _named(self.child.running.resolve(each)) for each in wanted})

    def versions(self, *suffixes: str) -> list[int]:
        """Give the entries of the journal above by which the copies came to be what they are."""
        return [self.top.resolve(f"{CHILD}{each}").version for each in suffixes]

    # --- what is written -------------------------------------------------------------------------------------------

    def register(self, *rows: Row) -> list[Outcome]:
        """Register at the child's own registry."""
        return registered(self.child.running, *rows)

    def sign_above(self, who: Signer, *rows: Row) -> Submitted:
        """Sign a request about identifiers straight to the registry of the top.

        Raises:
            Fault: it was refused as a whole.
        """

        async def send() -> Submitted:
            settings = RegistryClientSettings(timeout=Duration(SECONDS))
            async with RegistryClient(self.top.started.registry, who, settings) as client:
                return await client.send(identifiers(rows, partial=True))

        return asyncio.run(send())

    def decide(self, act: str) -> None:
        """Suspend or resume the child, as an operator above."""

        async def send() -> None:
            async with RegistryClient(self.top.started.registry, signer(self.top)) as client:
                await (client.suspend if act == "suspend" else client.resume)(CHILD, "it is looked at")

        asyncio.run(send())

    # --- inside ----------------------------------------------------------------------------------------------------

    def _below(self, name: str, folder: Path, port: int, ways: Mapping[str, str], stack: ExitStack) -> Below:
        made = Below(name, folder, port, {f"TOPNODE_UPWARD__{key}": text for key, text in ways.items()})
        stack.callback(made.stop)
        return made

    def _seen(self) -> ChildSeen:
        text = self.top.get("/nodes")[1]
        return {each.node: each for each in NodesSeen.from_json(text.encode()).children}[CHILD]

    def _comes_to(self, so: Callable[[ChildSeen], bool], what: str) -> None:
        def seen() -> bool:
            children = json.loads(self.top.get("/nodes")[1])["children"]
            return any(each["node"] == CHILD for each in children) and bool(so(self._seen()))

        wait_until(seen, SECONDS, what=f"{CHILD} {what}", log=self.top.log)


def _named(answer: pb.Answer) -> str:
    if answer.outcome == pb.OUTCOME_FOUND:
        return answer.record.values[0].data.decode()
    return pb.Outcome.Name(answer.outcome).removeprefix("OUTCOME_").replace("_", " ").lower()


def _come_to(wanted: object, seen: Callable[[], object]) -> None:
    """Wait until this is seen, as what was registered is within a second; else say what differs."""
    with suppress(AssertionError):
        wait_until(lambda: seen() == wanted, SHOWN)
    assert seen() == wanted


def row(suffix: str, text: str) -> Row:
    return Row(identifier=f"{CHILD}{suffix}", values=[Value(index=1, type="NAME", data=text)], overwrite=True)


def deletion(suffix: str) -> Row:
    return Row(identifier=f"{CHILD}{suffix}", op="delete", reason="scrapped")


@contextmanager
def stage_of(folder: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(folder, stack)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_of(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def stage(shared: Stage) -> Stage:
    """The stage with everybody well and everything told."""
    shared.all_well()
    return shared


def test_a_registry_whose_resolver_is_down_writes_on_and_its_copies_answer(stage: Stage) -> None:
    """Registered, changed, deleted, registered again, and a prefix allocated: each is above at once, and answered."""
    assert stage.register(row("/A1", "one"), row("/A2", "two"), row("/A3", "three"), row("/A4", "four"))
    assert stage.register(deletion("/A4")) == [Outcome.DELETED]
    stage.child.wait_told()
    stage.says({"/A1": "one", "/A2": "two", "/A4": "absent"}, takeover=False)

    stage.way_down.reset()
    stage.begin_takeover()
    stage.says({"/A1": "one", "/A2": "two", "/A4": "not here"}, takeover=True)
    written = [row("/A1", "one again"), deletion("/A2"), row("/A4", "four again"), row("/A5", "five")]
    assert stage.register(*written) == [Outcome.REPLACED, Outcome.DELETED, Outcome.REPLACED, Outcome.REGISTERED]
    allocated(stage.child.running, PrefixRow(prefix=f"{CHILD}.7", holder=CHILD, hosting="here"))
    assert stage.register(row(".7/A6", "six")) == [Outcome.REGISTERED]
    stage.child.wait_told()
    expected = {"/A1": "one again", "/A2": "not here", "/A3": "three", "/A4": "four again", "/A5": "five"}
    stage.says({**expected, ".7/A6": "six"}, takeover=True)
    held = prefix_of(stage.top, f"{CHILD}.7")
    assert held
    assert held.holder == CHILD
    # Whoever asks the child itself hears nothing of a takeover.
    stage.child_says({"/A1": "one again", "/A2": "absent", ".7/A6": "six"})
    assert stage.is_taken_over()

    stage.way_down.heal()
    stage.end_takeover()
    stage.says({**expected, "/A2": "absent", ".7/A6": "six"}, takeover=False)
    stage.holds({**expected, ".7/A6": "six"})


def test_what_was_accepted_before_a_kill_is_delivered_late_and_goes_before_what_was_signed_above(
    stage: Stage,
) -> None:
    """Late writes arrive in order while the takeover lasts; what others signed above is a copy, and no more."""
    assert stage.register(*(row(f"/B{each}", "first") for each in range(1, 6)))
    stage.child.wait_told()
    stage.way_up.reset()
    stage.register(row("/B1", "second"), row("/B6", "first"))
    stage.register(row("/B1", "third"), deletion("/B2"), row("/B3", "of the child"))
    stage.child.kill()
    stage.begin_takeover()
    stage.says({"/B1": "first", "/B2": "first", "/B6": "not here"}, takeover=True)

    # An operator, and whoever has the child's key, may write here: that changes copies, which answer at once.
    taken = stage.sign_above(signer(stage.top), *(row(f"/B{each}", "of an operator") for each in (3, 4, 7)))
    assert taken.outcomes == (Outcome.REPLACED, Outcome.REPLACED, Outcome.REGISTERED)
    taken = stage.sign_above(Signer(CHILD, stage.child.key), row("/B5", "by its key"))
    assert taken.outcomes == (Outcome.REPLACED,)
    stage.says({"/B3": "of an operator", "/B5": "by its key", "/B7": "of an operator"}, takeover=True)
    # Nobody else may, and a suspended node may not either.
    refused = stage.sign_above(Signer(NEIGHBOUR, stage.neighbour.key), row("/B1", "of a neighbour"))
    assert refused.outcomes == (Outcome.REFUSED,)
    assert refused.refusals[0].reason is Reason.PREFIX_NOT_HELD
    assert reason_of(stage, Signer(CHILD, PrivateKey.generate())) is Reason.KEY_UNKNOWN
    stage.decide("suspend")
    assert reason_of(stage, Signer(CHILD, stage.child.key)) is Reason.NODE_NOT_ENABLED
    stage.decide("resume")

    # It is back, and can push, but callers cannot reach it yet.
    stage.way_down.reset()
    stage.way_up.heal()
    stage.child.start_again()
    stage.child.wait_told()
    pushed = {"/B1": "third", "/B2": "not here", "/B3": "of the child", "/B6": "first"}
    stage.says({**pushed, "/B4": "of an operator", "/B5": "by its key", "/B7": "of an operator"}, takeover=True)

    stage.way_down.heal()
    stage.end_takeover()
    own = {**pushed, "/B2": "absent", "/B4": "first", "/B5": "first", "/B7": "absent"}
    stage.says(own, takeover=False)
    stage.child_says(own)
    stage.holds({"/B4": "of an operator", "/B5": "by its key", "/B7": "of an operator"})
    # What the child does not know of is for people to take away; the rest comes of pushing everything again.
    assert stage.sign_above(signer(stage.top), deletion("/B7")).outcomes == (Outcome.DELETED,)
    stage.child.stop()
    (stage.child.data / WATERMARK).unlink()
    stage.child.start_again()
    stage.child.wait_told()
    stage.holds({suffix: text.replace("absent", "not here") for suffix, text in own.items()})


def reason_of(stage: Stage, who: Signer) -> Reason:
    with pytest.raises(Fault) as caught:
        stage.sign_above(who, row("/B1", "of somebody"))
    return caught.value.reason


def test_after_the_hand_back_the_child_answers_and_late_writes_change_nothing_that_is_newer(stage: Stage) -> None:
    before = stage.child.data.parent / "watermark-before"
    shutil.copy(stage.child.data / WATERMARK, before)
    names = [f"/C{each}" for each in range(20)]
    stage.register(*(row(each, "first") for each in names))
    stage.child.wait_told()
    stage.way_down.reset()
    stage.begin_takeover()
    stage.way_up.reset()
    stage.register(*(row(each, "second") for each in names[:10]))
    stage.register(*(row(each, "third") for each in names[:5]))
    stage.says({names[0]: "first", names[9]: "first"}, takeover=True)
    stage.way_down.heal()
    stage.end_takeover()
    newest = dict(zip(names, ["third"] * 5 + ["second"] * 5 + ["first"] * 10, strict=True))
    stage.says(newest, takeover=False)
    # The way up is still cut.
    stage.holds(dict.fromkeys(names, "first"))

    stage.way_up.heal()
    stage.child.wait_told()
    stage.holds(newest)
    versions = stage.versions(*names)
    # The outbox from before all of it, once more: what was first is not first again.
    stage.child.stop()
    shutil.copy(before, stage.child.data / WATERMARK)
    stage.child.start_again()
    stage.child.wait_told()
    stage.says(newest, takeover=False)
    stage.holds(newest)
    assert stage.versions(*names) == versions
