"""The private folder of a running node, for the Unix sockets of its processes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from resolver.errors import Fault, Reason

SOCKET_PATH_BYTES: Final = 107
"""What the kernel allows for the path of a Unix socket (sun_path has 108 bytes and ends in a zero)."""

_LONGEST_NAME: Final = len("worker-9999.sock")


@contextmanager
def run_folder(data: Path) -> Iterator[Path]:
    """Make a folder that nobody else may enter, and remove it at the end.

    It is DATA/run/<something new>, or in the folder for temporary files where that path is too long for a socket.

    Raises:
        Fault: FILE_UNREADABLE when neither can be made.
    """
    runs = data.absolute() / "run"
    fits = len(os.fsencode(runs)) + len("/12345678/") + _LONGEST_NAME <= SOCKET_PATH_BYTES
    try:
        if fits:
            runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="" if fits else "topnode-", dir=runs if fits else None))
    except OSError as error:
        raise Fault(
            Reason.FILE_UNREADABLE, f"{error.filename} cannot be made: {error.strerror}.", field="data"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if fits:
            _remove_empty(runs, data)


def remove_leftovers(folder: Path) -> None:
    """Remove the folders beside this one. Whoever owns the store may: their node was killed and is gone."""
    for left in folder.parent.iterdir() if folder.parent.name == "run" else ():
        if left != folder:
            shutil.rmtree(left, ignore_errors=True)


def _remove_empty(*folders: Path) -> None:
    """Leave nothing behind where nothing came of it."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
