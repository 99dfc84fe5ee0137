"""What stands in the journal about a request: the statement, the result, and what is kept beside them."""

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.entries import entry_of, result_of, statement_of
from registry.plans import Actor, Outcome, Plan, Request, refused_bits
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified
from resolver.bounds import CHUNK_ROWS, STATEMENT_BYTES
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of
from resolver.store import Checkpoint, Nonce, Write
from resolver.trust.heads import new_head

KEY_ID = "ab" * 32
OUTCOMES = st.lists(st.sampled_from(Outcome), max_size=100)


def verified(kind: str = "identifiers.v1", *, chunk: bytes = b"", actor: str = "88.111", **head: Any) -> Verified:
    request = Request(
        kind=kind,
        actor=Actor(actor),
        body=b"{}",
        at=1_800_000_000,
        envelope_sha256=sha256(b"envelope").digest(),
        key_ids=(KEY_ID, KEY_ID),
        chunk=chunk,
    )
    made = new_head(node="top", method="m", actor=actor, now=1, **{"request_id": "one", **head})
    return Verified(
        request=request,
        envelope=b"envelope",
        head=made,
        body_sha256=sha256(b"body").digest(),
        nonce=Nonce(b"n", 2),
        request_key=b"key",
    )


def planned(*outcomes: Outcome, **more: Any) -> Plan:
    refusals = {row: Fault(Reason.PREFIX_NOT_HELD) for row, each in enumerate(outcomes) if each is Outcome.REFUSED}
    return Plan(outcomes=outcomes, refusals=refusals, **more)


def test_the_statement_says_who_asked_for_what_and_what_was_refused() -> None:
    plan = planned(Outcome.REGISTERED, Outcome.REFUSED)
    statement = pb.Statement.FromString(statement_of(verified(), plan))
    assert statement == pb.Statement(
        kind="identifiers.v1",
        actor="88.111",
        request_id="one",
        key_ids=[bytes.fromhex(KEY_ID)] * 2,
        accepted_at=1_800_000_000,
        envelope_sha256=sha256(b"envelope").digest(),
        refused=b"\x02",
    )


def test_no_statement_is_longer_than_a_log_takes() -> None:
    """The largest chunk with nothing but refused rows, by the longest name."""
    refused = Plan(outcomes=[Outcome.REFUSED] * CHUNK_ROWS, refusals={0: Fault(Reason.PREFIX_NOT_HELD)})
    longest = verified("import.v1", chunk=b"c", actor="名" * 42, request_id="r" * 128)
    assert len(statement_of(longest, refused)) < STATEMENT_BYTES


@given(OUTCOMES)
def test_one_bit_for_each_row(outcomes: list[Outcome]) -> None:
    bits = int.from_bytes(refused_bits(outcomes), "little")
    assert [bits >> row & 1 == 1 for row in range(len(outcomes))] == [each is Outcome.REFUSED for each in outcomes]
    assert bits >> len(outcomes) == 0


@given(OUTCOMES)
def test_the_result_has_an_outcome_for_each_row(outcomes: list[Outcome]) -> None:
    """By the same numbers on the wire, and a reason for each that was refused."""
    result = pb.Result.FromString(result_of("identifiers.v1", planned(*outcomes, minted={0: "88.1/MADE"})))
    assert [int(each) for each in result.outcomes] == outcomes
    refused = [row for row, each in enumerate(outcomes) if each is Outcome.REFUSED]
    assert [(each.row, fault_of(each.error).reason) for each in result.refusals] == [
        (row, Reason.PREFIX_NOT_HELD) for row in refused
    ]
    assert [(each.row, each.identifier) for each in result.minted] == [(0, "88.1/MADE")]


@given(OUTCOMES)
def test_the_result_of_an_import_counts(outcomes: list[Outcome]) -> None:
    result = pb.ImportResponse.FromString(result_of("import.v1", planned(*outcomes)))
    counts = result.registered, result.replaced, result.unchanged, len(result.refusals)
    assert counts == tuple(
        outcomes.count(each) for each in (Outcome.REGISTERED, Outcome.REPLACED, Outcome.UNCHANGED, Outcome.REFUSED)
    )


@pytest.mark.parametrize("chunk", [b"", b"chunk"], ids=["a request", "an import"])
def test_an_entry_carries_all_that_changes(chunk: bytes) -> None:
    """The envelope as it came, and the chunk; what its retries and its nonce are known by."""
    write, reached = Write(b"KEY", b"body"), ("corpus", Checkpoint(offset=7))
    plan = planned(Outcome.REGISTERED, writes=[write], checkpoints=(reached,))
    entry = entry_of(verified(chunk=chunk), plan)
    assert entry.artefacts == ((b"envelope", chunk) if chunk else (b"envelope",))
    assert (entry.request, entry.nonces, entry.at) == (b"key", (Nonce(b"n", 2),), 1_800_000_000)
    assert (entry.writes, entry.checkpoints) == ([write], (reached,))
    assert pb.Statement.FromString(entry.statement).envelope_sha256 == sha256(b"envelope").digest()
