"""Federating, in whole read paths that ask each other: the table of modes, paths, caches, and children that fail."""

import asyncio

import pytest

from resolver import wire
from resolver.answer import Answer, Outcome, Standing
from resolver.clock import SetClock
from resolver.counting import tags_of
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question, Reply
from resolver.federation.settings import FederationSettings
from resolver.query import Mode, Path
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from resolver.trace import Step, Trace
from resolver.trust.actors import Node, NodeState, Tier
from resolver.trust.verdicts import Trust
from resolver.units import Duration
from tests.small_federation import FederatedNode, Network, SaidDriver, at, delegated
from tests.small_store import body

RECORDS = {b"88.1.5/A": body("88.1.5/a", 7), b"88.1.5/GONE": body("88.1.5/gone", deleted=True)}
COPY = {b"88.1.5/A": body("88.1.5/a", 3), b"88.1/COPIED": body("88.1/copied")}


class Two:
    """A top node and the child to which it delegates 88.1."""

    def __init__(self, settings: FederationSettings | None = None, *, clock: SetClock | None = None) -> None:
        self.network = Network()
        self.clock = clock or SetClock()
        self.child = FederatedNode("88.1", self.network, RECORDS, [Prefix("88.1", "88.1")], clock=self.clock)
        self.top = FederatedNode(
            "top",
            self.network,
            {b"88.2/H": body("88.2/h"), **COPY},
            [delegated("88.1"), Prefix("88.2", "88.2")],
            settings=settings,
            clock=self.clock,
        )

    async def start(self) -> "Two":
        await self.child.start()
        await self.top.start()
        return self

    def down(self) -> None:
        self.child.fault = Fault(Reason.NODE_UNREACHABLE)


async def test_the_childs_answer_is_given_with_its_hop() -> None:
    two = await Two().start()
    answer = await two.top.answer("88.1.5/A")
    assert (answer.outcome, answer.standing, answer.authority, answer.prefix) == (
        Outcome.FOUND,
        Standing.CACHED,
        "88.1",
        "88.1",
    )
    assert answer.record is not None
    assert answer.record.version == 7
    ((node, protocol, obtained_at),) = [(hop.node, hop.protocol, hop.obtained_at) for hop in answer.hops]
    assert (node, protocol, obtained_at) == ("88.1", Protocol.GRPC, round(two.clock.wall() * 1_000))
    assert answer.expires_at == int(two.clock.wall() + 3_600)
    assert answer.trust is Trust.UNKNOWN
    assert not answer.stale
    assert not answer.takeover


async def test_a_batch_is_split_and_comes_back_in_order() -> None:
    """Hosted, delegated, absent at the child, faulty, unknown and without a way there: each in its place."""
    two = await Two().start()
    two.top.store.commit(prefixes=[Prefix("88.3", "88.3", hosting=Hosting.DELEGATED)])
    await two.top.following.catch_up()
    given = await two.top.answers(
        "88.2/H", "88.1.5/a", "nonsense", "88.1/NO", "77/X", "88.3/A", "88.1.5/GONE", "88.1.5/A"
    )
    told = [each if isinstance(each, Reason) else (each.outcome, each.standing) for each in given]
    assert told == [
        (Outcome.FOUND, Standing.AUTHORITATIVE),
        (Outcome.FOUND, Standing.CACHED),
        Reason.IDENTIFIER_NO_SLASH,
        (Outcome.ABSENT, Standing.CACHED),
        (Outcome.NOT_HERE, Standing.UNSPECIFIED),
        (Outcome.REFERRAL, Standing.UNSPECIFIED),
        (Outcome.ABSENT, Standing.CACHED),
        (Outcome.FOUND, Standing.CACHED),
    ]
    assert [list(question.identifiers) for question in two.child.asked] == [[b"88.1.5/A", b"88.1/NO", b"88.1.5/GONE"]]


async def test_other_modes_ask_no_child() -> None:
    two = await Two().start()
    local = await two.top.answer("88.1.5/A", mode=Mode.LOCAL)
    assert (local.standing, local.hops) == (Standing.REGISTERED_COPY, ())
    assert (await two.top.answer("88.1.5/A", mode=Mode.REFERRAL)).outcome is Outcome.REFERRAL
    assert two.child.asked == []


@pytest.mark.parametrize(("changed", "times_asked"), [("88.2", 1), ("88.1", 2)])
async def test_routes_that_change_while_a_child_is_asked_cost_only_answers_below_them(
    changed: str, times_asked: int
) -> None:
    two = await Two().start()
    two.child.seconds = 0.05
    asking = asyncio.create_task(two.top.answer("88.1.5/A"))
    await asyncio.sleep(0.01)
    assert len(two.child.asked) == 1
    row = delegated("88.1", "88.1", at("88.1"), at("88.1", 2)) if changed == "88.1" else Prefix("88.2.7", "88.2")
    two.top.store.commit(prefixes=[row])
    await two.top.following.catch_up()
    assert (await asking).outcome is Outcome.FOUND
    await two.top.answer("88.1.5/A")
    assert len(two.child.asked) == times_asked


async def test_values_are_cut_here_and_the_whole_answer_is_kept() -> None:
    two = await Two().start()
    cut = await two.top.answer("88.1.5/A", types=("URL",))
    assert cut.record is not None
    assert [value.index for value in cut.record.values] == [1]
    whole = await two.top.answer("88.1.5/A")
    assert whole.record is not None
    assert len(whole.record.values) == 2
    assert len(two.child.asked) == 1


async def test_what_breaks_a_rule_below_a_delegated_prefix_is_refused_and_no_child_is_asked() -> None:
    """Alone, and beside what is asked and what is hosted here."""
    network = Network()
    network.at["88.1", 1] = child = SaidDriver()
    top = await FederatedNode("top", network, {}, [Prefix("77", "top"), delegated("88.1")]).start()
    odd = {
        "88.1": Reason.IDENTIFIER_NO_SLASH,
        "88.1/": Reason.IDENTIFIER_EMPTY_SUFFIX,
        "88.1/" + "x" * 2_048: Reason.IDENTIFIER_TOO_LONG,
        "88.1/\n": Reason.IDENTIFIER_CONTROL_CHARACTER,
        "88..1/A": Reason.PREFIX_EMPTY_SEGMENT,
    }
    for identifier, reason in odd.items():
        assert await top.answers(identifier) == [reason]
    assert not child.asked
    answers = await top.answers(*odd, "88.1/A", "77/A")
    assert answers[: len(odd)] == list(odd.values())
    assert [answer.outcome for answer in answers[len(odd) :] if isinstance(answer, Answer)] == [Outcome.ABSENT] * 2
    assert [list(question.identifiers) for question in child.asked] == [[b"88.1/A"]]


async def test_each_child_is_asked_once_with_its_part_and_one_failure_spoils_only_its_own() -> None:
    network, clock = Network(), SetClock()
    names = [f"88.{number}" for number in range(1, 26)]
    children = [
        FederatedNode(
            name,
            network,
            {f"{name}/{i}".encode(): body(f"{name}/{i}") for i in range(40)},
            [Prefix(name, name)],
            clock=clock,
        )
        for name in names
    ]
    top = FederatedNode("top", network, {}, [delegated(name) for name in names], clock=clock)
    for node in (*children, top):
        await node.start()
    children[3].fault = Fault(Reason.NODE_UNREACHABLE)
    asked = [f"{name}/{i}" for i in range(40) for name in names]
    given = await top.answers(*asked)
    assert [len(child.asked) for child in children] == [1] * 25
    for identifier, answer in zip(asked, given, strict=True):
        if identifier.startswith("88.4/"):
            assert answer is Reason.CHILD_UNREACHABLE
        else:
            assert isinstance(answer, Answer)
            assert answer.record is not None
            assert answer.record.identifier.to_text() == identifier
    assert top.sample("topnode_federation_failed_total", reason="CHILD_UNREACHABLE") == 40
    assert top.sample("topnode_child_calls_total", child="88.4", outcome="failed") == 1
    assert top.sample("topnode_child_calls_total", child="88.5", outcome="answered") == 1


# --- what is kept --------------------------------------------------------------------------------------------------


async def test_answers_are_kept_for_their_time_and_no_longer() -> None:
    two = await Two(FederationSettings(positive_for=Duration(100), absent_for=Duration(10))).start()
    for _ in range(2):
        await two.top.answers("88.1.5/A", "88.1/NO")
    assert len(two.child.asked) == 1
    two.clock.advance(11)
    await two.top.answers("88.1.5/A", "88.1/NO")
    assert list(two.child.asked[-1].identifiers) == [b"88.1/NO"]
    two.clock.advance(90)
    await two.top.answers("88.1.5/A")
    assert list(two.child.asked[-1].identifiers) == [b"88.1.5/A"]


async def test_a_changed_route_and_a_pushed_copy_end_what_was_kept() -> None:
    two = await Two().start()
    await two.top.answer("88.1.5/A")
    two.top.store.commit({b"88.1.5/A": body("88.1.5/a", 9)})
    await two.top.following.catch_up()
    await two.top.answer("88.1.5/A")
    assert len(two.child.asked) == 2
    two.top.store.commit(prefixes=[delegated("88.1")])
    await two.top.following.catch_up()
    await two.top.answer("88.1.5/A")
    assert len(two.child.asked) == 3


async def test_answers_are_tagged_for_counting_by_what_was_said() -> None:
    two = await Two().start()
    found, absent = await two.top.resolve("88.1.5/A", "88.1/NO")
    assert (found.tag, absent.tag) == tags_of(b"88.1")
    row = Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=(), takeover=True)
    two.top.store.commit(nodes=[row])
    await two.top.following.catch_up()
    copy, none = await two.top.resolve("88.1/COPIED", "88.1/NONE")
    assert (copy.tag, none.tag) == tags_of(b"88.1")


async def test_not_here_is_not_kept_and_authoritative_passes_every_cache() -> None:
    two = await Two().start()
    two.child.store.commit(prefixes=[Prefix("88.1.9", "88.1.9", hosting=Hosting.DELEGATED)])
    await two.child.following.catch_up()
    for _ in range(2):
        await two.top.answer("88.1.5/A")
        assert (await two.top.answer("88.1.9/A")).outcome is Outcome.REFERRAL
    assert len(two.child.asked) == 3
    await two.top.answer("88.1.5/A", authoritative=True)
    assert two.child.asked[-1].authoritative
    assert len(two.child.asked) == 4


async def test_what_several_ask_at_once_is_asked_once() -> None:
    two = await Two().start()
    two.child.seconds = 0.02
    answers = await asyncio.gather(
        *(two.top.answer("88.1.5/A") for _ in range(20)), *(two.top.answer(f"88.1/NO{number}") for number in range(9))
    )
    # Who came first asked for himself; all others went together.
    assert [len(question.identifiers) for question in two.child.asked] == [1, 9]
    assert {answer.outcome for answer in answers} == {Outcome.FOUND, Outcome.ABSENT}
    assert two.top.sample("topnode_federation_joined_total") == 19
    assert await two.top.answers("88.1/NO9") == await two.top.answers("88.1/NO9")
    assert len(two.child.asked) == 3
    assert two.top.sample("topnode_federation_in_flight_identifiers") == 0


async def test_a_caller_that_leaves_ends_nobody_elses_flight() -> None:
    two = await Two().start()
    two.child.seconds = 0.03
    first = asyncio.ensure_future(two.top.answer("88.1.5/A"))
    second = asyncio.ensure_future(two.top.answer("88.1.5/A"))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).outcome is Outcome.FOUND
    # Who asked for himself took his question with him, and it was asked again for who waited for it.
    assert len(two.child.asked) == 2
    assert two.top.sample("topnode_federation_in_flight_identifiers") == 0


async def test_a_caller_that_leaves_alone_leaves_nothing_behind() -> None:
    two = await Two().start()
    two.child.seconds = 30
    first = asyncio.ensure_future(two.top.answers("88.1.5/A", seconds=60))
    await asyncio.sleep(0.01)
    assert two.top.sample("topnode_federation_in_flight_identifiers") == 1
    first.cancel()
    await asyncio.wait((first,))
    assert two.top.sample("topnode_federation_in_flight_identifiers") == 0
    two.child.seconds = 0
    assert (await two.top.answer("88.1.5/A")).outcome is Outcome.FOUND
    assert len(two.child.asked) == 2


async def test_who_has_time_does_not_board_with_who_is_in_a_hurry() -> None:
    two = await Two().start()
    two.child.seconds = 0.15
    hurried = asyncio.ensure_future(two.top.answers("88.1.5/A", seconds=0.1))
    await asyncio.sleep(0.01)
    assert (await two.top.answer("88.1.5/A")).outcome is Outcome.FOUND
    assert await hurried == [Reason.CHILD_UNREACHABLE]


async def test_a_child_that_hangs_takes_no_more_than_its_half_of_the_room() -> None:
    network, clock = Network(), SetClock()
    hanging, other = (
        FederatedNode(name, network, {}, [Prefix(name, name)], clock=clock) for name in ("88.1", "88.2")
    )
    rows = [delegated("88.1"), delegated("88.2")]
    top = FederatedNode("top", network, {}, rows, settings=FederationSettings(identifiers=2_000), clock=clock)
    for node in (hanging, other, top):
        await node.start()
    hanging.seconds = 0.1
    many = asyncio.ensure_future(top.answers(*(f"88.1/{number}" for number in range(1_000))))
    await asyncio.sleep(0.02)
    refused, given = await top.answers("88.1/X", "88.2/X")
    assert refused is Reason.TOO_MANY_IN_FLIGHT
    assert isinstance(given, Answer)
    assert (await many)[0] != Reason.TOO_MANY_IN_FLIGHT
    assert top.sample("topnode_federation_in_flight_identifiers") == 0
    assert isinstance(await top.answer("88.1/X"), Answer)


# --- deadlines and paths -------------------------------------------------------------------------------------------


async def test_a_hop_gets_a_share_of_what_is_left_within_the_childs_bound() -> None:
    two = await Two(FederationSettings(deadline=Duration(2))).start()
    await two.top.answer("88.1.5/A", seconds=1)
    await two.top.answer("88.1/NO", seconds=60)
    left = [question.deadline - two.clock.monotonic() for question in two.child.asked]
    assert left == pytest.approx([0.8, 2])


async def test_with_too_little_time_left_no_child_is_asked() -> None:
    two = await Two().start()
    assert await two.top.answers("88.1.5/A", seconds=0.02) == [Reason.DEADLINE_SPENT]
    assert two.child.asked == []


async def test_the_path_says_where_the_question_was_and_how_far_it_may_go() -> None:
    two = await Two(FederationSettings(hops=3)).start()
    await two.top.answer("88.1.5/A")
    await two.top.answer("88.1/B", path=Path(("above",), 2))
    await two.top.answer("88.1/C", path=Path((), 1))
    await two.top.answer("88.1/D", path=Path((), 8))
    assert [question.path for question in two.child.asked] == [
        Path(("top",), 2),
        Path(("above", "top"), 1),
        Path(("top",), 0),
        Path(("top",), 2),
    ]
    assert await two.top.answers("88.1/E", path=Path(("above",), 0)) == [Reason.HOP_LIMIT]
    # What is kept needs no hop.
    assert (await two.top.answer("88.1.5/A", path=Path(("above",), 0))).outcome is Outcome.FOUND


async def chained(count: int, *, hops: int = 8, closed: bool = False) -> list[FederatedNode]:
    """Nodes that delegate 88.1 each to the next; the last one hosts it, or delegates it to the first."""
    network, clock = Network(), SetClock()
    names = [f"n{number}" for number in range(count)]
    nodes = []
    for number, name in enumerate(names):
        is_last = number == count - 1
        row = delegated("88.1", names[0] if is_last else names[number + 1])
        rows = [Prefix("88.1", name)] if is_last and not closed else [row]
        settings = FederationSettings(hops=hops)
        nodes.append(
            await FederatedNode(
                name, network, {b"88.1/A": body("88.1/a")}, rows, settings=settings, clock=clock
            ).start()
        )
    return nodes


async def test_hops_stand_in_the_answer_the_farthest_first() -> None:
    nodes = await chained(4)
    answer = await nodes[0].answer("88.1/A")
    assert [hop.node for hop in answer.hops] == ["n3", "n2", "n1"]
    assert (answer.authority, answer.standing) == ("n3", Standing.CACHED)


@pytest.mark.parametrize("count", [2, 3])
async def test_a_ring_of_delegations_ends_with_the_way_that_was_gone(count: int) -> None:
    nodes = await chained(count, closed=True)
    (ready,) = await nodes[0].resolve("88.1/A")
    fault = getattr(ready, "fault", None)
    assert isinstance(fault, Fault)
    assert fault.reason is Reason.REFERRAL_LOOP
    assert "n0 > n1" in fault.detail
    assert [len(node.asked) for node in nodes] == [0] + [1] * (count - 1)


async def test_a_question_that_comes_back_is_not_answered_even_from_what_is_kept() -> None:
    two = await Two().start()
    await two.top.answer("88.1.5/A")
    assert await two.top.answers("88.1/B", path=Path(("top", "x"), 3)) == [Reason.REFERRAL_LOOP]


async def test_a_chain_longer_than_the_limit_says_so() -> None:
    nodes = await chained(5, hops=4)
    assert (await nodes[0].answer("88.1/A")).outcome is Outcome.FOUND
    nodes = await chained(6, hops=4)
    assert await nodes[0].answers("88.1/A") == [Reason.HOP_LIMIT]
    assert nodes[5].asked == []


# --- children that do not answer -----------------------------------------------------------------------------------


async def test_stale_then_the_copy_where_allowed_then_the_childs_failure() -> None:
    two = await Two(FederationSettings(positive_for=Duration(10), stale_for=Duration(100))).start()
    await two.top.answer("88.1.5/A")
    two.clock.advance(11)
    two.down()
    stale = await two.top.answer("88.1.5/A")
    assert (stale.stale, stale.standing) == (True, Standing.CACHED)
    two.clock.advance(100)
    assert await two.top.answers("88.1.5/A") == [Reason.CHILD_UNREACHABLE]
    copy = await two.top.answer("88.1.5/A", with_copy=True)
    assert (copy.standing, copy.takeover, copy.hops) == (Standing.REGISTERED_COPY, False, ())
    assert await two.top.answers("88.1/NO", with_copy=True) == [Reason.CHILD_UNREACHABLE]
    assert two.top.sample("topnode_federation_instead_total", by="stale") == 1
    assert two.top.sample("topnode_federation_instead_total", by="copy") == 1


async def test_an_authoritative_question_gets_no_stale_answer() -> None:
    two = await Two(FederationSettings(positive_for=Duration(1))).start()
    await two.top.answer("88.1.5/A")
    two.clock.advance(2)
    two.down()
    assert await two.top.answers("88.1.5/A", authoritative=True) == [Reason.CHILD_UNREACHABLE]


async def test_the_fault_says_which_child_and_when_to_try_again() -> None:
    two = await Two().start()
    two.down()
    (ready,) = await two.top.resolve("88.1.5/A")
    fault = getattr(ready, "fault", None)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.variables["child"], fault.retry_after) == (Reason.CHILD_UNREACHABLE, "88.1", 1.0)


async def test_what_a_child_refuses_by_state_is_passed_on_and_its_own_trouble_is_not() -> None:
    two = await Two().start()
    two.child.store.commit(prefixes=[Prefix("88.1.8", "88.1.8", state=PrefixState.DISABLED)])
    await two.child.following.catch_up()
    assert await two.top.answers("88.1.8/A") == [Reason.PREFIX_DISABLED]
    two.child.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    assert await two.top.answers("88.1/X") == [Reason.CHILD_UNREACHABLE]


async def test_during_takeover_copies_answer_and_the_child_is_not_asked() -> None:
    two = await Two().start()
    # What was kept before gives way to the copies too.
    await two.top.answer("88.1.5/A")
    two.child.asked.clear()
    row = Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=(), takeover=True)
    two.top.store.commit(nodes=[row])
    await two.top.following.catch_up()
    copy, none = await two.top.answers("88.1.5/A", "88.1/NO")
    assert isinstance(copy, Answer)
    assert (copy.takeover, copy.standing, copy.stale) == (True, Standing.REGISTERED_COPY, False)
    assert isinstance(none, Answer)
    assert (none.outcome, none.takeover) == (Outcome.NOT_HERE, True)
    assert two.child.asked == []
    assert not (await two.top.answer("88.1.5/A", mode=Mode.LOCAL)).takeover
    two.top.store.commit(nodes=[Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=())])
    await two.top.following.catch_up()
    assert (await two.top.answer("88.1.5/A")).standing is Standing.CACHED


# --- children that lie, and refer ----------------------------------------------------------------------------------


async def lying(network: Network, said: SaidDriver, settings: FederationSettings | None = None) -> FederatedNode:
    network.at["88.1", 1] = said
    return await FederatedNode("top", network, COPY, [delegated("88.1")], settings=settings, clock=SetClock()).start()


async def test_what_a_child_may_not_say_is_dropped_and_counted() -> None:
    foreign = wire.encode_answer(Answer(outcome=Outcome.ABSENT, standing=Standing.AUTHORITATIVE, prefix="88.2"))
    said = SaidDriver({b"88.1/A": foreign, b"88.1/B": b"\xff"})
    top = await lying(Network(), said)
    given = await top.answers("88.1/A", "88.1/B", "88.1/C", with_copy=True)
    assert given[:2] == [Reason.CHILD_ANSWER_REFUSED] * 2
    assert isinstance(given[2], Answer)
    assert top.sample("topnode_child_refused_answers_total", child="88.1", why="prefix") == 1
    assert top.sample("topnode_child_refused_answers_total", child="88.1", why="malformed") == 1
    said.missing = 1
    assert await top.answers("88.1/D", "88.1/E") == [Reason.CHILD_ANSWER_REFUSED] * 2
    assert top.sample("topnode_child_refused_answers_total", child="88.1", why="count") == 2


def referral(prefix: str, holder: str, *endpoints: Endpoint) -> bytes:
    row = delegated(prefix, holder, *endpoints)
    return wire.referral_body(row)


async def test_a_referral_further_down_is_followed_as_one_more_hop() -> None:
    network = Network()
    said = SaidDriver({b"88.1.5/A": referral("88.1.5", "deep"), b"88.1.5/B": referral("88.1.5", "deep")})
    deep = FederatedNode("deep", network, RECORDS, [Prefix("88.1.5", "deep")], clock=SetClock())
    await deep.start()
    top = await lying(network, said)
    found, absent, other = await top.answers("88.1.5/A", "88.1.5/B", "88.1/C")
    assert isinstance(found, Answer)
    assert isinstance(absent, Answer)
    assert (found.outcome, absent.outcome, found.authority) == (Outcome.FOUND, Outcome.ABSENT, "deep")
    assert [hop.node for hop in found.hops] == ["deep"]
    assert isinstance(other, Answer)
    assert [(question.path, len(question.identifiers)) for question in deep.asked] == [(Path(("top", "88.1"), 2), 2)]
    # In metrics it goes by the name of the child whose word it is.
    assert top.sample("topnode_child_calls_total", child="88.1", outcome="answered") == 2


@pytest.mark.parametrize(
    ("given", "settings", "reason"),
    [
        (referral("88.1", "88.1"), FederationSettings(), Reason.CHILD_ANSWER_REFUSED),
        (referral("88.2", "deep"), FederationSettings(), Reason.CHILD_ANSWER_REFUSED),
        (referral("88.1.6", "deep"), FederationSettings(), Reason.CHILD_ANSWER_REFUSED),
        (referral("88.1", "top", at("88.1")), FederationSettings(), Reason.REFERRAL_LOOP),
        (referral("88.1.5", "top", at("88.1")), FederationSettings(), Reason.REFERRAL_LOOP),
        (referral("88.1.5", "88.1"), FederationSettings(), Reason.REFERRAL_LOOP),
        (referral("88.1.5", "deep"), FederationSettings(hops=1), Reason.HOP_LIMIT),
    ],
)
async def test_referrals_lead_on_and_not_in_circles(
    given: bytes, settings: FederationSettings, reason: Reason
) -> None:
    top = await lying(Network(), SaidDriver({b"88.1.5/Z": given}), settings)
    assert await top.answers("88.1.5/Z") == [reason]


async def test_where_referrals_are_not_followed_they_are_given() -> None:
    top = await lying(
        Network(), SaidDriver({b"88.1.5/Z": referral("88.1.5", "deep")}), FederationSettings(follow_referrals=False)
    )
    answer = await top.answer("88.1.5/Z")
    assert answer.outcome is Outcome.REFERRAL
    assert answer.referral is not None
    assert answer.referral.holder == "deep"


# --- traces --------------------------------------------------------------------------------------------------------


async def test_a_trace_tells_each_child_and_the_childs_own_steps() -> None:
    nodes = await chained(3)
    trace = Trace("n0", nodes[0].clock)
    await nodes[0].resolve("88.1/A", "88.1/NO", trace=trace)
    told = [(step.node, step.tier, step.verdict) for step in trace.steps]
    assert told[:2] == [("n0", "admission", "passed"), ("n0", "child", "0 kept, 2 to be asked")]
    assert ("n2", "store", "1 held, 1 not held") in told
    assert told[-2:] == [
        ("n1", "child", "n2 grpc 2 answered 0 failed"),
        ("n0", "child", "n1 grpc 2 answered 0 failed"),
    ]
    nodes[1].fault = Fault(Reason.NODE_UNREACHABLE)
    trace = Trace("n0", nodes[0].clock)
    await nodes[0].resolve("88.1/B", trace=trace)
    assert trace.steps[-1].verdict == "n1 unanswered 0 answered 1 failed"


async def test_a_childs_trace_is_cut_to_what_callers_take() -> None:
    class Chatty(SaidDriver):
        """Tells a long story of each answer."""

        async def ask(self, question: Question) -> Reply:
            reply = await super().ask(question)
            return Reply(reply.results, reply.protocol, [Step("x" * 900, "y" * 900, "z" * 900, 1)] * 900)

    top = await lying(Network(), Chatty())
    trace = Trace("top", top.clock)
    await top.resolve("88.1/A", trace=trace)
    assert len(trace.steps) < 40
    assert max(len(step.verdict) for step in trace.steps) <= 80


async def test_closing_ends_what_is_in_the_air() -> None:
    two = await Two().start()
    two.child.seconds = 30
    alone, gathered = (asyncio.ensure_future(two.top.answers(name, seconds=60)) for name in ("88.1.5/A", "88.1.5/B"))
    await asyncio.sleep(0.01)
    await two.top.chain.close()
    assert await gathered == [Reason.NODE_DRAINING]
    # This one is its caller's, and ends with that or with the connection.
    alone.cancel()
    await asyncio.wait((alone,))
