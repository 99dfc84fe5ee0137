"""One request on its way: signed, sent until it is answered, signed anew where its envelope is of no use any more."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import grpc

from nodes.client.calls import Calls, Method
from nodes.client.receipts import check_statement, statement_of
from nodes.client.retries import Patience
from nodes.client.signing import Draft, NodeTime, Sealed, Signer, sealed
from registry.plans import Outcome
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_rpc_error
from resolver.trust.keys import PrivateKey
from resolver.trust.receipts import Receipt

METHOD: Final = "Submit"

SIGNINGS: Final = 5
"""Times that a request is signed anew because of what the node says of its times: a clock that differs again each
time is not to be helped."""

_MARGIN: Final = 5.0
"""Seconds before its expiry from which on an envelope is not sent again."""


class Sending:
    """One draft, and every envelope that was made of it."""

    def __init__(
        self,
        calls: Calls,
        time: NodeTime,
        draft: Draft,
        signer: Signer,
        keys: Sequence[PrivateKey],
        *,
        node: str,
    ) -> None:
        self.draft = draft
        self._calls = calls
        self._time = time
        self._signer = signer
        self._keys = keys
        self._node = node
        self._signings = 0
        self._sealed: list[Sealed] = [self._seal()]

    async def send(self, submit: Method[pb.SubmitResponse], patience: Patience, seconds: float) -> pb.SubmitResponse:
        """Send until there is an answer; one sending waits so many seconds for it at most.

        Raises:
            Fault: the node's; NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        while True:
            self._calls.counts.calls += 1
            try:
                return await submit(self._sealed[-1].octets, timeout=min(seconds, patience.left))
            except grpc.aio.AioRpcError as error:
                fault = fault_of_rpc_error(error)
            if not self._is_mended(fault):
                await patience.wait_after(fault)
                if self._time.now() > self._sealed[-1].expires_at - _MARGIN:
                    self._sign_anew()

    def check(self, receipt: Receipt, outcomes: Sequence[Outcome], *, is_repeated: bool) -> None:
        """Check that the entry of a receipt is about this request.

        One that was accepted before may name an envelope that another process sent. A statement says nothing of the
        body, so that it was the same request is the node's word then.

        Raises:
            Fault: RECEIPT_INVALID with the field.
        """
        statement = statement_of(receipt)
        check_statement(statement, self.draft, self._signer.actor, outcomes)
        if not is_repeated and not self._named(statement):
            raise Fault(
                Reason.RECEIPT_INVALID,
                "The journal's entry is about another envelope than was sent.",
                field="statement.envelope_sha256",
            )

    def envelope_of(self, receipt: Receipt | None) -> bytes:
        """Give the envelope that the receipt is about, or else the one that was sent last."""
        return (self._named(statement_of(receipt)) if receipt else b"") or self._sealed[-1].octets

    def _named(self, statement: pb.Statement) -> bytes:
        for each in self._sealed:
            if sha256(each.octets).digest() == statement.envelope_sha256:
                return each.octets
        return b""

    def _is_mended(self, fault: Fault) -> bool:
        """Sign anew where that is all that the node wants: for another time, or with a fresh nonce."""
        if not self._time.correct(fault) and fault.reason is not Reason.NONCE_SPENT:
            return False
        if self._signings >= SIGNINGS:
            raise fault
        self._signings += 1
        self._sign_anew()
        return True

    def _sign_anew(self) -> None:
        self._calls.counts.signed_anew += 1
        self._sealed.append(self._seal())

    def _seal(self) -> Sealed:
        method, now = self._calls.name(METHOD), self._time.now()
        return sealed(self.draft, self._signer, self._keys, node=self._node, method=method, now=now)
