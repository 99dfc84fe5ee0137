"""The table of reasons in docs/reasons.md, made from the registry in `resolver.errors`.

`python -m nodes.reference` writes it; with `--check` it writes nothing and fails where the file differs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from resolver.errors import DOMAIN, Reason

PAGE: Final = Path("docs/reasons.md")

_HEAD: Final = f"""\
# Reasons

Every error of a node is a `google.rpc.Status` that carries one `google.rpc.ErrorInfo` of the domain `{DOMAIN}`, whose
`reason` is one of these. A reason is never renamed and never used for something else, so programs may rely on it. The
message is for people and may change; the `metadata` hold what varies in it, and under `field` the field that is at
fault, which a `google.rpc.BadRequest` names too. Where the same is worth trying again, a `google.rpc.RetryInfo` says
when.

What gRPC itself refuses or ends carries no `ErrorInfo`, only its code: an unknown method, a compressed request, a
message beyond 8 MiB, a call that was cancelled, ran out of time on its way or lost its connection; so do health and
reflection, which are gRPC's own services.

Made from `resolver/errors.py` by `make proto`; edit that, not this.

| reason | code | what happened | what to do |
|---|---|---|---|
"""


def page() -> str:
    """Give docs/reasons.md as it should be."""
    return _HEAD + "".join(_row(reason) for reason in Reason)


def main(arguments: Sequence[str], folder: Path) -> int:
    """Write the page into a folder, or compare it; give the exit code."""
    path = folder / PAGE
    if "--check" in arguments:
        return _check(path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(page(), encoding="utf-8")
    return 0


def _row(reason: Reason) -> str:
    meaning = reason.value
    return f"| `{reason.name}` | {meaning.kind.name} | {meaning.happened} | {meaning.remedy} |\n"


def _check(path: Path) -> int:
    if path.is_file() and path.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write(f"{PAGE} is not what resolver/errors.py says: run `make proto` and commit it.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path()))
