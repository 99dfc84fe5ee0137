"""What nodes of this project are asked with, and how what they say is read: the same over each client of gRPC."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from resolver.errors import Fault, Reason
from resolver.federation.driver import Question, Reply
from resolver.federation.usual import Split
from resolver.routes import Protocol
from resolver.rpc.errors import fault_of
from resolver.trace import Step
from resolver.trust.answers import ANSWER_KEY, AnswerVerifier
from resolver.trust.verdicts import Trust
from resolver.v1 import octets_pb2
from resolver.wire import recursive_request, trace_steps

SERVICE: Final = "/topnode.resolver.v1.ResolverService"
BATCH: Final = f"{SERVICE}/BatchResolve"
STREAM: Final = f"{SERVICE}/StreamResolve"
NODE: Final = f"{SERVICE}/GetNodeInfo"

NONCE_BYTES: Final = 16
"""Of each question to which a signed answer is wanted."""

_TRACE_KEY: Final = "topnode-trace-bin"


def batch_request(question: Question) -> bytes:
    """Say a question as a BatchResolveRequest."""
    return recursive_request(
        question.identifiers,
        question.path,
        authoritative=question.authoritative,
        trace=question.trace,
        nonce=secrets.token_bytes(NONCE_BYTES) if question.signer else b"",
    )


def seconds_left(question: Question, now: float) -> float:
    """Give the seconds that are left for an answer.

    Raises:
        Fault: DEADLINE_SPENT.
    """
    left = question.deadline - now
    if left <= 0:
        raise Fault(Reason.DEADLINE_SPENT)
    return left


class Replies:
    """Reads what came. Whose signature is wanted is in the question; without a verifier none is worth anything."""

    def __init__(self, verifier: AnswerVerifier | None, split: Split | None = None) -> None:
        """Make it; `split` is tried before anything else on what came."""
        self._verifier = verifier
        self._split = split

    def of_call(
        self, question: Question, request: bytes, response: bytes, beside: Iterable[tuple[str, str | bytes]]
    ) -> Reply:
        """Read a BatchResolveResponse, and the metadata that came behind it.

        Raises:
            Fault: CHILD_ANSWER_REFUSED where it cannot be read.
        """
        if not (question.trace or question.signer):
            return Reply(self._results(response), Protocol.GRPC)
        told = {key: value for key, value in beside if isinstance(value, bytes)}
        trust = self._trust(told.get(ANSWER_KEY, b""), question.signer, BATCH, request, response)
        steps = _steps(told.get(_TRACE_KEY, b"")) if question.trace else ()
        return Reply(self._results(response), Protocol.GRPC, steps, trust)

    def of_message(self, question: Question, request: bytes, octets: bytes) -> Reply:
        """Read a StreamResolveResponse.

        Raises:
            Fault: CHILD_ANSWER_REFUSED where it cannot be read; what the child refuses all of the question for.
        """
        try:
            said = octets_pb2.StreamResolveResponseOctets.FromString(octets)
        except DecodeError:
            raise _malformed() from None
        if said.HasField("error"):
            raise fault_of(said.error)
        trust = self._trust(said.signature, question.signer, STREAM, request, said.batch)
        return Reply(self._results(said.batch), Protocol.GRPC, _steps(said.trace) if question.trace else (), trust)

    def _results(self, octets: bytes) -> Sequence[bytes | Fault]:
        answers = self._split(octets) if self._split else None
        return _results(octets) if answers is None else answers

    def _trust(self, envelope: bytes, signer: str, path: str, request: bytes, response: bytes) -> Trust:
        if self._verifier is None or not signer:
            return Trust.UNKNOWN
        method = path.removeprefix("/")
        return self._verifier.verdict(envelope, node=signer, method=method, request=request, response=response)


def _results(octets: bytes) -> list[bytes | Fault]:
    """Read a batch answer, leaving each answer encoded."""
    try:
        response = octets_pb2.BatchResolveResponseOctets.FromString(octets)
    except DecodeError:
        raise _malformed() from None
    return [each.answer if each.HasField("answer") else fault_of(each.error) for each in response.results]


def _steps(octets: bytes) -> list[Step]:
    try:
        return trace_steps(octets)
    except DecodeError:
        # A trace is for the curious; an answer is not refused for it.
        return []


def _malformed() -> Fault:
    return Fault(Reason.CHILD_ANSWER_REFUSED, variables={"why": "malformed"})
