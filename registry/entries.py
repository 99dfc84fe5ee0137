"""What stands in the journal about one accepted request: its statement, what its caller was told, its changes.

Everything here follows from the request and its plan alone, so that a rebuild gives the same bytes.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from registry.kinds import IMPORT
from registry.plans import Outcome, Plan
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified
from resolver.rpc.errors import status_of
from resolver.store import Entry

_REFUSED: Final = Outcome.REFUSED


def entry_of(verified: Verified, plan: Plan) -> Entry:
    """Put together the entry of a request that is taken at `verified.request.at`, with this plan."""
    request = verified.request
    return Entry(
        statement=statement_of(verified, plan),
        artefacts=(verified.envelope, request.chunk) if request.chunk else (verified.envelope,),
        result=result_of(request.kind, plan),
        request=verified.request_key,
        at=request.at,
        nonces=(verified.nonce,),
        writes=plan.writes,
        prefixes=plan.prefixes,
        nodes=plan.nodes,
        checkpoints=plan.checkpoints,
    )


def statement_of(verified: Verified, plan: Plan) -> bytes:
    """Write the public statement: at most STATEMENT_BYTES, whatever the request."""
    request = verified.request
    return pb.Statement(
        kind=request.kind,
        actor=request.actor.name,
        request_id=verified.head.request_id,
        key_ids=[bytes.fromhex(key_id) for key_id in request.key_ids],
        accepted_at=request.at,
        envelope_sha256=request.envelope_sha256,
        body_sha256=verified.body_sha256,
        chunk_sha256=sha256(request.chunk).digest() if request.chunk else b"",
        refused=refused_bits(plan.outcomes) if plan.refusals else b"",
    ).SerializeToString()


def result_of(kind: str, plan: Plan) -> bytes:
    """Write what the caller is told, without its receipt: a Result, and for an import an ImportResponse."""
    if kind == IMPORT:
        outcomes = plan.outcomes
        return pb.ImportResponse(
            registered=outcomes.count(Outcome.REGISTERED),
            replaced=outcomes.count(Outcome.REPLACED),
            unchanged=outcomes.count(Outcome.UNCHANGED),
            refusals=_refusals(plan),
        ).SerializeToString()
    minted = [pb.Minted(row=row, identifier=identifier) for row, identifier in plan.minted.items()]
    numbers: Any = plan.outcomes  # the same on the wire, whatever the stubs say
    return pb.Result(outcomes=numbers, refusals=_refusals(plan), minted=minted).SerializeToString()


def refused_bits(outcomes: Sequence[Outcome]) -> bytes:
    """Give one bit for each row, set where it was refused, the first row in the lowest bit of the first byte."""
    bits = bytearray((len(outcomes) + 7) // 8)
    for row, outcome in enumerate(outcomes):
        if outcome is _REFUSED:
            bits[row >> 3] |= 1 << (row & 7)
    return bytes(bits)


def _refusals(plan: Plan) -> list[pb.Refusal]:
    return [pb.Refusal(row=row, error=status_of(fault)) for row, fault in sorted(plan.refusals.items())]
