"""Answers as people and programs read them: plain values for JSON, text for tables. Prints nothing.

What a stranger registered never reaches a terminal raw: anything that is not printable is shown escaped.
"""

import base64
from datetime import UTC, datetime
from typing import Any, Final

from nodes.client import Traced
from resolver.answer import Answer, Outcome
from resolver.errors import Fault
from resolver.record import Absolute, Record, Value
from resolver.routes import Referral

PREVIEW: Final = 64
"""Characters of a value's data that a table shows."""

_HEX_BYTES: Final = 16


def plain(asked: str, answer: Answer | Fault, traced: Traced | None = None) -> dict[str, Any]:
    """Give everything in an answer, and its way where that was asked for."""
    told: dict[str, Any] = {"identifier": asked.encode(errors="backslashreplace").decode()}
    if isinstance(answer, Fault):
        told |= {"outcome": "error", "error": _plain_fault(answer)}
    else:
        told |= _plain_answer(answer)
    if traced is not None:
        told |= {"trace": traced.steps, "seconds": round(traced.seconds, 6)}
    return told


def _plain_answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {
        "outcome": answer.outcome.name.lower(),
        "standing": answer.standing.name.lower(),
        "authority": answer.authority,
        "prefix": answer.prefix,
        "stale": answer.stale,
    }
    if answer.takeover:
        told["takeover"] = True
    if answer.hops:
        told["hops"] = [
            {"node": hop.node, "protocol": hop.protocol.name.lower(), "obtained_at": hop.obtained_at}
            for hop in answer.hops
        ]
        told["expires_at"] = answer.expires_at
        told["trust"] = answer.trust.name.lower()
    if answer.record:
        told["record"] = _plain_record(answer.record)
    if answer.referral:
        told["referral"] = _plain_referral(answer.referral)
    return told


def _plain_fault(fault: Fault) -> dict[str, Any]:
    told = {"reason": fault.reason.name, "detail": fault.detail, "field": fault.field}
    return told if fault.retry_after is None else {**told, "retry_after": fault.retry_after}


def _plain_record(record: Record) -> dict[str, Any]:
    told: dict[str, Any] = {
        "identifier": record.identifier.to_text(),
        "registrant": record.registrant,
        "registered_at": record.registered_at,
        "updated_at": record.updated_at,
        "version": record.version,
        "values": [_plain_value(value) for value in record.values],
    }
    if record.tombstone:
        told["tombstone"] = {"reason": record.tombstone.reason, "deleted_at": record.tombstone.deleted_at}
    return told


def _plain_value(value: Value) -> dict[str, Any]:
    """Give a value with the keys of a row of `load`."""
    told: dict[str, Any] = {"index": value.index, "type": value.type}
    try:
        told["data"] = value.data.decode()
    except UnicodeDecodeError:
        told["data_base64"] = base64.b64encode(value.data).decode()
    if isinstance(value.lifetime, Absolute):
        told["expires_at"] = value.lifetime.expires_at
    else:
        told["ttl"] = value.lifetime.seconds
    told |= {"timestamp": value.timestamp, "permissions": f"{value.permissions:04b}"}
    if value.references:
        told["references"] = [{"handle": each.handle, "index": each.index} for each in value.references]
    return told


def _plain_referral(referral: Referral) -> dict[str, Any]:
    return {
        "prefix": referral.prefix,
        "holder": referral.holder,
        "endpoints": [
            {
                "protocol": endpoint.protocol.name.lower(),
                "address": endpoint.address,
                "port": endpoint.port,
                "priority": endpoint.priority,
                "tls_name": endpoint.tls_name,
            }
            for endpoint in referral.endpoints
        ],
    }


def safe(text: str) -> str:
    """Give text that a terminal only prints."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def data_text(data: bytes) -> str:
    """Give a value's data for a table: text where it is text, else its first bytes in hex."""
    try:
        shown = safe(data.decode())
    except UnicodeDecodeError:
        rest = f"... ({len(data):,} bytes)" if len(data) > _HEX_BYTES else ""
        return f"0x{data[:_HEX_BYTES].hex()}{rest}"
    return shown if len(shown) <= PREVIEW else f"{shown[: PREVIEW - 3]}..."


def lifetime_text(value: Value) -> str:
    """Give how long a value may be kept."""
    if isinstance(value.lifetime, Absolute):
        return f"until {time_text(value.lifetime.expires_at)}"
    return f"{value.lifetime.seconds:,} s"


def time_text(seconds: int) -> str:
    """Give Unix time as a date and time in UTC, and nothing for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else ""


def is_absence(answer: Answer | Fault) -> bool:
    """Does the answer say that there is nothing, or nothing here?"""
    return isinstance(answer, Answer) and answer.outcome in (Outcome.ABSENT, Outcome.NOT_HERE)
