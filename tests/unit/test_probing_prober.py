"""The prober and its watches over small fakes: what is probed, what is decided, and what is asked of the registry."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.probing.children import Child
from nodes.probing.deciding import Due, Standing
from nodes.probing.probe import Cause, Look
from nodes.probing.prober import Prober
from nodes.probing.seen import ChildSeen
from nodes.probing.settings import ProbingSettings, VantageSettings
from nodes.probing.watch import Watch
from nodes.probing.window import Tally
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, Hosting, Prefix, Protocol
from resolver.trust.actors import Node, NodeState, Tier
from resolver.units import Duration
from tests.small_store import SmallStore

ONE, OTHER = (Endpoint(Protocol.GRPC, "192.0.2.1", port) for port in (1, 2))
SETTINGS = ProbingSettings(every=Duration(10), timeout=Duration(2), window=Duration(300), least=20)


def row(name: str, **more: Any) -> Node:
    return Node(**{"node": name, "tier": Tier.SECONDARY, "state": NodeState.ENABLED, "keys": (), **more})


class Endpoints:
    """The world outside: which endpoints are bad, and which are being looked at."""

    def __init__(self) -> None:
        self.bad: dict[int, Cause] = {}
        self.open: set[int] = set()
        self.fault: Fault | None = None

    def make(self, endpoint: Endpoint, _node: str) -> "FakeProbe":
        if self.fault:
            raise self.fault
        self.open.add(endpoint.port)
        return FakeProbe(self, endpoint.port)


class FakeProbe:
    def __init__(self, world: Endpoints, port: int) -> None:
        self._world = world
        self._port = port

    async def look(self) -> Look:
        return Look(self._port / 1_000, self._world.bad.get(self._port))

    async def close(self) -> None:
        self._world.open.discard(self._port)


# --- one child ------------------------------------------------------------------------------------------------------


class Watched:
    """A watch over two endpoints, with a clock that is moved by each probe."""

    def __init__(self, **more: Any) -> None:
        self.clock = SetClock()
        self.world = Endpoints()
        child = Child(row("88.1", **more), (ONE, OTHER))
        self.watch = Watch(child, SETTINGS, self.clock, self.world.make, asyncio.Semaphore(1))

    async def probe(self, times: int = 1, *, bad: bool = False) -> None:
        self.world.bad = dict.fromkeys((1, 2), Cause.SILENT) if bad else {}
        for _ in range(times):
            self.clock.advance(SETTINGS.every)
            await self.watch.probe()

    def become(self, **more: Any) -> None:
        self.watch.become(Child(replace(self.watch.child.row, **more), self.watch.child.endpoints))


async def test_a_child_is_there_as_long_as_one_endpoint_is() -> None:
    it = Watched()
    await it.probe()
    assert (it.watch.tally, it.watch.percentiles[50]) == (Tally(1, 0), 0.001)
    it.world.bad = {1: Cause.UNREACHABLE}
    await it.watch.probe()
    assert it.watch.tally == Tally(2, 0)
    seen = it.watch.seen()
    assert [(each.good, each.cause) for each in seen.endpoints] == [(False, "unreachable"), (True, "")]
    it.world.bad[2] = Cause.NOT_SERVING
    await it.watch.probe()
    assert it.watch.tally == Tally(3, 1)
    assert it.watch.judge(Tally()).fails_now


async def test_it_becomes_down_by_its_window_and_up_again() -> None:
    it = Watched()
    await it.probe(14)
    it.watch.judge(Tally())
    assert it.watch.seen().standing == "unknown"
    await it.probe(14, bad=True)
    it.watch.judge(Tally())
    assert it.watch.seen().standing == "up"
    await it.probe(1, bad=True)
    assert it.watch.judge(Tally()).down_for == 0
    assert it.watch.seen().standing == "down"
    await it.probe(3, bad=True)
    assert it.watch.judge(Tally()).down_for == 30
    assert (it.watch.incidents, it.watch.seen().standing) == (1, "down")
    await it.probe(29)
    assert it.watch.judge(Tally()).tally.failed == 1
    await it.probe(1)
    evidence = it.watch.judge(Tally())
    assert (evidence.tally, evidence.is_full) == (Tally(30, 0), True)
    assert it.watch.incident is None


async def test_what_is_seen_elsewhere_counts_too() -> None:
    it = Watched()
    await it.probe(30)
    it.watch.judge(Tally(60, 60))
    assert it.watch.standing is Standing.DOWN
    seen = it.watch.seen()
    assert (seen.probes, seen.failed, seen.elsewhere.failed) == (30, 0, 60)


async def test_a_takeover_that_ends_while_it_is_down_is_held_until_it_was_up() -> None:
    it = Watched(agreement=True, takeover=True)
    await it.probe(30, bad=True)
    it.watch.judge(Tally())
    it.become(takeover=False)
    assert it.watch.judge(Tally()).is_held
    await it.probe(20)
    assert not it.watch.judge(Tally()).is_held


async def test_a_takeover_that_ends_while_it_is_up_is_not_held() -> None:
    it = Watched(agreement=True, takeover=True)
    await it.probe(30)
    it.watch.judge(Tally())
    it.become(takeover=False)
    assert not it.watch.judge(Tally()).is_held


async def test_endpoints_come_and_go() -> None:
    it = Watched()
    await it.probe()
    assert it.world.open == {1, 2}
    foreign = Endpoint(Protocol.HANDLE_TCP, "192.0.2.1", 2_641)
    it.watch.become(Child(it.watch.child.row, (OTHER, foreign)))
    await it.probe()
    assert it.world.open == {2}
    assert [each.good for each in it.watch.seen().endpoints] == [True, None]
    assert it.watch.seen().endpoints[1].cause == "handle_tcp cannot be probed from here"
    it.watch.become(Child(it.watch.child.row, (foreign,)))
    await it.probe(2)
    assert it.watch.tally == Tally(2, 0), "who cannot be probed is not down"


async def test_files_of_this_machine_that_are_missing_are_not_the_childs_failure() -> None:
    it = Watched()
    it.world.fault = Fault(Reason.FILE_UNREADABLE, "ca.pem: no such file.")
    await it.probe(3)
    assert it.watch.tally == Tally(0, 0)
    assert it.watch.seen().endpoints[0].cause == "ca.pem: no such file."
    it.world.fault = None
    await it.probe()
    assert it.watch.tally == Tally(1, 0)
    assert it.watch.seen().endpoints[0].cause == ""


# --- all of them ----------------------------------------------------------------------------------------------------

QUICK = ProbingSettings(every=Duration(0.05), timeout=Duration(0.05), window=Duration(0.5), least=5)


class FakeActing:
    """A registry that does what it is asked for, or refuses; what was asked stands in `asked`."""

    def __init__(self, store: SmallStore) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.fault: Fault | None = None
        self._store = store

    async def take_over(self, node: str, reason: str) -> None:
        self._do("take over", node, reason, takeover=True, takeover_automatic=True)

    async def hand_back(self, node: str, reason: str) -> None:
        self._do("hand back", node, reason, takeover=False, takeover_automatic=False)

    def _do(self, act: str, node: str, reason: str, **changes: bool) -> None:
        self.asked.append((act, node, reason))
        if self.fault:
            raise self.fault
        self._store.commit(nodes=[row(node, agreement=True, **changes)])


class Stage:
    """A prober over three children at ports 1 to 3, of which the first has agreed to be taken over."""

    def __init__(self, settings: ProbingSettings = QUICK) -> None:
        self.world = Endpoints()
        self.store = SmallStore()
        names = ("88.1", "88.2", "88.3")
        endpoints = [Endpoint(Protocol.GRPC, "192.0.2.1", port) for port in (1, 2, 3)]
        prefixes = [
            Prefix(name, name, hosting=Hosting.DELEGATED, endpoints=(endpoint,))
            for name, endpoint in zip(names, endpoints, strict=True)
        ]
        self.store.commit(prefixes=prefixes, nodes=[row(name, agreement=name == "88.1") for name in names])
        self.acting = FakeActing(self.store)
        self.registry = CollectorRegistry()
        self.prober = Prober(
            self.store,
            self.acting,
            settings,
            SystemClock(),
            self.registry,
            own="top",
            make_probe=self.world.make,
        )

    def fail(self, *ports: int) -> None:
        self.world.bad = dict.fromkeys(ports, Cause.UNREACHABLE)

    def child(self, name: str = "88.1") -> ChildSeen | None:
        return {each.node: each for each in self.prober.seen().children}.get(name)

    async def comes_to(self, so: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not so():  # noqa: ASYNC110 - what is waited for happens in the prober, and nobody is told
                await asyncio.sleep(0.01)

    def is_(self, standing: Standing, name: str = "88.1") -> bool:
        child = self.child(name)
        return child is not None and child.standing is standing

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running(settings: ProbingSettings = QUICK) -> AsyncIterator[Stage]:
    stage = Stage(settings)
    task = asyncio.create_task(stage.prober.run())
    try:
        await stage.comes_to(lambda: stage.is_(Standing.UP, "88.3") and stage.is_(Standing.UP))
        yield stage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert stage.world.open == set(), "connections are closed"


async def test_what_is_due_is_asked_of_the_registry_once() -> None:
    async with running() as stage:
        stage.fail(1)
        await stage.comes_to(lambda: stage.acting.asked)
        await stage.comes_to(lambda: (child := stage.child()) and child.takeover)
        assert stage.sample("topnode_probe_takeover", child="88.1") == 1
        stage.fail()
        await stage.comes_to(lambda: (child := stage.child()) and child.standing is Standing.UP)
        # It may have been handed back by now.
        asked = [(act, node) for act, node, _ in stage.acting.asked]
        assert asked[0] == ("take over", "88.1")
        assert asked.count(asked[0]) == 1
        assert stage.sample("topnode_probe_takeovers_total", act="take_over", outcome="done") == 1
        assert stage.acting.asked[0][2].endswith("probes failed")


async def test_where_another_machine_writes_nothing_is_told_and_it_is_tried_later() -> None:
    async with running() as stage:
        stage.acting.fault = Fault(Reason.METHOD_UNKNOWN)
        stage.fail(1)
        await stage.comes_to(
            lambda: stage.sample("topnode_probe_takeovers_total", act="take_over", outcome="elsewhere")
        )
        child = stage.child()
        assert child
        assert (child.takeover, child.due) == (False, Due.TAKE_OVER)


async def test_without_an_agreement_or_leave_nothing_is_asked() -> None:
    async with running(replace(QUICK, takeover=False)) as stage:
        stage.fail(1)
        await stage.comes_to(lambda: (child := stage.child()) and child.due)
        child = stage.child()
        assert child
        assert child.due == Due.OPERATOR_TAKES_OVER
        assert stage.sample("topnode_probe_operator_due", child="88.1") == 1
        assert stage.acting.asked == []


async def test_what_an_operator_has_begun_only_an_operator_hands_back() -> None:
    async with running() as stage:
        stage.store.commit(nodes=[row("88.1", takeover=True)])
        await stage.comes_to(lambda: (child := stage.child()) and child.due == Due.OPERATOR_HANDS_BACK)
        assert stage.sample("topnode_probe_operator_due", child="88.1") == 1
        await asyncio.sleep(QUICK.settle * 3)
        child = stage.child()
        assert child
        assert child.takeover
        assert stage.acting.asked == []


async def test_more_than_half_failing_is_suspicious() -> None:
    async with running() as stage:
        stage.fail(1, 2)
        await stage.comes_to(lambda: stage.is_(Standing.DOWN) and stage.is_(Standing.DOWN, "88.2"))
        await asyncio.sleep(QUICK.settle * 3)
        seen = stage.prober.seen()
        assert (seen.suspects_itself, seen.failing, seen.counted) == (True, 2, 3)
        assert stage.acting.asked == []
        assert stage.sample("topnode_probe_suspects_itself") == 1


async def test_a_store_that_cannot_be_read_leaves_those_who_are_known(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as stage:
        stage.store.fault = Fault(Reason.STORE_UNAVAILABLE)
        await stage.comes_to(lambda: stage.sample("topnode_probe_read_failures_total"))
        assert len(stage.prober.watches) == 3
        assert "children cannot be read" in caplog.text


async def test_who_is_no_child_any_more_is_not_probed() -> None:
    async with running() as stage:
        stage.store.commit(nodes=[row("88.1", state=NodeState.SUSPENDED)])
        await stage.comes_to(lambda: stage.child() is None)
        await stage.comes_to(lambda: stage.world.open == {2, 3})


# --- what resolvers are told ----------------------------------------------------------------------------------------


async def test_endpoints_at_which_nobody_answers_are_told_with_since_when() -> None:
    async with running() as stage:
        assert stage.prober.silent() == {}
        stage.fail(1)
        await stage.comes_to(stage.prober.silent)
        ((endpoint, seconds),) = stage.prober.silent().items()
        assert endpoint.port == 1
        assert seconds >= QUICK.every
        stage.fail()
        await stage.comes_to(lambda: not stage.prober.silent())


async def test_nothing_is_told_while_this_node_suspects_itself_nor_shortly_after() -> None:
    """Endpoints that failed with all the others have three failures still, when not all are back."""
    slow = replace(QUICK, every=Duration(0.1), timeout=Duration(0.1), window=Duration(1))
    async with running(slow) as stage:
        stage.fail(1, 2)
        await stage.comes_to(lambda: stage.prober.seen().suspects_itself)
        await asyncio.sleep(4 * slow.every)
        assert stage.prober.silent() == {}
        stage.fail(1)
        await stage.comes_to(lambda: not stage.prober.seen().suspects_itself)
        over = SystemClock().monotonic()
        assert stage.prober.silent() == {}
        await stage.comes_to(stage.prober.silent)
        assert SystemClock().monotonic() - over > slow.every
        assert [endpoint.port for endpoint in stage.prober.silent()] == [1]


# --- vantage points -------------------------------------------------------------------------------------------------

STEADY = replace(QUICK, every=Duration(0.1), timeout=Duration(0.1), window=Duration(1))
"""Slow enough for answers over HTTP on a busy machine."""

NOBODY = "127.0.0.1:1"


@asynccontextmanager
async def serving(answer: Callable[[], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Serve this as what a prober elsewhere has seen; give the address."""

    async def serve(_request: web.Request) -> web.Response:
        return await answer()

    application = web.Application()
    application.router.add_get("/nodes", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def watching_from(**admins: str) -> ProbingSettings:
    return replace(STEADY, vantage=tuple(VantageSettings(name=name, admin=admins[name]) for name in admins))


async def test_what_probers_elsewhere_see_is_taken_into_the_verdict() -> None:
    """Two of them, so that theirs are two thirds of all probes, and the child is down though it answers here."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(running(replace(STEADY, takeover=False)))

        async def told() -> web.Response:
            return web.Response(body=other.prober.seen().to_json())

        elsewhere = await stack.enter_async_context(AsyncExitStack())
        admin = await elsewhere.enter_async_context(serving(told))
        here = await stack.enter_async_context(running(watching_from(north=admin, south=admin)))

        def both_count() -> bool:
            samples = [here.sample("topnode_probe_elsewhere_counts", vantage=each) for each in ("north", "south")]
            return samples == [1, 1] and not any(each.cause for each in here.prober.seen().vantage)

        await here.comes_to(both_count)
        await here.comes_to(lambda: (child := here.child()) and child.elsewhere.probes > child.probes)
        assert here.is_(Standing.UP)

        def is_down_by_them() -> bool:
            child = here.child()
            is_down = child is not None and child.standing is Standing.DOWN and child.elsewhere.failed > child.probes
            return is_down and here.sample("topnode_probe_child_up", child="88.1") == 0

        other.fail(1)
        await here.comes_to(is_down_by_them)
        assert here.sample("topnode_probe_availability_ratio", child="88.1") == 1, "that is of the own probes"
        await here.comes_to(lambda: here.acting.asked)
        assert here.acting.asked[0][:2] == ("take over", "88.1")
        assert here.is_(Standing.UP, "88.2")

        await elsewhere.aclose()
        await here.comes_to(lambda: here.is_(Standing.UP))
        assert here.sample("topnode_probe_elsewhere_counts", vantage="south") == 0
        await here.comes_to(lambda: here.sample("topnode_probe_elsewhere_failures_total", vantage="south"))


async def test_a_vantage_point_that_says_nothing_is_counted_and_changes_nothing() -> None:
    async def hang() -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def refuse() -> web.Response:
        return web.Response(status=503, text="This node probes nobody.")

    async with serving(hang) as silent, serving(refuse) as broken:
        said = {"nobody": NOBODY, "silent": silent, "broken": broken}
        async with running(watching_from(**said)) as stage:

            def failures() -> list[float]:
                samples = (stage.sample("topnode_probe_elsewhere_failures_total", vantage=each) for each in said)
                return [each or 0.0 for each in samples]

            await stage.comes_to(lambda: min(failures()) > 2)
            assert [stage.sample("topnode_probe_elsewhere_counts", vantage=each) for each in said] == [0, 0, 0]
            assert all(each.cause and not each.counts for each in stage.prober.seen().vantage)
            child = stage.child()
            assert child
            assert (child.standing, child.elsewhere.probes) == (Standing.UP, 0)
            stage.fail(1)
            await stage.comes_to(lambda: stage.acting.asked)
            assert stage.is_(Standing.DOWN)
            assert stage.is_(Standing.UP, "88.2")


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"every": Duration(0.01)}, "every"),
        ({"timeout": Duration(0)}, "timeout"),
        ({"timeout": Duration(11)}, "timeout"),
        ({"least": 0}, "least"),
        ({"window": Duration(199)}, "window"),
        ({"window": Duration(1e6)}, "window"),
        ({"children": 0}, "children"),
        ({"vantage": (VantageSettings(name="a", admin="h:1"),) * 2}, "vantage"),
    ],
)
def test_settings_that_make_no_sense_are_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(Fault) as caught:
        ProbingSettings(**said)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)


@pytest.mark.parametrize("said", [{"name": "", "admin": "h:1"}, {"name": "a", "admin": "h"}])
def test_a_vantage_point_has_a_name_and_an_address(said: dict[str, str]) -> None:
    with pytest.raises(Fault) as caught:
        VantageSettings(**said)
    assert caught.value.reason is Reason.SETTING_INVALID


def test_each_child_is_probed_at_least_once_before_one_of_them_is_taken_over() -> None:
    assert SETTINGS.settle >= 1.1 * SETTINGS.every + SETTINGS.timeout
