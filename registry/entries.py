"""What stands in the journal about one accepted request: its statement, what its caller was told, its changes.

Everything here follows from the request and its plan alone, so that a rebuild gives the same bytes.
"""

from typing import Any

from registry.kinds import IMPORT
from registry.plans import Outcome, Plan, refused_bits
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified
from resolver.rpc.errors import status_of
from resolver.store import Entry


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
        refused=refused_bits(plan.outcomes),
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
            tallies=_tallies(plan),
        ).SerializeToString()
    minted = [pb.Minted(row=row, identifier=identifier) for row, identifier in plan.minted.items()]
    numbers: Any = plan.outcomes  # the same on the wire, whatever the stubs say
    return pb.Result(
        outcomes=numbers, refusals=_refusals(plan), minted=minted, tallies=_tallies(plan)
    ).SerializeToString()


def _tallies(plan: Plan) -> list[pb.Tally]:
    return [
        pb.Tally(
            prefix=prefix.decode(),
            registered=figures.registered,
            deleted=figures.deleted,
            allocated=figures.allocated,
        )
        for prefix, figures in plan.tallies
    ]


def _refusals(plan: Plan) -> list[pb.Refusal]:
    return [pb.Refusal(row=row, error=status_of(fault)) for row, fault in sorted(plan.refusals.items())]
