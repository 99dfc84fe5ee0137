"""Endpoints and times as they are written on a command line."""

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import click

from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, Protocol

NEVER: Final = "never"

_PARTS: Final = frozenset({"priority", "tls"})


def endpoint_from_text(text: str) -> Endpoint:
    """Read `grpc://192.0.2.7:3641?priority=1&tls=node.example.cn`; protocols are grpc, handle-tcp, handle-udp, http.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    try:
        parts = urlsplit(text)
        said = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        protocol = Protocol[parts.scheme.replace("-", "_").upper()]
        address, port, priority = parts.hostname or "", parts.port or 0, int(said.get("priority", "0"))
    except (ValueError, KeyError):
        raise _no_endpoint(text) from None
    if parts.path or parts.fragment or parts.username or not said.keys() <= _PARTS:
        raise _no_endpoint(text)
    return Endpoint(protocol, address, port, priority, said.get("tls", ""))


def endpoint_to_text(endpoint: Endpoint) -> str:
    """Write an endpoint as `endpoint_from_text` reads it."""
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    said = [f"priority={endpoint.priority}"] if endpoint.priority else []
    said += [f"tls={endpoint.tls_name}"] if endpoint.tls_name else []
    query = f"?{'&'.join(said)}" if said else ""
    return f"{endpoint.protocol.name.lower().replace('_', '-')}://{address}:{endpoint.port}{query}"


def _no_endpoint(text: str) -> Fault:
    return Fault(
        Reason.FIELD_OUT_OF_RANGE,
        f"{text!r} is no endpoint such as grpc://192.0.2.7:3641?priority=1&tls=node.example.cn.",
        field="endpoint",
    )


class EndpointParam(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2 only, and 8.1 will do
    """An endpoint."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        if isinstance(value, Endpoint):
            return value
        try:
            return endpoint_from_text(value)
        except Fault as fault:
            self.fail(fault.detail, param, ctx)


class WhenParam(click.ParamType):  # type: ignore[type-arg] # likewise
    """A time as Unix seconds: `2027-12-31`, `2027-12-31T18:00`, seconds, or `never`, which is 0. UTC if unsaid."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == NEVER:
            return 0
        if value.isascii() and value.isdigit():
            return int(value)
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2027-12-31, 2027-12-31T18:00+08:00 or {NEVER}.", param, ctx)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
