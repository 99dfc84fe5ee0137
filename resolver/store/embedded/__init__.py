"""The embedded store: LMDB in a folder. One writing process, any number of reading ones.

    owner     who writes
    layout    how keys look in LMDB, and which databases there are
    border    what LMDB and the file system raise, as Faults
    opening   a folder, opened
    reader    StoreReader, in any process
    snapshot  one state of it with all its databases, for audits
    listing   identifiers below a prefix
    writing   one commit
    writer    StoreWriter, in the owner's process
    counts    what is counted, beside the commits
    backup    copies, there and back

Not for network file systems, and never used across a fork: open it after the process has started.
"""

from resolver.store.embedded.backup import BackupManifest, backup, restore
from resolver.store.embedded.owner import Owner, current_owner
from resolver.store.embedded.reader import EmbeddedReader
from resolver.store.embedded.writer import EmbeddedWriter

__all__ = ["BackupManifest", "EmbeddedReader", "EmbeddedWriter", "Owner", "backup", "current_owner", "restore"]
