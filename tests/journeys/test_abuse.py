"""A node whose port is abused keeps its memory, its CPU and its manners: once for each front and each kind of abuse.

What is compared is this machine with itself: how a polite caller fares alone, and beside the abuse. The bounds are
wide enough for a busy machine; a flood that is let through, or kept, is beyond them by far.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import pytest

from resolver.v1 import resolver_pb2 as pb
from tests import abuse
from tests.abuse import MALFORMED, PROBES, Seen
from tests.abused_node import abused_node, run_probe
from tests.fronts import FRONTS, GRPCIO, KINDS, NATIVE, Front
from tests.polite import Cost, PoliteCaller, percentile
from tests.running_node import RunningNode
from tests.services.http2 import Connection

MEBI: Final = 1 << 20
ATTEMPTS: Final = 3
AFTERWARDS: Final = 0.3
"""Seconds for which a probe's effect is looked at beyond its end."""


class Bounds(NamedTuple):
    """What one probe may cost a server, and those who are polite."""

    mebibytes: int = 64
    """Above what it had."""

    cpu: float = 3.0
    """Seconds, for the polite caller too."""

    slack: float = 1.0
    """Seconds by which that caller's p99 may be more than twice what it is alone: what a busy machine does."""


USUAL: Final[Mapping[str, Bounds]] = {
    GRPCIO.name: Bounds(),
    # Alone on its core it keeps within twice: the rest is for tests that run beside this one.
    NATIVE.name: Bounds(slack=0.1),
}
"""What a probe may cost each front."""

BOUNDS: Final[Mapping[str, Mapping[str, Bounds]]] = {
    GRPCIO.name: {
        # It decodes all of a header list before it refuses it, and its allocator keeps the pages.
        "large_headers": Bounds(mebibytes=128),
        "continuation_flood": Bounds(mebibytes=96),
        # The same with lists of 64 MiB each, in the thread that others wait for: seconds, as long as it lasts.
        "header_bomb": Bounds(mebibytes=256, slack=4),
        # It keeps a whole encoded answer for each call until the client takes it: 256 of 190 KiB, twice.
        "zero_window": Bounds(mebibytes=192),
        # The same with 32 of 2.6 MiB, some of them twice; its one event loop joins them while others wait.
        "never_reading": Bounds(mebibytes=320, slack=2),
        # Some 10 KiB for each of 10,000 connections, and it ends none of them before its handshake's two minutes.
        "silent_connections": Bounds(mebibytes=192, cpu=6),
    },
    NATIVE.name: {},
}
"""The same by front and probe, where it is not the usual."""

NATIVE_ONLY: Final = frozenset({"never_reading_on_all_streams", "never_reading_on_many_connections"})
"""Probes that the grpcio front does not bear: it keeps each of 256 answers of 2.6 MiB."""


class Fared(NamedTuple):
    """How it went: the server's cost, the polite caller's calls, and those calls' p99 when it was alone."""

    peak: int
    rest: int
    cpu: float
    answered: int
    failed: tuple[str, ...]
    p99: float
    p99_alone: float


def delays(fared: Fared, bounds: Bounds) -> list[str]:
    """Say what took longer than it should."""
    allowed = 2 * fared.p99_alone + bounds.slack
    wrong = []
    if fared.cpu > bounds.cpu:
        wrong.append(f"CPU: {fared.cpu:.2f} s")
    if fared.p99 > allowed:
        wrong.append(f"p99: {fared.p99:.3f} s of {allowed:.3f} s")
    return wrong


def breaches(attempts: Sequence[Fared], bounds: Bounds) -> list[str]:
    """Say what is not as it should be.

    Time is judged by the last attempt: what is the machine's fault does not come every time, what is the node's does.
    Memory is judged by the first: later ones find what the process was given before. Calls never fail.
    """
    first, last = attempts[0], attempts[-1]
    wrong = []
    if first.peak > bounds.mebibytes * MEBI:
        wrong.append(f"memory: {first.peak // MEBI} MiB more, {first.rest // MEBI} of it kept")
    wrong += [
        f"polite calls: {fared.answered} answered, failed {fared.failed}"
        for fared in attempts
        if not fared.answered or fared.failed
    ]
    return wrong + delays(last, bounds)


class Served(NamedTuple):
    """A node with a front, and the p99 of a polite caller who has it alone."""

    front: Front
    node: RunningNode
    p99_alone: float

    @property
    def address(self) -> str:
        """Where its front listens."""
        return self.node.address

    def assert_answers(self) -> None:
        """Over a new connection, as always."""
        with Connection(self.address) as connection:
            ended = connection.call(abuse.RESOLVE, abuse.asking(abuse.SMALL))
        assert ended
        assert pb.ResolveResponse.FromString(*ended.messages).answer.outcome == pb.OUTCOME_FOUND


@pytest.fixture(scope="module", params=KINDS, ids=str)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(str(request.param))
    with abused_node(folder, request.param.environment) as node:
        with PoliteCaller(node.address) as caller:
            time.sleep(1.5)
        assert not caller.failed
        yield Served(request.param, node, percentile(caller.took, 0.99))


def fare(served: Served, probe: str) -> tuple[Seen, Fared]:
    """Run a probe beside a polite caller."""
    with PoliteCaller(served.address) as caller, Cost(served.node.pid) as cost:
        seen = run_probe(probe, served.address)
        time.sleep(AFTERWARDS)
    p99 = percentile(caller.took, 0.99)
    fared = Fared(cost.peak, cost.rest, cost.cpu, len(caller.took), tuple(caller.failed), p99, served.p99_alone)
    return seen, fared


def assert_costs_little(served: Served, probe: str) -> None:
    bounds = BOUNDS[served.front.name].get(probe, USUAL[served.front.name])
    attempts: list[Fared] = []
    while not attempts or (delays(attempts[-1], bounds) and len(attempts) < ATTEMPTS):
        seen, fared = fare(served, probe)
        attempts.append(fared)
        print(served.front, probe, fared, seen)  # noqa: T201 - shown where the test fails, or with -rP
        assert seen.sent, seen
    assert not breaches(attempts, bounds), seen
    served.assert_answers()


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe not in NATIVE_ONLY])
def test_abuse_costs_little_and_nobody_else_notices(served: Served, probe: str) -> None:
    assert_costs_little(served, probe)


@pytest.mark.parametrize("served", KINDS[1:], ids=str, indirect=True)
@pytest.mark.parametrize("probe", sorted(NATIVE_ONLY))
def test_abuse_that_costs_the_other_front_much_costs_the_native_one_little(served: Served, probe: str) -> None:
    assert_costs_little(served, probe)


def test_a_gibibyte_is_refused_when_it_is_declared(served: Served) -> None:
    """With RESOURCE_EXHAUSTED, before it comes."""
    seen = abuse.declared_gibibyte(served.address, 3)
    assert seen.statuses == {8: 3}, seen


OK: Final = 0
NOTHING: Final = None
"""The call, or its connection, is reset, or it is never answered."""

WRONG: Final = frozenset({NOTHING, 3, 12, 13})
"""INVALID_ARGUMENT, UNIMPLEMENTED, INTERNAL: clients may be told by any of them that they are wrong."""

TOLERATED: Final[Mapping[str, frozenset[str]]] = {
    # It takes the first of two messages, and passes over the flag where there is no encoding.
    GRPCIO.name: frozenset({"two messages", "compressed without encoding"}),
    # It looks at an encoding only where a message has it.
    NATIVE.name: frozenset({"unknown encoding, not compressed"}),
}
"""By front: calls that are answered although they are wrong."""


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_call_is_refused_or_at_least_harmless(served: Served, name: str) -> None:
    ended = abuse.malformed(served.address, name)
    status = ended.status if ended else NOTHING
    allowed = WRONG | {OK} if name in TOLERATED[served.front.name] else WRONG
    assert status in allowed, ended
    served.assert_answers()


# --- can all this fail? --------------------------------------------------------------------------------------------

FINE: Final = Fared(peak=MEBI, rest=0, cpu=0.1, answered=100, failed=(), p99=0.002, p99_alone=0.001)


def test_what_is_fine_is_no_breach() -> None:
    assert breaches([FINE], Bounds()) == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"peak": 65 * MEBI}, "memory"),
        ({"cpu": 3.1}, "CPU"),
        ({"answered": 0}, "polite"),
        ({"failed": ("closed",)}, "polite"),
        ({"p99": 1.01}, "p99"),
    ],
)
def test_a_planted_breach_is_found(changed: dict[str, object], word: str) -> None:
    (breach,) = breaches([FINE._replace(**changed)], Bounds())  # type: ignore[arg-type] # each of its field's type
    assert breach.startswith(word)


def test_time_is_judged_by_the_last_attempt_and_memory_by_the_first() -> None:
    slow, large, failed = FINE._replace(p99=2.0), FINE._replace(peak=65 * MEBI), FINE._replace(failed=("closed",))
    assert breaches([slow, large, FINE], Bounds()) == []
    (breach,) = breaches([large, FINE], Bounds())
    assert breach.startswith("memory")
    (breach,) = breaches([FINE, failed, FINE], Bounds())
    assert breach.startswith("polite")


def test_a_process_that_keeps_and_works_is_seen_to_do_so() -> None:
    text = "import sys; input(); kept = b'x' * (100 << 20)\nfor _ in range(10_000_000): pass\nsys.stdin.read()"
    hoarder = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE)
    with hoarder, Cost(hoarder.pid) as cost:
        assert hoarder.stdin
        hoarder.stdin.write(b"\n")
        hoarder.stdin.flush()
        time.sleep(1)
    assert cost.peak > 90 * MEBI
    assert cost.cpu > 0.1


def test_every_front_has_its_bounds_and_every_bound_its_probe() -> None:
    assert USUAL.keys() == BOUNDS.keys() == TOLERATED.keys() == {front.name for front in FRONTS}
    assert all(each.keys() <= PROBES.keys() for each in BOUNDS.values())
    assert PROBES.keys() >= NATIVE_ONLY
    assert all(each <= MALFORMED.keys() for each in TOLERATED.values())
