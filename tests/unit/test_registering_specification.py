"""What docs/registry.md shows and promises is what the registry takes: its examples, its tables, its bounds."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from nodes.client import Draft, Outcome, PrivateKey, Signer
from nodes.client.signing import sealed
from registry.allocation import Allocations
from registry.counts import CountsReport
from registry.identifiers import Identifiers
from registry.imports import Import
from registry.kinds import PLANNERS
from registry.membership import TRANSITIONS as NODE_TRANSITIONS
from registry.nodes import Agreement, Application, Review, Rotation, Ruling, Takeover
from registry.prefix_changes import PrefixApplication, Renewal, Route, StateChange
from registry.prefix_states import TRANSITIONS as PREFIX_TRANSITIONS
from registry.v1 import registry_pb2 as pb
from resolver.errors import Reason
from resolver.trust.envelopes import Envelope
from resolver.trust.heads import LIFETIME, SKEW, Payload
from resolver.trust.queries import QUERY_KEY, QUERY_KIND

PAGE: Final = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")

BODIES: Final[dict[str, Any]] = {
    "counts.v1": CountsReport,
    "identifiers.v1": Identifiers,
    "import.v1": Import,
    "node-apply.v1": Application,
    "node-review.v1": Review,
    "node-resume.v1": Ruling,
    "node-revoke.v1": Ruling,
    "node-suspend.v1": Ruling,
    "node-rotate.v1": Rotation,
    "node-agreement.v1": Agreement,
    "node-takeover.v1": Takeover,
    "prefix-allocate.v1": Allocations,
    "prefix-apply.v1": PrefixApplication,
    "prefix-renew.v1": Renewal,
    "prefix-state.v1": StateChange,
    "route.v1": Route,
}


def examples() -> dict[str, str]:
    """Each example by its kind; one may be about several kinds."""
    found = re.findall(r"^```json (.+)\n((?:.|\n)+?)^```$", PAGE, re.MULTILINE)
    return {kind: text for kinds, text in found for kind in kinds.split()}


def rows(head: str) -> set[tuple[str, ...]]:
    """The rows of the table with this head."""
    _, _, below = PAGE.partition(f"{head}\n")
    assert below, head
    lines = below.partition("\n\n")[0].splitlines()[1:]
    return {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}


def test_every_kind_has_an_example_and_every_example_a_kind() -> None:
    assert examples().keys() == PLANNERS.keys() | {QUERY_KIND, "payload"}
    assert BODIES.keys() == PLANNERS.keys()


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_an_example_is_a_body_of_its_kind(kind: str) -> None:
    msgspec.json.decode(examples()[kind], type=BODIES[kind])


def test_the_example_of_a_payload_is_one() -> None:
    head = Payload.from_bytes(examples()["payload"].strip().encode()).head
    assert head.expires_at - head.issued_at == LIFETIME
    assert f"at most {LIFETIME} apart" in PAGE
    assert f"`issued_at` - {SKEW} to `expires_at` + {SKEW}" in PAGE


def test_the_example_of_a_query_is_what_is_signed() -> None:
    ((name, signed),) = Signer("a", PrivateKey.generate()).query("s/m", b"", node="top", now=1.0)
    assert name == QUERY_KEY
    assert f"`{QUERY_KEY}`" in PAGE
    body = Payload.from_bytes(Envelope.from_bytes(signed).payload).body
    assert msgspec.json.decode(body) == msgspec.json.decode(examples()[QUERY_KIND])


def test_the_states_of_nodes_are_those_of_the_table() -> None:
    told = rows("| state | what is done | by | state after it |")
    assert {(state, act, after) for state, act, _, after in told} == {
        (state.name.lower() if state else "(none)", act.value, after.name.lower())
        for (state, act), after in NODE_TRANSITIONS.items()
    }


def test_the_states_of_prefixes_are_those_of_the_table() -> None:
    assert {
        (state, after, frozenset(by.split(", "))) for state, after, by in rows("| state | state after it | by |")
    } == {
        (state.name.lower(), after.name.lower(), frozenset(role.value for role in roles))
        for (state, after), roles in PREFIX_TRANSITIONS.items()
    }


def test_outcomes_are_those_of_the_wire() -> None:
    told = {cell[0] for cell in rows("| outcome | |")}
    assert told == {f"`{outcome.name}` ({outcome.value})" for outcome in Outcome}
    assert {outcome.value for outcome in Outcome} == set(pb.Outcome.values()) - {0}


def test_every_reason_that_is_named_exists() -> None:
    upper = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", PAGE))
    assert {"ENVELOPE_MALFORMED", "VERSION_MISMATCH"} < upper
    grpc_codes = {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert upper - grpc_codes <= set(Reason.__members__)


def test_a_draft_is_signed_as_the_page_says() -> None:
    """The pre-authentication encoding by hand, over the bytes that are sent."""
    signer = Signer("88.111", PrivateKey.generate())
    draft = Draft.of("identifiers.v1", {"rows": []})
    octets = sealed(draft, signer, [signer.key], node="top", method="s/m", now=1_800_000_000.0).octets
    message = pb.SubmitRequest.FromString(octets)
    kind = message.payload_type.encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(message.payload), message.payload)
    (signature,) = message.signatures
    assert signer.key.public.verify(signature.sig, signed)
    assert signature.keyid == signer.key.public.key_id
    assert message.payload_type == "application/vnd.topnode.identifiers.v1+json"
    assert message.payload.endswith(b'"body":{"rows":[]}}')
