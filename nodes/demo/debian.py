"""The package index of a Debian machine as registrations: real input that nobody made for this project.

`apt-cache dumpavail` prints a stanza for each package, in the format of deb-control(5); each becomes one row for
`topnode load`. Run as a script it reads such text from a file, or asks apt-cache, and prints the rows:
`python -m nodes.demo.debian > packages.ndjson`.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nodes.demo.corpus import Registration, prefix_row, registration_row
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.record import Value
from resolver.routes import Prefix

ENTERPRISE: Final = Prefix("88.199.12", "88.199.12", case=CaseRule.SENSITIVE)
"""The enterprise under which packages are registered, hosted here.

Its suffixes differ by case: Debian compares versions byte by byte, so 1.0A and 1.0a are two versions
(deb-version(7)).
"""

_COMMAND: Final = ("apt-cache", "dumpavail")

_VALUES: Final = (
    (1, "NAME", "Package"),
    (2, "VERSION", "Version"),
    (3, "MAINTAINER", "Maintainer"),
    (4, "SHA256", "SHA256"),
    (5, "SIZE", "Size"),
    (6, "HOMEPAGE", "Homepage"),
    (7, "SECTION", "Section"),
    (8, "SUMMARY", "Description"),
)
"""Index, type, and the field it is taken from. A field that a package does not have makes no value."""

_BINARY: Final = "SHA256"
"""Written as hexadecimal digits, registered as the 32 bytes they stand for."""


def read_index() -> list[bytes] | None:
    """Ask apt-cache for the stanzas; None where this machine has no index."""
    try:
        printed = subprocess.run(_COMMAND, capture_output=True, check=True)  # noqa: S603 - a fixed command
    except (OSError, subprocess.CalledProcessError):
        return None
    return list(stanzas(printed.stdout)) or None


def stanzas(text: bytes) -> Iterator[bytes]:
    """Cut the text of an index into stanzas: blocks of lines with empty lines between."""
    for block in text.split(b"\n\n"):
        if stanza := block.strip(b"\n"):
            yield stanza


def rows(packages: Iterable[Registration]) -> Iterator[bytes]:
    """Give the row of the enterprise's prefix, then one for each package."""
    yield prefix_row(ENTERPRISE)
    yield from map(registration_row, packages)


def registration(stanza: bytes) -> Registration:
    """Give what a package is registered as: named as its file in Debian's archive is.

    Raises:
        Fault: ROW_MALFORMED for a stanza without package, version or architecture, or that isn't UTF-8.
    """
    fields = _fields(stanza)
    try:
        suffix = "_".join(fields[name] for name in ("Package", "Version", "Architecture"))
    except KeyError as missing:
        raise Fault(Reason.ROW_MALFORMED, f"A stanza has no field {missing}.", field=missing.args[0]) from None
    values = [
        Value(index=index, type=kind, data=_octets(kind, fields[field]))
        for index, kind, field in _VALUES
        if fields.get(field)
    ]
    return Registration(identifier=f"{ENTERPRISE.text}/{suffix}", prefix=ENTERPRISE, values=tuple(values))


def _fields(stanza: bytes) -> dict[str, str]:
    """Read the fields of a stanza. Only first lines: nothing that is registered goes on over several."""
    try:
        lines = stanza.decode().split("\n")
    except UnicodeDecodeError:
        raise Fault(Reason.ROW_MALFORMED, f"This stanza is not UTF-8: {stanza[:60]!r}", field="stanza") from None
    pairs = (line.partition(":") for line in lines if not line.startswith((" ", "\t")))
    return {name: text.strip() for name, _, text in pairs}


def _octets(kind: str, text: str) -> bytes:
    return bytes.fromhex(text) if kind == _BINARY else text.encode()


def _main(files: list[str]) -> int:
    index = stanzas(Path(files[0]).read_bytes()) if files else read_index()
    if index is None:
        sys.stderr.write("This machine has no package index: sudo apt-get update\n")
        return 1
    sys.stdout.buffer.writelines(rows(map(registration, index)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
