"""Settings with a unit: durations read "250ms", sizes read "256MiB"."""

import re
from typing import Final, Self

from resolver.errors import Fault, Reason

_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_OCTETS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)")


class Duration(float):
    """Seconds, written with a unit: us, ms, s, min, h, d."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read "250ms".

        Raises:
            Fault: SETTING_INVALID.
        """
        return cls(_read(text, _SECONDS, "250ms"))


class Size(int):
    """Bytes, written with a unit: B, KiB, MiB, GiB, TiB."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read "256MiB".

        Raises:
            Fault: SETTING_INVALID.
        """
        return cls(_read(text, _OCTETS, "256MiB"))


def _read(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        known = ", ".join(units)
        raise Fault(Reason.SETTING_INVALID, f"{text!r} is not a quantity such as {example} (units: {known}).")
    return float(found[1]) * units[found[2]]
