"""Behind `topnode journal`: a store, or a ring, verified against its journal, and a store made of one. No tables."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.settings import NodeSettings
from registry.audit import compare
from registry.keyring import JOURNAL_FILE, OPERATOR_FILE, read_operators
from registry.rebuild import Finding, Rebuilt, Source, Tell, Trust, rebuild, refuse
from registry.ring_audit import check_loads, compare_ring
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.counts import copy_counts
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.border import Border
from resolver.store.embedded.opening import sync_folder
from resolver.store.embedded.snapshot import Snapshot
from resolver.trust.keys import PrivateKey, PublicKey
from resolver.trust.notes import origin_of, verifier_key
from resolver.trust.operators import Operators
from resolver.units import Duration

if TYPE_CHECKING:
    from resolver.store.cassandra.settings import CassandraSettings
    from resolver.store.cassandra.survey import Survey

FINDINGS_MAX: Final = 1_000
"""Findings that are told one by one; one damage may have many consequences."""

RING_DEADLINE: Final = Duration(30)
"""A whole ring is read while others use it: nobody waits for any single answer."""

PLANNING: Final = "planning again"
COMPARING: Final = "comparing"

Told = Callable[[str], Tell]
"""Begins a part of the work: PLANNING counts entries, COMPARING rows."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What verifying came to: how many entries, the root of the tree over them, the rows of each database.

    `findings` are at most FINDINGS_MAX of `found`.
    """

    entries: int
    root: str
    rows: dict[str, int]
    found: int
    findings: list[Finding]


def read_trust(
    settings: NodeSettings, data: Path, *, former: Iterable[tuple[str, Path]] = (), pinned: str = ""
) -> Trust:
    """Read whom to believe: the operators in the settings, the one of the data folder, and former ones.

    `pinned` is the verifier key of the journal, where it is known from elsewhere; else it is that of the node's own
    file. No key is made.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE, SETTING_INVALID.
    """
    present = read_operators(settings.registry, data)
    names = [(present.name_of(key_id) or "", key) for key_id, key in present.keys.items()]
    names += [(name, PublicKey.from_file(path)) for name, path in former]
    return Trust(
        node=settings.node,
        operators=Operators(names),
        verifier_key=pinned or own_verifier_key(settings, data),
    )


def own_verifier_key(settings: NodeSettings, data: Path) -> str:
    """Give the verifier key of a node's journal, by the file of its private key.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE.
    """
    key = PrivateKey.from_file(settings.registry.key or data / JOURNAL_FILE)
    return verifier_key(origin_of(settings.node), key.public)


async def verify(data: Path, trust: Trust, *, scratch: Path | None, clock: Clock, told: Told) -> Verdict:
    """Read everything that is in a store, whose node may run meanwhile, and compare it with its journal.

    A store without envelopes is made in a folder below `scratch` (None: where temporary files are), and removed.

    Raises:
        Fault: STORE_MISSING, STORE_FORMAT_UNKNOWN, FILE_UNREADABLE, STORE_UNAVAILABLE; STORE_FULL, of the scratch.
    """
    findings = _Findings()
    with _scratch(scratch) as folder, closing(Snapshot.open(data)) as held:
        with closing(_own(folder, clock)) as writer:
            rebuilt = await rebuild(
                held, writer, trust, note=findings.take, tell=told(PLANNING), keeps_artefacts=False
            )
        with closing(Snapshot.open(folder)) as planned:
            rows = compare(held, planned, note=findings.take, tell=told(COMPARING))
    return Verdict(
        entries=rebuilt.size, root=rebuilt.root.hex(), rows=rows, found=findings.count, findings=findings.first
    )


async def verify_ring(
    settings: "CassandraSettings", trust: Trust, *, scratch: Path | None, clock: Clock, told: Told
) -> Verdict:
    """Read everything that is on a ring, whose registry may run meanwhile, and compare it with its journal.

    A store without envelopes is made as by `verify`: the folder needs room for everything but those.

    Raises:
        Fault: as `Survey.open`; LOAD_UNFINISHED; FILE_UNREADABLE; STORE_FULL, of the scratch.
    """
    findings = _Findings()
    with _scratch(scratch) as folder:
        async with _survey(settings, clock) as held:
            await check_loads(held)
            with closing(_own(folder, clock)) as writer:
                rebuilt = await rebuild(
                    held, writer, trust, note=findings.take, tell=told(PLANNING), keeps_artefacts=False
                )
            with closing(Snapshot.open(folder)) as planned:
                rows = await compare_ring(
                    held,
                    planned,
                    size=rebuilt.size,
                    now=clock.wall(),
                    note=findings.take,
                    tell=told(COMPARING),
                )
    return Verdict(
        entries=rebuilt.size, root=rebuilt.root.hex(), rows=rows, found=findings.count, findings=findings.first
    )


@asynccontextmanager
async def open_journal(settings: NodeSettings, clock: Clock) -> AsyncIterator[Source]:
    """Open the journal of a node, wherever its settings say that it is, in one state of it.

    Raises:
        Fault: as `Snapshot.open` or `Survey.open`.
    """
    if not settings.cassandra.hosts:
        with closing(Snapshot.open(settings.data)) as journal:
            yield journal
        return
    async with _survey(settings.cassandra, clock) as ring:
        yield ring


@asynccontextmanager
async def _survey(settings: "CassandraSettings", clock: Clock) -> AsyncIterator["Survey"]:
    # The driver takes a while to import, which nodes without a ring need not wait for.
    from resolver.store.cassandra.survey import Survey  # noqa: PLC0415

    patient = replace(settings, deadline=max(settings.deadline, RING_DEADLINE))
    with closing(await Survey.open(patient, clock=clock, registry=CollectorRegistry())) as survey:
        yield survey


async def rebuild_store(source: Path, target: Path, trust: Trust, *, clock: Clock, told: Told) -> Rebuilt:
    """Make a store in a new or empty folder out of the journal in another one, with the keys that lie there.

    The folder appears when all of it is there and durable.

    Raises:
        Fault: JOURNAL_DAMAGED with the first thing that does not fit, STORE_EXISTS, STORE_MISSING,
            STORE_FORMAT_UNKNOWN, FILE_UNREADABLE, KEY_INVALID, STORE_FULL, STORE_UNAVAILABLE.
    """
    with closing(Snapshot.open(source)) as held, Border(target), _appearing(target) as folder:
        shutil.copymode(source, folder)
        for name in (OPERATOR_FILE, JOURNAL_FILE):
            _copy_key(source / name, folder)
        with closing(_own(folder, clock)) as writer:
            # What was asked stands in no journal; nor does what of it the node above has been told already. Counts
            # come first: they must not have counted what is not in the journal as it is read afterwards.
            await writer.counts.take_over(held.counted())
            await held.renew()
            return await rebuild(held, writer, trust, note=refuse, tell=told(PLANNING))


async def rebuild_ring(settings: NodeSettings, target: Path, trust: Trust, *, clock: Clock, told: Told) -> Rebuilt:
    """Make a store in a new or empty folder out of the journal of a ring, with this node's keys.

    Raises:
        Fault: as `rebuild_store` and `Survey.open`.
    """
    async with _survey(settings.cassandra, clock) as held:
        with Border(target), _appearing(target) as folder:
            _copy_key(settings.data / OPERATOR_FILE, folder)
            PrivateKey.from_file(settings.registry.key or settings.data / JOURNAL_FILE).to_file(folder / JOURNAL_FILE)
            with closing(_own(folder, clock)) as writer:
                await copy_counts(held.counts, writer.counts)
                await held.renew()
                return await rebuild(held, writer, trust, note=refuse, tell=told(PLANNING))


class _Findings:
    """All findings counted, the first of them kept."""

    def __init__(self) -> None:
        self.first: list[Finding] = []
        self.count = 0

    def take(self, finding: Finding) -> None:
        self.count += 1
        if self.count <= FINDINGS_MAX:
            self.first.append(finding)


def _own(folder: Path, clock: Clock) -> EmbeddedWriter:
    return EmbeddedWriter.open(folder, owner=Owner.here("topnode journal", clock=clock))


@contextmanager
def _scratch(parent: Path | None) -> Iterator[Path]:
    where = parent or Path(tempfile.gettempdir())
    if not where.is_dir():
        raise Fault(Reason.FILE_UNREADABLE, f"There is no folder {where}.", variables={"path": str(where)})
    try:
        with Border(where), tempfile.TemporaryDirectory(prefix="topnode-verify-", dir=where) as folder:
            yield Path(folder)
    except Fault as fault:
        if fault.reason is Reason.STORE_FULL:
            detail = f"There is no room in {where} for a second store to compare with; another folder may have it."
            raise Fault(fault.reason, detail, variables={"path": str(where)}) from None
        raise


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a folder that takes this name at the end, and is gone where anything fails."""
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and any(target.iterdir()):
        raise Fault(Reason.STORE_EXISTS, f"There is something in {target} already.", variables={"path": str(target)})
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=parent))
    try:
        yield part
        sync_folder(part)
        # Over an empty folder, but over no other.
        part.rename(target)
        sync_folder(parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _copy_key(source: Path, folder: Path) -> None:
    if source.exists():
        PrivateKey.from_file(source).to_file(folder / source.name)
