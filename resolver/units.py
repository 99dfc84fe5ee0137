"""Settings with a unit: durations read "250ms", sizes read "256MiB"."""

import math
import re
from typing import Final, Self

from resolver.errors import Fault, Reason

_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_OCTETS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-z]+)")


class Duration(float):
    """Seconds, written with a unit: us, ms, s, min, h, d."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read "250ms".

        Raises:
            Fault: SETTING_INVALID.
        """
        return cls(_read(text, _SECONDS, "250ms"))

    def to_text(self) -> str:
        return _write(self, _SECONDS, tolerance=1e-12)


class Size(int):
    """Bytes, written with a unit: B, KiB, MiB, GiB, TiB."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read "256MiB".

        Raises:
            Fault: SETTING_INVALID.
        """
        return cls(_read(text, _OCTETS, "256MiB"))

    def to_text(self) -> str:
        return _write(self, _OCTETS, tolerance=0.0)


def _read(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        known = ", ".join(units)
        raise Fault(Reason.SETTING_INVALID, f"{text!r} is not a quantity such as {example} (units: {known}).")
    return float(found[1]) * units[found[2]]


def _write(quantity: float, units: dict[str, float] | dict[str, int], *, tolerance: float) -> str:
    """Take the largest unit of which it is a whole number; a fraction of the smallest where there is none."""
    smallest = next(iter(units))
    for unit, worth in reversed(units.items()):
        count = round(quantity / worth)
        if count and math.isclose(count * worth, quantity, rel_tol=tolerance):
            return f"{count}{unit}"
    return f"{quantity / units[smallest]:f}{smallest}" if quantity else f"0{smallest}"
