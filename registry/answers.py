"""What a request came to, and the first answer for whoever sends the same request again."""

from msgspec import Struct

from registry.journal import Journal, Store
from registry.verify import Verified
from resolver.errors import Fault, Reason
from resolver.trust.envelopes import Envelope, kind_of
from resolver.trust.heads import Payload, body_digest
from resolver.trust.receipts import Receipt


class Answer(Struct, frozen=True, kw_only=True):
    """What a request came to: its result (`registry.entries.result_of`), and the proof that it is in the journal.

    Without a receipt nothing was written: every row was refused. `is_repeated`: an earlier sending of the same
    request was answered so; the receipt is of the same entry, in the tree as it is now.
    """

    result: bytes
    receipt: Receipt | None = None
    is_repeated: bool = False


class FirstAnswers:
    """Finds what was answered before, in the store and its journal."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def find(self, verified: Verified) -> Answer | None:
        """Give the first answer to the same request, None where there is none.

        Raises:
            Fault: as `given`.
        """
        (index,) = await self._store.answered((verified.request_key,))
        return await self.given(verified, index) if index else None

    async def given(self, verified: Verified, index: int) -> Answer:
        """Give what this entry answered, whose request has the same actor and id.

        Raises:
            Fault: REQUEST_ID_REUSED where it had another body; JOURNAL_DAMAGED, STORE_UNAVAILABLE.
        """
        (kept,) = await self._store.entries(index - 1, 1)
        # Statements are public and have no hash of the body alone, so the envelope itself is looked at.
        if kept.artefacts[0] != verified.envelope:
            check_same(verified, _body_sha256(kept.artefacts[0]))
        receipt = await self._journal.receipt_of(index, kept.statement)
        return Answer(result=kept.result, receipt=receipt, is_repeated=True)


def check_same(verified: Verified, body_sha256: bytes) -> None:
    """Compare a request with the body of the one that was taken under its actor and id.

    Raises:
        Fault: REQUEST_ID_REUSED.
    """
    if verified.body_sha256 != body_sha256:
        raise Fault(
            Reason.REQUEST_ID_REUSED, field="head.request_id", variables={"request_id": verified.head.request_id}
        )


def _body_sha256(envelope: bytes) -> bytes:
    taken = Envelope.from_bytes(envelope)
    return body_digest(kind_of(taken.payload_type), Payload.from_bytes(taken.payload).body)
