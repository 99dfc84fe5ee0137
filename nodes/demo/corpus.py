"""Registrations made by rule: the same bytes on every machine, at any size, and any of them by its number.

Nothing is drawn at random: a registration's number says its enterprise, product, date, line and serial, so whoever
checks an answer needs no copy of what was loaded. Who makes what stands in `nodes.demo.wuhan`. Run as a script it
prints the rows that `topnode load` takes: `python -m nodes.demo.corpus 1000000 > registrations.ndjson`.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache
from itertools import accumulate, product
from typing import Any, Final

import msgspec
from msgspec import Struct

from nodes.demo.wuhan import SECONDARY_NODES, Enterprise, Secondary
from resolver.handle import CaseRule
from resolver.record import DEFAULT_PERMISSIONS, DEFAULT_TTL, Reference, Relative, Value
from resolver.routes import Prefix

VERSION: Final = 1
"""Goes up whenever the same number gives another registration: what was kept of the corpus is then made again."""

RUN: Final = 500
"""Serial numbers in a run: things of one product, made on one day on one line."""

URL_TTL: Final = 3_600
"""Where something is found may change any time; what it is, hardly ever."""

RESTRICTED: Final = 0b1100
"""Administrators only: what an inspection found is between maker and customer."""

_LINES: Final = ("A", "B", "C")
_FIRST_DAY: Final = date(2024, 1, 2).toordinal()
_RUNS_KEPT: Final = 4_096

_RUNS_PER_LOT: Final = 4
"""One lot of material goes into this many runs."""

# Stands for the serial number in everything that one run shares. No table and no JSON syntax has it.
_SERIAL: Final = "§"
_DIGITS: Final = tuple(f"{number:04}" for number in range(1, RUN + 1))
# Under a case-sensitive prefix each number is given out twice, to things that differ by case only.
_MIXED: Final = tuple(f"{number:04}{letter}" for number, letter in product(range(1, RUN // 2 + 1), "xX"))
_NEVER: Final = "9"
"""Serials of a run begin with 0; one that begins so was never given out."""


class Registration(Struct, frozen=True, kw_only=True):
    """What a node that has loaded the corpus must answer."""

    identifier: str
    prefix: Prefix
    values: tuple[Value, ...]

    @property
    def public(self) -> tuple[Value, ...]:
        """The values that everybody may read."""
        return tuple(value for value in self.values if value.is_public)


class Corpus:
    """A number of registrations, shared out among the enterprises below these secondary nodes.

    Registrations are numbered from 0; those of an enterprise follow on each other.
    """

    def __init__(self, registrations: int, nodes: Sequence[Secondary] = SECONDARY_NODES) -> None:
        self.nodes = nodes
        self.enterprises = [enterprise for node in nodes for enterprise in node.enterprises]
        self._size = registrations
        self._ends = _shares(registrations, [enterprise.weight for enterprise in self.enterprises])
        self._run = lru_cache(_RUNS_KEPT)(_Run)

    def __len__(self) -> int:
        return self._size

    @property
    def prefixes(self) -> list[Prefix]:
        """The rows of all prefixes, each behind the one above it."""
        rows = []
        for node in self.nodes:
            rows.append(node.allocation)
            rows.extend(enterprise.allocation for enterprise in node.enterprises)
        return rows

    def prefix_rows(self) -> bytes:
        """Give the rows that allocate the prefixes; they come before the registrations."""
        return b"".join(map(prefix_row, self.prefixes))

    def chunks(self) -> Iterator[bytes]:
        """Give the rows of all registrations by their numbers, at most `RUN` whole rows at a time."""
        for _, chunks in self.shares():
            yield from chunks

    def shares(self) -> Iterator[tuple[Enterprise, Iterator[bytes]]]:
        """Give each enterprise with the rows of its registrations, at most `RUN` whole rows at a time."""
        begin = 0
        for enterprise, end in zip(self.enterprises, self._ends, strict=True):
            yield enterprise, _rows(enterprise, end - begin)
            begin = end

    def numbers(self, enterprise: Enterprise) -> range:
        """Give the numbers of an enterprise's registrations."""
        place = self.enterprises.index(enterprise)
        return range(self._ends[place - 1] if place else 0, self._ends[place])

    def identifier(self, number: int) -> str:
        """Give the registered spelling."""
        run, serial = self._find(number)
        return run.identifier(serial)

    def registration(self, number: int) -> Registration:
        """Give all that is registered under this number."""
        run, serial = self._find(number)
        return run.registration(serial)

    def unregistered(self, number: int) -> str:
        """Give an identifier that looks like this registration's and that nobody registered."""
        run, serial = self._find(number)
        return run.identifier(_NEVER + serial[1:])

    def prefix(self, number: int) -> Prefix:
        """Give the prefix under which it is registered."""
        run, _serial = self._find(number)
        return run.prefix

    def _find(self, number: int) -> "tuple[_Run, str]":
        if not 0 <= number < self._size:
            raise IndexError(number)
        at = bisect_right(self._ends, number)
        begin = self._ends[at - 1] if at else 0
        run, place = divmod(number - begin, RUN)
        found = self._run(self.enterprises[at], run)
        return found, found.serials[place]


def _rows(enterprise: Enterprise, count: int) -> Iterator[bytes]:
    for number, first in enumerate(range(0, count, RUN)):
        yield _Run(enterprise, number).rows(min(RUN, count - first))


class _Run:
    """A run of serial numbers of one enterprise: all that its things have in common, with a gap for the serial."""

    def __init__(self, enterprise: Enterprise, number: int) -> None:
        self.prefix = enterprise.allocation
        self._identifier, self._values = _shared(enterprise, number)
        self.serials = _MIXED if enterprise.case is CaseRule.SENSITIVE else _DIGITS

    def rows(self, count: int) -> bytes:
        """Give the first rows of the run. They differ by the serial only, so the rest is encoded once."""
        row = _row(self._identifier, self.prefix.text, self._values)
        pieces = row.decode().split(_SERIAL)
        return "".join([serial.join(pieces) for serial in self.serials[:count]]).encode()

    def identifier(self, serial: str) -> str:
        return self._identifier.replace(_SERIAL, serial)

    def registration(self, serial: str) -> Registration:
        gap, octets = _SERIAL.encode(), serial.encode()
        values = [msgspec.structs.replace(value, data=value.data.replace(gap, octets)) for value in self._values]
        return Registration(identifier=self.identifier(serial), prefix=self.prefix, values=tuple(values))


def _shared(enterprise: Enterprise, number: int) -> tuple[str, tuple[Value, ...]]:
    """Make the identifier and the values of a run: its number counts products, then lines, then days."""
    industry = enterprise.industry
    rest, product_number = divmod(number, len(industry.products))
    day, line_number = divmod(rest, len(_LINES))
    made = industry.products[product_number]
    varying = {
        "class_code": industry.class_code,
        "model": made.model,
        "date": date.fromordinal(_FIRST_DAY + day),
        "line": _LINES[line_number],
        "serial": _SERIAL,
    }
    suffix = industry.suffix.format(**varying)
    values = [
        _value(1, "URL", f"https://{enterprise.host}/{made.model}/{_SERIAL}?lot={number}", ttl=URL_TTL),
        _value(2, "NAME", made.name),
        _value(3, "MAKER", enterprise.maker),
        _value(4, "MODEL", made.model),
        _value(5, "LOT", industry.lot.format(**varying)),
        _value(6, "SPEC", made.spec),
    ]
    if industry.material:
        values.append(_material(industry.material, number // _RUNS_PER_LOT))
    if industry.inspection:
        found = industry.inspection.format(**varying)
        values.append(_value(100, "INSPECTION", found, permissions=RESTRICTED))
    return f"{enterprise.prefix}/{suffix}", tuple(values)


def _value(
    index: int, kind: str, text: str, *, ttl: int | None = None, permissions: int = DEFAULT_PERMISSIONS
) -> Value:
    value = Value(index=index, type=kind, data=text.encode(), permissions=permissions)
    return value if ttl is None else msgspec.structs.replace(value, lifetime=Relative(ttl))


def _material(maker: str, number: int) -> Value:
    """Name the lot that went in: the first thing of the same run of the enterprise that made it."""
    supplier = next(each for node in SECONDARY_NODES for each in node.enterprises if each.prefix == maker)
    run = _Run(supplier, number)
    lot = run.identifier(run.serials[0])
    value = _value(7, "MATERIAL", lot)
    return msgspec.structs.replace(value, references=(Reference(lot, 1),))


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Share out by weight; gives where each share ends."""
    whole = sum(weights)
    return [total * end // whole for end in accumulate(weights)]


def prefix_row(prefix: Prefix) -> bytes:
    """Write the row that `topnode load` takes for a prefix."""
    row: dict[str, Any] = {
        "prefix": prefix.text,
        "holder": prefix.holder,
        "state": prefix.state.name.lower(),
        "case": prefix.case.name.lower(),
        "hosting": prefix.hosting.name.lower(),
        "expires_at": prefix.expires_at,
        "endpoints": [
            {
                "protocol": endpoint.protocol.name.lower(),
                "address": endpoint.address,
                "port": endpoint.port,
                "priority": endpoint.priority,
                "tls_name": endpoint.tls_name,
            }
            for endpoint in prefix.endpoints
        ],
    }
    return msgspec.json.encode(row) + b"\n"


def registration_row(registration: Registration) -> bytes:
    """Write the row that `topnode load` takes for a registration."""
    return _row(registration.identifier, registration.prefix.text, registration.values)


def _row(identifier: str, registrant: str, values: Iterable[Value]) -> bytes:
    row = {"identifier": identifier, "registrant": registrant, "values": [_value_row(value) for value in values]}
    return msgspec.json.encode(row) + b"\n"


def _value_row(value: Value) -> dict[str, Any]:
    row: dict[str, Any] = {"index": value.index, "type": value.type}
    try:
        row["data"] = value.data.decode()
    except UnicodeDecodeError:
        row["data_base64"] = value.data  # which is how bytes are encoded in JSON
    if isinstance(value.lifetime, Relative) and value.lifetime.seconds != DEFAULT_TTL:
        row["ttl"] = value.lifetime.seconds
    if value.permissions != DEFAULT_PERMISSIONS:
        row["permissions"] = f"{value.permissions:04b}"
    if value.references:
        row["references"] = [{"handle": each.handle, "index": each.index} for each in value.references]
    return row


def _main(arguments: Iterable[str]) -> None:
    corpus = Corpus(int(next(iter(arguments), "1000000")))
    sys.stdout.buffer.write(corpus.prefix_rows())
    sys.stdout.buffer.writelines(corpus.chunks())


if __name__ == "__main__":
    _main(sys.argv[1:])
