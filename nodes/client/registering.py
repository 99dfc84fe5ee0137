"""The client that registers: signed requests in, verified receipts out. Signing, retries and proofs are its business.

What each kind of request says is in docs/registry.md; the structs of their bodies are the registry's own.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from google.protobuf.message import Message
from msgspec import UNSET, Struct

from nodes.client.bulk import Row, cut, draft_of, identifiers, in_order
from nodes.client.calls import Calls, Method
from nodes.client.counts import Counts
from nodes.client.questions import Questions
from nodes.client.receipts import Checkpoint, node_of, receipt_from_message
from nodes.client.registered import ListedNode, listed_from_message, node_from_message, prefix_from_message
from nodes.client.retries import Patience
from nodes.client.sending import Sending
from nodes.client.signing import Draft, NodeTime, Signer
from nodes.client.submitted import Submitted, outcomes_of, refusals_of
from registry.allocation import Allocations
from registry.methods import SERVICE
from registry.nodes import Agreement, Application, Review, Rotation, Ruling, Takeover
from registry.plans import Outcome
from registry.prefix_changes import PrefixApplication, Renewal, Route, StateChange
from registry.rows import EndpointRow, PrefixRow
from registry.v1 import registry_pb2 as pb
from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState
from resolver.rpc.channels import ChannelSettings
from resolver.trust.actors import Node, NodeState, Tier
from resolver.trust.keys import PrivateKey
from resolver.trust.receipts import Receipt, check_receipt
from resolver.units import Duration

ENVELOPES_AT_ONCE: Final = 4
"""Envelopes of a bulk registration in flight: enough to keep a node busy while the network is on its way."""

_Response = TypeVar("_Response", bound=Message)


class RegistryClientSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client talks to a registry."""

    channel: ChannelSettings = ChannelSettings()
    """How the registry is reached."""

    timeout: Duration = Duration(30)
    """A request may take this long until it is durable and its receipt checked, its retries and whatever has to be
    asked before it included."""

    call_timeout: Duration = Duration(10)
    """One sending may take this long; then the same is sent again."""

    node: str = ""
    """The identifier of the node that requests are signed for. Empty: the one in the name of its journal's key."""

    verifier_key: str = ""
    """The key of the node's journal ("NAME+HASH+BASE64"), by which receipts are checked. Empty: the node is asked
    for it once and believed; whoever wants proof against the node itself pins what `topnode journal key` shows."""


class RegistryClient:
    """Asks one registry. Made within a running loop; used as a context, or closed.

    Whatever goes wrong is a Fault. What passes is tried again until the deadline, and nothing is done twice: a
    request that is sent again, the same bytes or signed anew, gets its first answer. The methods that write take a
    `request_id` for callers who keep it across their own restarts; they give what became of the request, with a
    receipt that was checked, and raise the Fault of a request that was refused.
    """

    def __init__(
        self,
        address: str,
        signer: Signer | None = None,
        settings: RegistryClientSettings | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        """Reach a registry at `host:port` or `unix:path`; it is connected with the first call.

        Without a signer it only reads what everybody may read.

        Raises:
            Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
        """
        self._settings = settings or RegistryClientSettings()
        self._calls = Calls(address, self._settings.channel, SERVICE, clock or SystemClock())
        self._time = NodeTime(self._calls.clock, self._calls.counts)
        self._questions = Questions(self._calls, signer, self._time, self._audience, self._settings.timeout)
        self._verifier_key = self._settings.verifier_key
        self._submit = self._calls.method("Submit", pb.SubmitResponse)
        self._get_receipt = self._calls.method("GetReceipt", pb.GetReceiptResponse)
        self._get_checkpoint = self._calls.method("GetCheckpoint", pb.GetCheckpointResponse)
        self._get_prefix = self._calls.method("GetPrefix", pb.GetPrefixResponse)
        self._get_node = self._calls.method("GetNode", pb.GetNodeResponse)
        self._list_nodes = self._calls.method("ListNodes", pb.ListNodesResponse)
        self._heartbeat = self._calls.method("Heartbeat", pb.HeartbeatResponse)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight end."""
        await self._calls.close()

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._calls.counts

    @property
    def clock_offset(self) -> float:
        """Seconds by which the node's clock is ahead of this machine's, as far as the node had to tell."""
        return self._time.offset

    # --- identifiers ---------------------------------------------------------------------------------------------

    async def register(self, rows: Sequence[Row], *, partial: bool = False, request_id: str = "") -> Submitted:
        """Register, change or delete up to 1,000 identifiers: all of them, or with `partial` those that can be.

        Raises:
            Fault: the node's; without `partial` that of the first row that was refused, named in the field. To see
                all of them, `send` the draft.
        """
        submitted = await self.send(identifiers(rows, partial=partial, request_id=request_id))
        if not partial:
            submitted.insist()
        return submitted

    async def register_all(
        self,
        rows: Iterable[Row],
        *,
        partial: bool = True,
        at_once: int = ENVELOPES_AT_ONCE,
    ) -> AsyncIterator[Submitted]:
        """Register any number of identifiers, in envelopes of up to 1,000 rows, so many of them at once.

        Gives what became of each envelope, in the order of the rows. Rows about one identifier should stand far
        apart: in one envelope both are refused, and of envelopes on their way at once any may be taken first.

        Raises:
            Fault: as `send`; what was in flight then is ended, and may have been taken or not.
        """
        drafts = (draft_of(some, partial=partial) for some in cut(rows))
        async for submitted in in_order((self.send(draft) for draft in drafts), at_once):
            yield submitted

    # --- nodes ---------------------------------------------------------------------------------------------------

    async def apply(
        self,
        *,
        tier: Tier,
        organisation: str,
        parent: str = "",
        industry: str = "",
        agreement: bool = False,
        request_id: str = "",
    ) -> Submitted:
        """Apply as a node: the signer's actor is its identifier, the signer's key will be its key.

        `organisation` is the legal entity, `industry` its class by GB/T 4754; an enterprise names the secondary node
        that it belongs to. `agreement`: the node above may answer in its place, by itself, when it is down. Then an
        operator reviews it.
        """
        signer = self._must_sign()
        body = Application(
            node=signer.actor,
            tier="secondary" if tier is Tier.SECONDARY else "enterprise",
            organisation=organisation,
            key=signer.key.public.spki,
            parent=parent,
            industry=industry,
            agreement=agreement,
        )
        return await self._write("node-apply.v1", body, request_id)

    async def review(
        self,
        node: str,
        *,
        enable: bool = True,
        reason: str = "",
        agreement: bool | None = None,
        request_id: str = "",
    ) -> Submitted:
        """Decide about an application, as an operator.

        `agreement`: what was agreed about taking it over when it is down; None: as the application says.
        """
        body = Review(
            node=node,
            decision="enable" if enable else "reject",
            reason=reason,
            agreement=UNSET if agreement is None else agreement,
        )
        return await self._write("node-review.v1", body, request_id)

    async def suspend(self, node: str, reason: str, *, request_id: str = "") -> Submitted:
        """Keep a node from signing, as an operator; what it registered goes on resolving."""
        return await self._write("node-suspend.v1", Ruling(node=node, reason=reason), request_id)

    async def resume(self, node: str, reason: str = "", *, request_id: str = "") -> Submitted:
        """Let a suspended node sign again, as an operator."""
        return await self._write("node-resume.v1", Ruling(node=node, reason=reason), request_id)

    async def revoke(self, node: str, reason: str, *, request_id: str = "") -> Submitted:
        """Keep a node from signing for good, as an operator; what it registered goes on resolving."""
        return await self._write("node-revoke.v1", Ruling(node=node, reason=reason), request_id)

    async def rotate(self, new: PrivateKey, *, request_id: str = "") -> Submitted:
        """Put another key in the place of the signer's, which both sign; from then on this client signs with it."""
        signer = self._must_sign()
        draft = Draft.of("node-rotate.v1", Rotation(key=new.public.spki), request_id)
        submitted = await self.send(draft, also=new)
        submitted.insist()
        self._questions.signer = Signer(signer.actor, new)
        return submitted

    async def agree(self, node: str, *, agreement: bool = True, request_id: str = "") -> Submitted:
        """Say, as that node or as an operator, whether it may be taken over by itself when it is down."""
        return await self._write("node-agreement.v1", Agreement(node=node, agreement=agreement), request_id)

    async def take_over(self, node: str, reason: str, *, automatic: bool = False, request_id: str = "") -> Submitted:
        """Have the registry's node answer in the place of this one, out of registered copies, as an operator.

        `automatic`: no operator has looked at it; that must have been agreed on.
        """
        body = Takeover(node=node, takeover=True, reason=reason, automatic=automatic)
        return await self._write("node-takeover.v1", body, request_id)

    async def hand_back(self, node: str, reason: str, *, automatic: bool = False, request_id: str = "") -> Submitted:
        """Have a node that was taken over answer for itself again, as an operator; `automatic` as in `take_over`."""
        body = Takeover(node=node, takeover=False, reason=reason, automatic=automatic)
        return await self._write("node-takeover.v1", body, request_id)

    # --- prefixes ------------------------------------------------------------------------------------------------

    async def apply_for_prefix(
        self,
        prefix: str,
        *,
        hosting: Hosting = Hosting.HERE,
        case: CaseRule | None = None,
        expires_at: int = 0,
        endpoints: Sequence[Endpoint] = (),
        request_id: str = "",
    ) -> Submitted:
        """Apply for a prefix, as the node that wants to hold it; it means nothing until it is enabled from above.

        Without a case rule it will have that of the prefix above; `expires_at` is the end of its term (Unix seconds,
        0: none of its own).
        """
        body = PrefixApplication(
            prefix=prefix,
            hosting=_spelled(hosting),
            case=UNSET if case is None else _spelled(case),
            expires_at=expires_at,
            endpoints=[EndpointRow.of(endpoint) for endpoint in endpoints],
        )
        return await self._write("prefix-apply.v1", body, request_id)

    async def allocate(self, rows: Sequence[PrefixRow], *, request_id: str = "") -> Submitted:
        """Allocate up to 1,000 prefixes, all or none: as an operator, or below a prefix of one's own."""
        return await self._write("prefix-allocate.v1", Allocations(rows=list(rows)), request_id)

    async def set_prefix_state(self, prefix: str, state: PrefixState, *, request_id: str = "") -> Submitted:
        """Bring a prefix into another state: as an operator, or the holder of the prefix above; some also its own."""
        body = StateChange(prefix=prefix, state=_spelled(state))
        return await self._write("prefix-state.v1", body, request_id)

    async def renew_prefix(self, prefix: str, expires_at: int, *, request_id: str = "") -> Submitted:
        """Have a prefix's term end at another time (Unix seconds, 0: with that of the prefix above)."""
        return await self._write("prefix-renew.v1", Renewal(prefix=prefix, expires_at=expires_at), request_id)

    async def set_route(
        self, prefix: str, *, hosting: Hosting, endpoints: Sequence[Endpoint] = (), request_id: str = ""
    ) -> Submitted:
        """Say, as the holder, where the records of a prefix have their authority, and where that answers."""
        rows = [EndpointRow.of(endpoint) for endpoint in endpoints]
        return await self._write(
            "route.v1", Route(prefix=prefix, hosting=_spelled(hosting), endpoints=rows), request_id
        )

    # --- any request ---------------------------------------------------------------------------------------------

    async def send(self, draft: Draft, *, also: PrivateKey | None = None) -> Submitted:
        """Sign a draft and send it until it is answered; `also` signs too.

        Rows may have been refused; a request that was refused altogether is raised.

        Raises:
            Fault: the node's; NODE_UNREACHABLE or DEADLINE_SPENT when nothing was heard in time: the request may have
                been taken then, and the same draft sent again tells; RECEIPT_INVALID where the answer's proof does
                not prove it; KEY_INVALID without a signer.
        """
        signer = self._must_sign()
        keys = (signer.key, also) if also else (signer.key,)
        patience = Patience(self._calls.clock, self._settings.timeout, self.counts, is_write=True)
        node = await self._audience(patience.left)
        sending = Sending(self._calls, self._time, draft, signer, keys, node=node)
        response = await sending.send(self._submit, patience, self._settings.call_timeout)
        return await self._read(response, sending, patience)

    # --- what is registered --------------------------------------------------------------------------------------

    async def node(self, name: str) -> Node:
        """Give what is registered of a node: its state and keys.

        Raises:
            Fault: NODE_UNKNOWN, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        response = await self._ask(self._get_node, pb.GetNodeRequest(node=name))
        return node_from_message(response.node)

    async def nodes(self, states: Iterable[NodeState] = ()) -> AsyncIterator[Node]:
        """Give all nodes in these states (none named: all), as an operator; fetched page by page.

        Raises:
            Fault: NOT_AUTHORISED, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        async for listed in self.listed_nodes(states):
            yield listed.node

    async def listed_nodes(self, states: Iterable[NodeState] = ()) -> AsyncIterator[ListedNode]:
        """Give the same, each with the last sign of life that the registry heard from it.

        Raises:
            Fault: as `nodes`.
        """
        request = pb.ListNodesRequest(states=[f"NODE_STATE_{state.name}" for state in states], page_size=1_000)
        while True:
            page = await self._questions.ask("ListNodes", self._list_nodes, request)
            for node in page.nodes:
                yield listed_from_message(node)
            if not page.next_after:
                return
            request.after = page.next_after

    async def heartbeat(self, applied_index: int, software_version: str) -> int:
        """Give a sign of life, as an enabled node; gives the newest index of the registry's journal.

        Raises:
            Fault: as `QueryVerifier.signer` of the node, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        request = pb.HeartbeatRequest(
            node=self._must_sign().actor,
            time=int(self._time.now() * 1_000),
            applied_index=applied_index,
            software_version=software_version,
        )
        response = await self._questions.ask("Heartbeat", self._heartbeat, request)
        return response.index

    async def prefix(self, prefix: str) -> Prefix:
        """Give what is registered of exactly this prefix: an allocation, or an application for one.

        Raises:
            Fault: PREFIX_NOT_ALLOCATED where there is no row of it; PREFIX_*, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        response = await self._ask(self._get_prefix, pb.GetPrefixRequest(prefix=prefix))
        return prefix_from_message(response.prefix)

    async def receipt(self, index: int) -> Receipt:
        """Fetch the proof, in the journal as it is now, of the entry with this index; it is checked.

        Raises:
            Fault: ENTRY_UNKNOWN, RECEIPT_INVALID, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        patience = self._questions.patience()
        response = await self._ask(self._get_receipt, pb.GetReceiptRequest(index=index), patience.left)
        receipt = receipt_from_message(response.receipt)
        check_receipt(receipt, await self._trusted(patience.left))
        return receipt

    async def checkpoint(self) -> Checkpoint:
        """Fetch the signed head of the journal's tree, and the key that signs it; nothing is checked.

        Raises:
            Fault: NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        return await self._checkpoint(self._settings.timeout)

    # --- what all of it is made of -------------------------------------------------------------------------------

    async def _write(self, kind: str, body: Struct, request_id: str) -> Submitted:
        submitted = await self.send(Draft.of(kind, body, request_id))
        submitted.insist()
        return submitted

    async def _read(self, response: pb.SubmitResponse, sending: Sending, patience: Patience) -> Submitted:
        """Read an answer, and check what it is proven by."""
        outcomes = outcomes_of(response.result)
        receipt = receipt_from_message(response.receipt) if response.HasField("receipt") else None
        if receipt is not None:
            check_receipt(receipt, await self._trusted(patience.left))
            sending.check(receipt, outcomes, is_repeated=response.repeated_answer)
        elif any(outcome is not Outcome.REFUSED for outcome in outcomes):
            raise Fault(Reason.RECEIPT_INVALID, "Rows were taken, and there is no receipt.", field="receipt")
        return Submitted(
            request_id=sending.draft.request_id,
            outcomes=outcomes,
            refusals=refusals_of(response.result),
            minted={minted.row: minted.identifier for minted in response.result.minted},
            receipt=receipt,
            envelope=sending.envelope_of(receipt),
            is_repeated=response.repeated_answer,
        )

    def _must_sign(self) -> Signer:
        if self._questions.signer is None:
            raise Fault(Reason.KEY_INVALID, "Requests are signed, and this client has no signer.", field="signer")
        return self._questions.signer

    async def _audience(self, seconds: float) -> str:
        return self._settings.node or node_of(await self._trusted(seconds))

    async def _trusted(self, seconds: float) -> str:
        """Give the verifier key: the one that was pinned, else what the node said when it was asked first."""
        if not self._verifier_key:
            told = (await self._checkpoint(seconds)).verifier_key
            self._verifier_key = self._verifier_key or told
        return self._verifier_key

    async def _checkpoint(self, seconds: float) -> Checkpoint:
        response = await self._ask(self._get_checkpoint, pb.GetCheckpointRequest(), seconds)
        return Checkpoint(response.checkpoint, response.verifier_key)

    async def _ask(self, method: Method[_Response], request: Message, seconds: float | None = None) -> _Response:
        """Ask what is told to everybody, within the time of a request where nothing of it is spent yet."""
        seconds = self._settings.timeout if seconds is None else seconds
        return await self._calls.call(method, request.SerializeToString(), seconds)


def _spelled(member: IntEnum) -> Any:
    """Give a member of an enumeration as the JSON of bodies spells it."""
    return member.name.lower()
