"""Files and folders that are made for their owner alone: what not everybody may read lies in them."""

import os
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


def open_private(path: Path, flags: int) -> int:
    """Open a file, or make it where there is none; gives the descriptor.

    Raises:
        OSError: it cannot be opened so.
    """
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
