"""Signed requests as a client makes them, for the tests of whoever takes them."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from resolver.trust.envelopes import payload_type_of, seal
from resolver.trust.heads import Head, Payload, new_head
from resolver.trust.keys import PrivateKey

SUBMIT: Final = "topnode.registry.v1.RegistryService/Submit"


class Signing:
    """Signs for one actor at one node; `now` gives the signer's Unix time.

    `head` overrides fields of the head. Bodies are given as what JSON says, or as bytes.
    """

    def __init__(
        self, actor: str, key: PrivateKey, *, now: float, node: str = "top", method: str = SUBMIT, **head: Any
    ) -> None:
        self.actor = actor
        self.key = key
        self.now = now
        self.node = node
        self.method = method
        self._head = head

    def head(self, request_id: str = "", **changes: Any) -> Head:
        made = new_head(
            node=self.node,
            method=self.method,
            actor=self.actor,
            request_id=request_id or secrets.token_hex(8),
            now=self.now,
        )
        return replace(made, **{**self._head, **changes})

    def request(
        self,
        kind: str,
        body: Mapping[str, Any] | bytes,
        request_id: str = "",
        *,
        keys: Sequence[PrivateKey] = (),
        **changes: Any,
    ) -> bytes:
        """Sign a request of this kind; further keys sign too. Gives the octets to be sent."""
        octets = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        payload = Payload(self.head(request_id, **changes), octets).to_bytes()
        return seal(payload_type_of(kind), payload, [self.key, *keys]).to_bytes()


def registering(*identifiers: str, partial: bool = False, data: str = "a part") -> dict[str, Any]:
    """The body of identifiers.v1 that registers these with one value each."""
    rows = [{"identifier": each, "values": [{"index": 1, "type": "NAME", "data": data}]} for each in identifiers]
    return {"rows": rows, "partial": partial}
