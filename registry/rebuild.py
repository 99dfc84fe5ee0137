"""A store made anew out of a journal: every entry is verified and planned again, and must come to the same.

What is believed without the journal is `Trust`; everything else follows from statements, envelopes and chunks. What
does not fit is told as a `Finding`, with its entry: whoever rebuilds stops there (`Finding.fault`), whoever audits
goes on, and an entry of which nothing can be made changes nothing then.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from registry.entries import entry_of
from registry.journal import Store
from registry.kinds import IMPORT, PLANNERS
from registry.methods import IMPORT_METHOD, SUBMIT_METHOD
from registry.plans import Plan
from registry.state import State
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified, Verifier
from resolver.bounds import ANSWERS_KEPT
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of
from resolver.store import Commit, Entry, Kept, Nonce
from resolver.trust.merkle import Tree, leaf_hash
from resolver.trust.notes import open_checkpoint
from resolver.trust.operators import Operators


class Pace(Struct, frozen=True, kw_only=True):
    """How much is written together, and when a journal that grows is not followed any further.

    A group has at most so many entries, records, and bytes of envelopes and chunks, or one entry with more. Whoever
    is `near` or fewer entries behind goes on to where the journal ended then.
    """

    entries: int = 1_024
    records: int = 65_536
    octets: int = 16 << 20
    near: int = 10_000


WORDING: Final = "wording"
"""What was told about refused rows has the same reasons, in other words."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something that does not fit: with which entry (0: with none that is known), in what, and why.

    `kind` is entry, envelope, chunk, signature, time, repetition, plan, statement, result, wording, tree, tree head,
    or the name of a database.
    """

    index: int
    kind: str
    detail: str

    def fault(self) -> Fault:
        """Give it as JOURNAL_DAMAGED."""
        where = f"Entry {self.index}, {self.kind}" if self.index else self.kind.capitalize()
        return Fault(
            Reason.JOURNAL_DAMAGED,
            f"{where}: {self.detail}",
            variables={"index": str(self.index), "kind": self.kind},
        )


Note = Callable[[Finding], None]
"""Takes a finding; may raise, which ends the work."""

Tell = Callable[[int, int], None]
"""Told how many are done, and how many there are."""


class Trust(Struct, frozen=True, kw_only=True):
    """What is believed: who this node is, who its operators are and were, and the key of its journal."""

    node: str
    operators: Operators
    verifier_key: str


class Source(Protocol):
    """A journal as it lies in a store, in one state of it."""

    async def head(self) -> int:
        """Give the index of the newest entry."""

    async def tree_head(self) -> bytes:
        """Give the signed head of the tree."""

    async def last(self) -> int:
        """Give the index of the last entry that is there."""

    async def kept(self, index: int) -> Kept:
        """Give one entry.

        Raises:
            Fault: JOURNAL_DAMAGED where it is missing or cannot be read.
        """

    async def renew(self) -> None:
        """Go on to the newest state."""


class Rebuilt(Struct, frozen=True):
    """What was made: how many entries, and the root of the tree over them."""

    size: int
    root: bytes


def refuse(finding: Finding) -> None:
    """End the work at the first finding, but for the wording of refusals: another version has other sentences.

    Raises:
        Fault: JOURNAL_DAMAGED.
    """
    if finding.kind != WORDING:
        raise finding.fault()


_STEADY: Final = Pace()


async def rebuild(
    source: Source,
    target: Store,
    trust: Trust,
    *,
    note: Note,
    tell: Tell,
    keeps_artefacts: bool = True,
    pace: Pace = _STEADY,
) -> Rebuilt:
    """Write into a new store what the entries of a journal come to, and compare everything that they say.

    Without `keeps_artefacts` envelopes and chunks stay behind, and empty ones stand in their place: for comparing.

    Raises:
        Fault: whatever `note` raises; STORE_FULL, STORE_UNAVAILABLE; STORE_EXISTS where the target is not new.
    """
    if await target.head():
        raise Fault(Reason.STORE_EXISTS, "A rebuilt store is a new one.")
    replay = _Replay(target, trust, note, pace, keeps_artefacts=keeps_artefacts)
    await replay.begin()
    index, size = 0, await _size(source, note)
    while index < size:
        index += 1
        await replay.take(index, source)
        tell(index, size)
        if index % pace.entries == 0 and size - index > pace.near:
            await source.renew()
            size = await _size(source, note)
    root = await replay.end(await source.tree_head())
    return Rebuilt(size, root)


async def _size(source: Source, note: Note) -> int:
    """Give how many entries there are, by the head and by themselves."""
    head, last = await source.head(), await source.last()
    size = min(head, last)
    if head != last:
        detail = f"The head says that there are {head} entries; the last that is there is {last}."
        note(Finding(index=size + 1, kind="entry", detail=detail))
    return size


class _Replay:
    """Entries being planned again, and written in groups."""

    def __init__(self, target: Store, trust: Trust, note: Note, pace: Pace, *, keeps_artefacts: bool) -> None:
        self._target = target
        self._trust = trust
        self._note = note
        self._pace = pace
        self._keeps_artefacts = keeps_artefacts
        self._state = State(target, own_name=trust.node)
        self._verifier = Verifier(
            node=trust.node,
            nodes=self._state.nodes,
            operators=trust.operators,
            registry=CollectorRegistry(),
            kinds=PLANNERS.keys(),
        )
        self._tree = Tree()
        self._group = _Group()

    async def begin(self) -> None:
        """Take up the empty store."""
        await self._state.begin(0)

    async def take(self, index: int, source: Source) -> None:
        """Plan one entry again, as the next one."""
        if self._group.is_full(self._pace):
            await self._write(b"")
        kept = await self._kept(index, source)
        entry, plan = await self._planned(kept)
        self._state.add(plan)
        artefacts = kept.artefacts if self._keeps_artefacts else (b"",) * len(kept.artefacts)
        # What a receipt was given for stays as it is, whatever it says.
        self._group.add(index, replace(entry, statement=kept.statement, result=kept.result, artefacts=artefacts))

    async def end(self, tree_head: bytes) -> bytes:
        """Write the rest, with the signed head of the tree; give the tree's root."""
        if self._group.entries:
            await self._write(tree_head)
        self._compare_head(tree_head)
        return self._tree.root

    async def _kept(self, index: int, source: Source) -> Kept:
        try:
            return await source.kept(index)
        except Fault as fault:
            self._note(Finding(index=index, kind="entry", detail=fault.detail))
            return Kept(index, b"", (), b"")

    async def _planned(self, kept: Kept) -> tuple[Entry, Plan]:
        statement = self._statement(kept)
        if statement is None or not self._is_whole(kept, statement):
            return _nothing(kept), _NO_PLAN
        try:
            verified = self._verified(kept, statement)
        except Fault as fault:
            self._note(Finding(index=kept.index, kind="signature", detail=str(fault)))
            return _nothing(kept), _NO_PLAN
        self._compare_time(kept.index, verified)
        await self._compare_request(kept.index, verified)
        self._state.tell_time(statement.accepted_at)
        try:
            plan = await PLANNERS[verified.request.kind](verified.request, self._state)
        except Fault as fault:
            kind = "chunk" if fault.reason is Reason.CHUNK_MISMATCH else "plan"
            self._note(Finding(index=kept.index, kind=kind, detail=f"It is refused now: {fault}"))
            return _nothing(kept), _NO_PLAN
        entry = entry_of(verified, plan)
        self._compare(kept, entry, statement.kind)
        return entry, plan

    def _statement(self, kept: Kept) -> pb.Statement | None:
        try:
            return pb.Statement.FromString(kept.statement)
        except DecodeError:
            self._note(Finding(index=kept.index, kind="statement", detail="It cannot be read."))
            return None

    def _is_whole(self, kept: Kept, statement: pb.Statement) -> bool:
        """Compare a statement with its envelope, by which an import's planner then knows the chunk."""
        if not kept.artefacts or sha256(kept.artefacts[0]).digest() != statement.envelope_sha256:
            detail = "It is not the one that the statement names by its hash."
            self._note(Finding(index=kept.index, kind="envelope", detail=detail))
            return False
        if len(kept.artefacts) != 1 + (statement.kind == IMPORT):
            detail = "An import has one chunk beside its envelope, and nothing else has any."
            self._note(Finding(index=kept.index, kind="chunk", detail=detail))
            return False
        return True

    def _verified(self, kept: Kept, statement: pb.Statement) -> Verified:
        """Climb the ladder again, with the keys as they were."""
        method = IMPORT_METHOD if statement.kind == IMPORT else SUBMIT_METHOD
        verified = self._verifier.verify(kept.artefacts[0], method)
        request = replace(
            verified.request,
            actor=self._verifier.still_allowed(verified, self._state),
            at=statement.accepted_at,
            chunk=b"".join(kept.artefacts[1:]),
        )
        return replace(verified, request=request)

    def _compare_time(self, index: int, verified: Verified) -> None:
        """Look whether a request was fresh when it was accepted, as the statement says."""
        try:
            self._verifier.check_fresh(verified, verified.request.at)
        except Fault as fault:
            detail = f"It was accepted at {verified.request.at}, when it was not fresh: {fault}"
            self._note(Finding(index=index, kind="time", detail=detail))

    async def _compare_request(self, index: int, verified: Verified) -> None:
        """Look whether the same request, or its nonce, was taken before, as far as that had to be remembered."""
        at = verified.request.at
        answered = self._group.requests.get(verified.request_key) or await self._answered(verified.request_key, at)
        if answered:
            detail = f"Entry {answered} has the same actor and request id."
            self._note(Finding(index=index, kind="repetition", detail=detail))
        nonce = verified.nonce
        if nonce.until >= at and (nonce in self._group.nonces or await self._is_spent(nonce)):
            self._note(Finding(index=index, kind="repetition", detail="Its nonce was spent before."))

    async def _answered(self, request: bytes, at: int) -> int:
        (index,) = await self._target.answered((request,))
        if not index:
            return 0
        (statement,) = await self._target.statements(index - 1, 1)
        # Answers may be kept longer than they must be.
        return index if pb.Statement.FromString(statement).accepted_at + ANSWERS_KEPT >= at else 0

    async def _is_spent(self, nonce: Nonce) -> bool:
        (is_spent,) = await self._target.spent((nonce,))
        return is_spent

    def _compare(self, kept: Kept, entry: Entry, kind: str) -> None:
        if entry.statement != kept.statement:
            detail = f"Planned again it differs in {_differing(entry.statement, kept.statement)}."
            self._note(Finding(index=kept.index, kind="statement", detail=detail))
        if entry.result == kept.result:
            return
        planned, told = _reasons(entry.result, kind), _reasons(kept.result, kind)
        if planned == told:
            detail = "The caller was told the same reasons in other words."
            self._note(Finding(index=kept.index, kind=WORDING, detail=detail))
        else:
            detail = "What the caller was told is not what the request comes to."
            self._note(Finding(index=kept.index, kind="result", detail=detail))

    async def _write(self, tree_head: bytes) -> None:
        entries = self._group.entries
        growth = self._tree.grown([leaf_hash(entry.statement) for entry in entries])
        await self._target.commit(Commit(entries=entries, tiles=growth.tiles, tree_head=tree_head))
        self._state.committed()
        self._tree, self._group = growth.tree, _Group()

    def _compare_head(self, tree_head: bytes) -> None:
        if not tree_head and not self._tree.size:
            return
        try:
            head = open_checkpoint(tree_head, self._trust.verifier_key)
        except Fault as fault:
            self._note(Finding(index=0, kind="tree head", detail=fault.detail))
            return
        if (head.size, head.root) != (self._tree.size, self._tree.root):
            detail = (
                f"The head was signed over {head.size} entries with the root {head.root.hex()}; "
                f"there are {self._tree.size}, with the root {self._tree.root.hex()}."
            )
            self._note(Finding(index=0, kind="tree", detail=detail))


class _Group:
    """Entries that are going to be written together."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.requests: dict[bytes, int] = {}
        self.nonces: set[Nonce] = set()
        self._records = 0
        self._octets = 0

    def is_full(self, pace: Pace) -> bool:
        return len(self.entries) >= pace.entries or self._records >= pace.records or self._octets >= pace.octets

    def add(self, index: int, entry: Entry) -> None:
        self.entries.append(entry)
        self.requests[entry.request] = index
        self.nonces.update(entry.nonces)
        self._records += len(entry.writes)
        self._octets += sum(map(len, entry.artefacts))


_NO_PLAN: Final = Plan(outcomes=())


def _nothing(kept: Kept) -> Entry:
    """Make an entry that changes nothing, in the place of one of which nothing can be made."""
    return Entry(
        statement=kept.statement,
        artefacts=kept.artefacts,
        result=kept.result,
        request=b"damaged %d" % kept.index,
        at=0,
    )


def _differing(planned: bytes, kept: bytes) -> str:
    """Name the fields in which two statements differ."""
    one, other = pb.Statement.FromString(planned), pb.Statement.FromString(kept)
    names = (field.name for field in pb.Statement.DESCRIPTOR.fields)
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name)) or "its encoding"


def _reasons(result: bytes, kind: str) -> bytes | None:
    """Give a result without the sentences that its refusals are told in, None where it cannot be read."""
    message = (pb.ImportResponse if kind == IMPORT else pb.Result)()
    try:
        message.ParseFromString(result)
    except DecodeError:
        return None
    for refusal in message.refusals:
        reason = fault_of(refusal.error).reason
        refusal.error.Clear()
        refusal.error.message = reason.name
    return message.SerializeToString()
