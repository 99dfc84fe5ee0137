"""The desk over a real store, journal and ladder, with planners of the test's own: turns, groups, retries, faults."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from registry.answers import Answer
from registry.desk import Desk
from registry.journal import Journal
from registry.plans import Outcome, Plan, Request
from registry.settings import RegistrySettings
from registry.state import State
from registry.v1 import registry_pb2 as pb
from registry.verify import Verifier
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store import Write
from resolver.store.embedded import Owner
from resolver.trust.actors import Key, Node, NodeState, Tier
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.receipts import check_receipt
from tests.gated_store import GatedStore
from tests.signing import SUBMIT, Signing

REFUSED: dict[str, Any] = {"fault": True}
KIND = "identifiers.v1"
SUSPEND = "node-suspend.v1"
OPERATOR = PrivateKey.generate()
NODE = PrivateKey.generate()


async def plan(request: Request, state: State) -> Plan:
    """Write the keys that the body names; tell for each whether it stood there. Some bodies go wrong."""
    body: dict[str, Any] = json.loads(request.body)
    if body.get("fault"):
        raise Fault(Reason.PREFIX_NOT_HELD)
    if body.get("mistake"):
        raise ZeroDivisionError
    if body.get("busy"):
        raise Fault(Reason.STORE_UNAVAILABLE)
    needed = body.get("needs", "").encode()
    if needed and not body.get("rows") and not await state.held([needed]):
        raise Fault(Reason.PREFIX_NOT_HELD)
    keys = [key.encode() for key in body.get("keys", ())]
    if body.get("refused") or (body.get("rows") and not await state.held([needed])):
        refusals = {row: Fault(Reason.PREFIX_NOT_HELD) for row in range(len(keys))}
        return Plan(outcomes=[Outcome.REFUSED] * len(keys), refusals=refusals)
    held = await state.held(keys)
    outcomes = [Outcome.REPLACED if key in held else Outcome.REGISTERED for key in keys]
    return Plan(outcomes=outcomes, writes=[Write(key, b"body", is_new=key not in held) for key in keys])


async def plan_suspension(_request: Request, state: State) -> Plan:
    node = state.node("88.111")
    assert node
    suspended = Node(node=node.node, tier=node.tier, state=NodeState.SUSPENDED, keys=node.keys)
    return Plan(outcomes=[Outcome.REPLACED], nodes=[suspended])


async def plan_node(request: Request, _state: State) -> Plan:
    key = NODE.public
    node = Node(
        node="88.111", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=(Key(key.key_id, key.spki, request.at),)
    )
    return Plan(outcomes=[Outcome.REGISTERED], nodes=[node])


PLANNERS = {KIND: plan, SUSPEND: plan_suspension, "node-review.v1": plan_node}


class Office:
    """A desk and all that it stands on."""

    def __init__(self, store: GatedStore, journal: Journal, settings: RegistrySettings) -> None:
        self.clock = SetClock()
        self.store = store
        self.journal = journal
        self.registry = CollectorRegistry()
        self.state = State(store, own_name="top")
        self.verifier = Verifier(
            node="top",
            nodes=self.state.nodes,
            operators=Operators([("wang", OPERATOR.public)]),
            registry=self.registry,
            kinds=PLANNERS.keys(),
        )
        self.desk = Desk(
            store=store,
            state=self.state,
            journal=journal,
            verifier=self.verifier,
            planners=PLANNERS,
            settings=settings,
            clock=self.clock,
            registry=self.registry,
        )

    def signed(self, body: dict[str, Any], request_id: str = "", *, kind: str = KIND, **head: Any) -> bytes:
        return Signing("wang", OPERATOR, now=self.clock.wall()).request(kind, body, request_id, **head)

    async def submit(self, octets: bytes) -> Answer:
        return await self.desk.submit(self.verifier.verify(octets, SUBMIT))

    async def submit_all(self, *octets: bytes) -> list[Answer | BaseException]:
        return await asyncio.gather(*(self.submit(each) for each in octets), return_exceptions=True)

    async def outcomes(self, *octets: bytes) -> list[str]:
        """What became of each: the outcome of its first row, or the reason why it was refused."""
        return [said(each) for each in await self.submit_all(*octets)]

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def said(answer: Answer | BaseException) -> str:
    if isinstance(answer, Fault):
        return answer.reason.name
    if isinstance(answer, BaseException):
        return type(answer).__name__
    outcome = Outcome(pb.Result.FromString(answer.result).outcomes[0]).name
    return f"{outcome} again" if answer.is_repeated else outcome


@asynccontextmanager
async def office(path: Path, **settings: Any) -> AsyncIterator[Office]:
    with closing(GatedStore.open(path / "store", owner=Owner.here("a test", clock=SystemClock()))) as store:
        key = path / "journal.pem"
        if not key.exists():
            PrivateKey.generate().to_file(key)
        journal = await Journal.open(store, PrivateKey.from_file(key), "topnode/top")
        opened = Office(store, journal, RegistrySettings(**settings))
        await opened.state.begin(opened.clock.wall())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(opened.desk.run())
            yield opened
            running.cancel()


async def test_an_answer_is_durable_and_proven(tmp_path: Path) -> None:
    """The entry stands in the store, with the envelope as it came, and its receipt holds."""
    async with office(tmp_path) as place:
        octets = place.signed({"keys": ["88.1/A"]}, "first")
        answer = await place.submit(octets)
        assert answer.receipt
        assert check_receipt(answer.receipt, place.journal.verifier_key).size == 1
        (kept,) = await place.store.entries(0, 1)
        assert kept.artefacts == (octets,)
        assert kept.result == answer.result
        assert kept.statement == answer.receipt.statement
        statement = pb.Statement.FromString(kept.statement)
        assert (statement.kind, statement.actor, statement.request_id) == (KIND, "wang", "first")
        assert statement.accepted_at == int(place.clock.wall())
        assert [each.hex() for each in statement.key_ids] == [OPERATOR.public.key_id]
        assert statement.refused == b""


async def test_callers_at_once_share_commits(tmp_path: Path) -> None:
    """A hundred callers need two commits at most, not a hundred; all get receipts of the tree over their group."""
    async with office(tmp_path) as place:
        answers = await place.submit_all(*(place.signed({"keys": [f"88.1/{each}"]}) for each in range(100)))
        assert [said(each) for each in answers] == ["REGISTERED"] * 100
        assert place.store.commits <= 2
        for answer in answers:
            assert isinstance(answer, Answer)
            assert answer.receipt
            check_receipt(answer.receipt, place.journal.verifier_key)
        assert place.sample("topnode_registry_entries_total", kind=KIND) == 100
        assert place.sample("topnode_registry_rows_total", outcome="registered") == 100
        assert place.sample("topnode_registry_commit_seconds_count") == place.store.commits


async def test_those_who_are_just_arriving_are_let_in(tmp_path: Path) -> None:
    """One after another in neighbouring turns of the event loop, as sockets bring them: one commit."""
    async with office(tmp_path) as place:
        octets = [place.signed({"keys": [f"88.1/{each}"]}) for each in range(20)]
        arriving = []
        for each in octets:
            arriving.append(asyncio.create_task(place.submit(each)))
            await asyncio.sleep(0)
        assert {said(each) for each in await asyncio.gather(*arriving)} == {"REGISTERED"}
        assert place.store.commits == 1


async def test_what_comes_during_a_commit_is_the_next_group(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        place.store.hold()
        first = asyncio.create_task(place.submit(place.signed({"keys": ["88.1/A"]})))
        await place.store.committing.wait()
        others = [asyncio.create_task(place.submit(place.signed({"keys": ["88.1/A"]}))) for _ in range(20)]
        await asyncio.sleep(0)
        assert place.sample("topnode_registry_waiting_requests") == 20
        assert place.sample("topnode_registry_waiting_bytes") > 20 * 200
        place.store.release()
        assert said(await first) == "REGISTERED"
        assert {said(await each) for each in others} == {"REPLACED"}
        assert place.store.commits == 2
        assert place.sample("topnode_registry_waiting_bytes") == 0


async def test_a_request_is_planned_against_those_before_it_in_its_group(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        body = {"keys": ["88.1/A"]}
        assert await place.outcomes(place.signed(body), place.signed(body)) == ["REGISTERED", "REPLACED"]
        assert place.store.commits == 1


async def test_the_same_request_twice_is_one_entry(tmp_path: Path) -> None:
    """Byte-identical or freshly signed, in one group or later: the first answer again, and no second entry."""
    async with office(tmp_path) as place:
        body = {"keys": ["88.1/A"]}
        octets = place.signed(body, "one")
        answers = await place.submit_all(octets, octets, place.signed(body, "one"))
        assert [said(each) for each in answers] == ["REGISTERED", "REGISTERED again", "REGISTERED again"]
        assert await place.outcomes(octets, place.signed(body, "one")) == ["REGISTERED again"] * 2
        assert await place.store.head() == 1
        assert place.sample("topnode_registry_repeated_total") == 4


async def test_a_repetition_is_answered_after_its_time(tmp_path: Path) -> None:
    """Freshness and nonce are asked about of what is not answered yet."""
    async with office(tmp_path) as place:
        octets = place.signed({"keys": ["88.1/A"]}, "one")
        late = place.signed({"keys": ["88.1/B"]}, "two")
        await place.submit(octets)
        place.clock.advance(331)
        assert await place.outcomes(octets, late) == ["REGISTERED again", "ENVELOPE_EXPIRED"]


async def test_the_first_answer_outlives_the_process(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        body = {"keys": ["88.1/A"]}
        octets = place.signed(body, "one")
        first = await place.submit(octets)
    async with office(tmp_path) as place:
        again = await place.submit(octets)
        assert again.is_repeated
        assert again.result == first.result
        assert again.receipt
        assert check_receipt(again.receipt, place.journal.verifier_key)
        assert said(await place.submit(place.signed(body, "one"))) == "REGISTERED again"


async def test_another_body_under_a_request_id_is_refused(tmp_path: Path) -> None:
    """In the same group, and later."""
    async with office(tmp_path) as place:
        octets = [place.signed({"keys": [f"88.1/{each}"]}, "one") for each in "AB"]
        assert await place.outcomes(*octets) == ["REGISTERED", "REQUEST_ID_REUSED"]
        assert await place.outcomes(octets[1]) == ["REQUEST_ID_REUSED"]
        assert place.sample("topnode_registry_refused_total", reason="REQUEST_ID_REUSED") == 2


async def test_a_nonce_is_spent_once(tmp_path: Path) -> None:
    """In the same group, and later."""
    async with office(tmp_path) as place:
        octets = [place.signed({"keys": [f"88.1/{each}"]}, nonce="ab" * 16) for each in "ABC"]
        assert await place.outcomes(*octets[:2]) == ["REGISTERED", "NONCE_SPENT"]
        assert await place.outcomes(octets[2]) == ["NONCE_SPENT"]


@pytest.mark.parametrize("body", [{"needs": "88.1/A"}, {"needs": "88.1/A", "rows": True}], ids=["whole", "rows"])
async def test_what_was_refused_is_not_taken_later_when_the_state_has_changed(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    """Whoever saw the envelope cannot send it; whoever signed it can sign the same anew, under its request id."""
    async with office(tmp_path) as place:
        body = {"keys": ["88.1/B"], **body}
        octets = place.signed(body, "one")
        told = "REFUSED" if body.get("rows") else "PREFIX_NOT_HELD"
        assert await place.outcomes(octets, octets) == [told, "NONCE_SPENT"]
        assert await place.outcomes(place.signed({"keys": ["88.1/A"]})) == ["REGISTERED"]
        assert await place.outcomes(octets, place.signed(body, "one")) == ["NONCE_SPENT", "REGISTERED"]


@pytest.mark.parametrize("body", [{"busy": True}, {"mistake": True}])
async def test_what_the_node_could_not_do_may_be_sent_again_as_it_is(tmp_path: Path, body: dict[str, Any]) -> None:
    async with office(tmp_path) as place:
        octets = place.signed(body)
        first, again = await place.outcomes(octets), await place.outcomes(octets)
        assert first == again != ["NONCE_SPENT"]


async def test_what_goes_wrong_with_one_is_told_to_that_one(tmp_path: Path) -> None:
    """A refusal, or a mistake of ours, leaves the others of the group alone, and the desk goes on."""
    async with office(tmp_path) as place:
        bodies: list[dict[str, Any]] = [{"keys": ["88.1/A"]}, REFUSED, {"mistake": True}, {"keys": ["88.1/B"]}]
        told = await place.outcomes(*(place.signed(body) for body in bodies))
        assert told == ["REGISTERED", "PREFIX_NOT_HELD", "ZeroDivisionError", "REGISTERED"]
        assert await place.outcomes(place.signed({"keys": ["88.1/B"]})) == ["REPLACED"]


async def test_a_request_whose_rows_are_all_refused_is_no_entry(tmp_path: Path) -> None:
    """It is answered without a receipt, and may be sent again under its request id."""
    async with office(tmp_path) as place:
        answer = await place.submit(place.signed({"keys": ["88.1/A"], "refused": True}, "one"))
        result = pb.Result.FromString(answer.result)
        assert answer.receipt is None
        assert list(result.outcomes) == [pb.OUTCOME_REFUSED]
        assert [each.row for each in result.refusals] == [0]
        assert await place.store.head() == 0
        assert await place.outcomes(place.signed({"keys": ["88.1/A"]}, "one")) == ["REGISTERED"]


async def test_the_store_is_asked_once_about_a_whole_group(tmp_path: Path) -> None:
    """About all requests, and about all nonces: over a network each question is a round trip."""
    async with office(tmp_path) as place:
        await place.submit_all(*(place.signed({"keys": [f"88.1/{each}"]}) for each in range(100)))
        assert place.store.asked == 2 * place.store.commits


async def test_a_commit_that_took_place_unheard_is_found_out_before_anybody_is_answered(tmp_path: Path) -> None:
    """Its callers are told that nobody knows; then they get their first answers, and others the indexes behind."""
    async with office(tmp_path) as place:
        octets = [place.signed({"keys": [f"88.1/{each}"]}, each) for each in "AB"]
        place.store.loses_word = True
        assert await place.outcomes(*octets) == ["STORE_UNAVAILABLE"] * 2
        place.store.loses_word = False
        answers = await place.submit_all(place.signed({"keys": ["88.1/C"]}), *octets)
        assert [said(each) for each in answers] == ["REGISTERED", "REGISTERED again", "REGISTERED again"]
        receipts = [each.receipt for each in answers if isinstance(each, Answer) and each.receipt]
        assert [each.index for each in receipts] == [3, 1, 2]
        for receipt in receipts:
            check_receipt(receipt, place.journal.verifier_key)
        assert place.sample("topnode_registry_commit_failures_total") == 1


async def test_rows_of_a_commit_that_failed_are_gone_at_once(tmp_path: Path) -> None:
    """Without another request: nobody signs by them, and nobody is told them."""
    async with office(tmp_path) as place:
        place.store.fault = Fault(Reason.STORE_FULL)
        assert await place.outcomes(place.signed({}, kind="node-review.v1")) == ["STORE_FULL"]
        assert place.state.stored_node("88.111") is None
        with pytest.raises(Fault) as caught:
            place.verifier.verify(Signing("88.111", NODE, now=place.clock.wall()).request(KIND, {}), SUBMIT)
        assert caught.value.reason is Reason.KEY_UNKNOWN


async def test_rows_are_told_to_others_when_they_are_committed_and_not_before(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        place.store.hold()
        coming = asyncio.create_task(place.submit(place.signed({}, kind="node-review.v1")))
        await place.store.committing.wait()
        assert place.state.node("88.111")
        assert place.state.stored_node("88.111") is None
        place.store.release()
        await coming
        assert place.state.stored_node("88.111") == place.state.node("88.111")


async def test_while_the_store_cannot_be_read_after_a_failed_commit_everything_is_refused(tmp_path: Path) -> None:
    """Also what waits already. When it can be read again, the desk goes on by itself."""
    async with office(tmp_path) as place:
        place.store.fault = Fault(Reason.STORE_UNAVAILABLE)
        place.store.hold()
        body = {"keys": ["88.1/A"]}
        first = asyncio.create_task(place.submit(place.signed(body)))
        await place.store.committing.wait()
        waiting = asyncio.create_task(place.submit(place.signed(body)))
        place.store.is_unreadable = True
        place.store.release()
        told = await asyncio.gather(first, waiting, return_exceptions=True)
        assert [said(each) for each in told] == ["STORE_UNAVAILABLE"] * 2
        with pytest.raises(Fault) as caught:
            place.state.check_known()
        assert (caught.value.reason, caught.value.retry_after) == (Reason.STORE_UNAVAILABLE, 1.0)
        with pytest.raises(Fault):
            place.state.stored_prefix(b"88.1")
        place.store.fault, place.store.is_unreadable = None, False
        await known(place.state)
        assert await place.outcomes(place.signed(body)) == ["REGISTERED"]


async def known(state: State) -> None:
    """Wait until the desk has read what a commit that failed left."""
    while True:
        try:
            state.check_known()
        except Fault:
            await asyncio.sleep(0)
        else:
            return


async def test_a_failed_commit_refuses_its_group_and_forgets_it(tmp_path: Path) -> None:
    """Repetitions in the group too. Afterwards the same requests are planned as if they had never come."""
    async with office(tmp_path) as place:
        octets = place.signed({"keys": ["88.1/A"]}, "one")
        place.store.fault = Fault(Reason.STORE_FULL)
        answers = await place.submit_all(octets, octets, place.signed({"keys": ["88.1/B"]}))
        assert [said(each) for each in answers] == ["STORE_FULL"] * 3
        assert len({id(each) for each in answers}) == 3
        place.store.fault = None
        assert await place.outcomes(octets, place.signed({"keys": ["88.1/B"]})) == ["REGISTERED"] * 2
        assert await place.store.head() == 2


async def test_a_node_that_is_suspended_stops_in_mid_queue(tmp_path: Path) -> None:
    """What was verified before, and is planned after the suspension, is refused."""
    async with office(tmp_path) as place:
        await place.submit(place.signed({}, kind="node-review.v1"))
        node = Signing("88.111", NODE, now=place.clock.wall())
        octets = [node.request(KIND, {"keys": [f"88.1/{each}"]}) for each in "AB"]
        suspension = place.signed({}, kind=SUSPEND)
        assert await place.outcomes(octets[0], suspension, octets[1]) == [
            "REGISTERED",
            "REPLACED",
            "NODE_NOT_ENABLED",
        ]


async def test_who_may_sign_no_more_still_gets_the_first_answer(tmp_path: Path) -> None:
    """That comes before: what was taken is told, whoever may sign now; what was not is refused."""
    async with office(tmp_path) as place:
        await place.submit(place.signed({}, kind="node-review.v1"))
        node = Signing("88.111", NODE, now=place.clock.wall())
        taken, new = (
            place.verifier.verify(node.request(KIND, {"keys": [f"88.1/{each}"]}, each), SUBMIT) for each in "AB"
        )
        first = await place.desk.submit(taken)
        await place.submit(place.signed({}, kind=SUSPEND))
        again = await place.desk.submit(taken)
        assert (again.result, again.is_repeated) == (first.result, True)
        (refused,) = await asyncio.gather(place.desk.submit(new), return_exceptions=True)
        assert said(refused) == "NODE_NOT_ENABLED"


@pytest.mark.parametrize(("jump", "reason"), [(86_400, "ENVELOPE_EXPIRED"), (-86_400, "ENVELOPE_NOT_YET_VALID")])
async def test_the_clock_may_jump_while_requests_wait(tmp_path: Path, jump: int, reason: str) -> None:
    """They are judged by the time at which they are taken; those signed by the new time are taken."""
    async with office(tmp_path) as place:
        place.store.hold()
        first = asyncio.create_task(place.submit(place.signed({"keys": ["88.1/A"]}, "one")))
        await place.store.committing.wait()
        octets = place.signed({"keys": ["88.1/B"]})
        waiting = asyncio.create_task(place.submit(octets))
        await asyncio.sleep(0)
        place.clock.advance(jump)
        place.store.release()
        told = await asyncio.gather(first, waiting, return_exceptions=True)
        assert [said(each) for each in told] == ["REGISTERED", reason]
        assert await place.outcomes(place.signed({"keys": ["88.1/A"]}, "one")) == ["REGISTERED again"]
        place.clock.advance(-jump)
        assert await place.outcomes(octets) == ["REGISTERED"]


async def test_nobody_is_planned_for_who_has_gone(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        place.store.hold()
        first = asyncio.create_task(place.submit(place.signed({"keys": ["88.1/A"]})))
        await place.store.committing.wait()
        gone = asyncio.create_task(place.submit(place.signed({"keys": ["88.1/B"]})))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        place.store.release()
        await first
        assert await place.outcomes(place.signed({"keys": ["88.1/B"]})) == ["REGISTERED"]
        assert await place.store.head() == 2


async def test_a_caller_who_goes_during_the_commit_changes_nothing(tmp_path: Path) -> None:
    """What is being written is written, and told to whoever asks again."""
    async with office(tmp_path) as place:
        place.store.hold()
        octets = place.signed({"keys": ["88.1/A"]}, "one")
        gone = asyncio.create_task(place.submit(octets))
        await place.store.committing.wait()
        gone.cancel()
        await asyncio.sleep(0)
        place.store.release()
        assert await place.outcomes(octets) == ["REGISTERED again"]


@pytest.mark.parametrize("bound", [{"waiting": 2}, {"waiting_size": 1_100}], ids=["in number", "in bytes"])
async def test_more_than_may_wait_are_refused(tmp_path: Path, bound: dict[str, Any]) -> None:
    """With a time after which to retry; what waits is answered."""
    async with office(tmp_path, **bound) as place:
        place.store.hold()
        first = asyncio.create_task(place.submit(place.signed({"keys": ["88.1/A"]})))
        await place.store.committing.wait()
        others = [asyncio.create_task(place.submit(place.signed({"keys": ["88.1/B"]}))) for _ in range(5)]
        await asyncio.sleep(0)
        place.store.release()
        answers = await asyncio.gather(first, *others, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, Fault)]
        assert len(refused) == 3
        assert {(each.reason, each.retry_after) for each in refused} == {(Reason.TOO_MANY_IN_FLIGHT, 1.0)}


async def test_one_request_is_let_in_whatever_its_size(tmp_path: Path) -> None:
    async with office(tmp_path, waiting_size=10) as place:
        assert await place.outcomes(place.signed({"keys": ["88.1/A"]})) == ["REGISTERED"]
