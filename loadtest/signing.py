"""Signed requests for the registry of a node under measurement, by its operator."""

import time
from collections.abc import Iterable

from loadtest import workload
from loadtest.driver import Call
from loadtest.servers import Node
from nodes.client.signing import Draft, Signer, sealed
from registry.methods import SUBMIT_METHOD
from resolver.trust.operators import LOCAL

ENTERPRISE = "88.111.10"
"""The prefix below which things are registered."""


def signed(node: Node, kind: str, body: object, rows: int = 1) -> Call:
    """Sign a request that has so many rows."""
    signer = Signer(LOCAL, node.operator)
    request = sealed(Draft.of(kind, body), signer, [signer.key], node="top", method=SUBMIT_METHOD, now=time.time())
    return Call(f"/{SUBMIT_METHOD}", request.octets, rows)


def registration(node: Node, numbers: Iterable[int]) -> Call:
    """Sign the registration of the things with these numbers, in one envelope."""
    rows = [{"identifier": name(number), "values": _values(number)} for number in numbers]
    return signed(node, "identifiers.v1", {"rows": rows}, len(rows))


def allocation(node: Node) -> Call:
    """Sign the allocation of the prefixes above."""
    rows = [{"prefix": prefix, "holder": "top", "hosting": "here"} for prefix in ("88", "88.111", ENTERPRISE)]
    return signed(node, "prefix-allocate.v1", {"rows": rows}, len(rows))


def name(number: int) -> str:
    """Give the identifier with this number."""
    return f"{ENTERPRISE}/BRK-{number:09}"


def _values(number: int) -> list[dict[str, object]]:
    return [
        {"index": value.index, "type": value.type, "data": value.data.decode().replace("000000000", f"{number:09}")}
        for value in workload.example_record().values
    ]
