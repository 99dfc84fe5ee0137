"""The keys of a node in its data folder: the operator's whose is the machine, and the journal's."""

from pathlib import Path
from typing import Final

from registry.settings import RegistrySettings
from resolver.errors import Fault, Reason
from resolver.private_files import FOLDER_MODE
from resolver.trust.keys import PrivateKey
from resolver.trust.notes import origin_of, verifier_key
from resolver.trust.operators import Operators

OPERATOR_FILE: Final = "operator.pem"
"""The private key of the operator `local`: whoever can read the data folder can write to it anyway."""

JOURNAL_FILE: Final = "journal.pem"
"""The private key that signs the journal's head, where the settings name no other."""


def read_operators(settings: RegistrySettings, data: Path) -> Operators:
    """Read who the operators of a node are: those in the settings, and `local` where its key was made already.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE, SETTING_INVALID.
    """
    path = data / OPERATOR_FILE
    return Operators.read(settings.operators, PrivateKey.from_file(path).public if path.exists() else None)


def check_journal_key(settings: RegistrySettings, data: Path, node: str) -> None:
    """Check that the key that is there can sign this node's journal; where it is still to be made, nothing is done.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE.
    """
    path = settings.key or data / JOURNAL_FILE
    if settings.key or path.exists():
        verifier_key(origin_of(node), PrivateKey.from_file(path).public)


def journal_key(settings: RegistrySettings, data: Path) -> PrivateKey:
    """Read the key that signs the journal's head; the one in the data folder is made where there is none.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE.
    """
    return PrivateKey.from_file(settings.key) if settings.key else kept_key(data / JOURNAL_FILE)


def kept_key(path: Path) -> PrivateKey:
    """Read a private key, made there before anybody needs it, and its folder with it.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE.
    """
    if not path.exists():
        try:
            # With a store elsewhere nobody else makes the folder of a node's own files.
            path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise Fault(
                Reason.FILE_UNREADABLE,
                f"{path.parent} cannot be made: {error.strerror}.",
                variables={"path": str(path.parent)},
            ) from None
        PrivateKey.generate().to_file(path)
    return PrivateKey.from_file(path)
