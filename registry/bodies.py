"""Bodies of requests, read from JSON into the struct of their kind. What they say is checked by their planners."""

import re
from typing import Final, TypeVar

import msgspec

from resolver.bounds import ENVELOPE_ROWS
from resolver.errors import Fault, Reason

_PLACE: Final = " - at `$"
_NAMED: Final = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)

T = TypeVar("T")


def decode(body: bytes, kind: type[T]) -> T:
    """Read a body as the struct of its kind. Unknown fields are refused wherever the struct forbids them.

    Raises:
        Fault: PAYLOAD_MALFORMED; the field is a path inside the body: `rows[3].endpoints[0].port`.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except UnicodeDecodeError:
        raise Fault(Reason.PAYLOAD_MALFORMED, "The body is not UTF-8.", field="body") from None
    except msgspec.DecodeError as error:
        raise malformed(str(error), inside="body") from None


def check_rows(rows: int) -> None:
    """Check how many rows a body has.

    Raises:
        Fault: BATCH_EMPTY, BATCH_TOO_LARGE.
    """
    if not rows:
        raise Fault(Reason.BATCH_EMPTY, f"A request has 1 to {ENVELOPE_ROWS} rows.", field="rows")
    if rows > ENVELOPE_ROWS:
        raise Fault(
            Reason.BATCH_TOO_LARGE,
            f"The request has {rows} rows; {ENVELOPE_ROWS} are allowed.",
            field="rows",
            variables={"rows": str(rows), "allowed": str(ENVELOPE_ROWS)},
        )


def malformed(said: str, *, inside: str, reason: Reason = Reason.PAYLOAD_MALFORMED) -> Fault:
    """Make the Fault of what msgspec said; `inside` is what was read, named where no field of it is."""
    what, _, place = said.partition(_PLACE)
    path = place.removesuffix("`").removeprefix(".")
    named = _NAMED.fullmatch(what)
    if named:
        path = f"{path}.{named['name']}" if path else named["name"]
    return Fault(reason, f"{what.removesuffix('.')}.", field=path or inside)
