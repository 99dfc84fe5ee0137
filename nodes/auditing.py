"""Behind `topnode journal`: a store verified against its journal, and a new store made of one. No tables here."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from nodes.settings import NodeSettings
from registry.audit import compare
from registry.keyring import JOURNAL_FILE, OPERATOR_FILE, read_operators
from registry.rebuild import Finding, Rebuilt, Tell, Trust, rebuild, refuse
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.border import Border
from resolver.store.embedded.opening import sync_folder
from resolver.store.embedded.snapshot import Snapshot
from resolver.trust.keys import PrivateKey, PublicKey
from resolver.trust.notes import origin_of, verifier_key
from resolver.trust.operators import Operators

FINDINGS_MAX: Final = 1_000
"""Findings that are told one by one; one damage may have many consequences."""

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


async def rebuild_store(source: Path, target: Path, trust: Trust, *, clock: Clock, told: Told) -> Rebuilt:
    """Make a store in a new or empty folder out of the journal in another one, with the keys that lie there.

    The folder appears when all of it is there and durable.

    Raises:
        Fault: JOURNAL_DAMAGED with the first thing that does not fit, STORE_EXISTS, STORE_MISSING,
            STORE_FORMAT_UNKNOWN, FILE_UNREADABLE, KEY_INVALID, STORE_FULL, STORE_UNAVAILABLE.
    """
    with closing(Snapshot.open(source)) as held, Border(target), _appearing(target) as folder:
        shutil.copymode(source, folder)
        _copy_keys(source, folder)
        with closing(_own(folder, clock)) as writer:
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


def _copy_keys(source: Path, target: Path) -> None:
    for name in (OPERATOR_FILE, JOURNAL_FILE):
        if (source / name).exists():
            PrivateKey.from_file(source / name).to_file(target / name)
