"""The registry of reasons: every one is whole, and a Fault says what a person needs."""

import re
from typing import Any

import pytest

from resolver.errors import DOMAIN, Fault, Kind, Reason, first_fault


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_kind_a_sentence_and_a_remedy(reason: Reason) -> None:
    """The name fits into an ErrorInfo (at most 63 of [A-Z][A-Z0-9_]+[A-Z0-9]); sentences are whole."""
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]", reason.name)
    assert isinstance(reason.value.kind, Kind)
    assert re.fullmatch(r"[A-Z].+\.", reason.value.happened)
    assert re.fullmatch(r"[A-Z].+\.", reason.value.remedy)
    assert "|" not in reason.value.happened + reason.value.remedy


def test_no_two_reasons_say_the_same() -> None:
    sentences = [reason.value.happened for reason in Reason]
    assert len(set(sentences)) == len(sentences) == len(Reason.__members__)


def test_kinds_are_the_names_of_grpc_codes() -> None:
    """Every kind is a status code of gRPC; the mapping itself is `resolver.rpc.errors`."""
    import grpc

    assert {kind.name for kind in Kind} <= {code.name for code in grpc.StatusCode}
    assert all(kind.name == kind.value for kind in Kind)
    assert DOMAIN == "topnode"


def test_a_fault_without_a_detail_says_what_its_reason_says() -> None:
    fault = Fault(Reason.BATCH_EMPTY)
    assert fault.detail == "The batch holds no identifier."
    assert fault.kind is Kind.INVALID_ARGUMENT
    assert str(fault) == "BATCH_EMPTY: The batch holds no identifier. Send 1 to 1,000."
    assert (fault.field, fault.retry_after, dict(fault.variables)) == ("", None, {})


def test_a_fault_says_where_and_what_to_do() -> None:
    fault = Fault(Reason.RATE_LIMITED, "20 a second.", field="options", retry_after=0.5, variables={"allowed": "20"})
    assert str(fault) == "RATE_LIMITED (options): 20 a second. Retry after the stated time."
    assert fault.retry_after == 0.5
    assert fault.variables == {"allowed": "20"}


def test_faults_do_not_share_their_variables() -> None:
    with pytest.raises(TypeError):
        Fault(Reason.INTERNAL).variables["x"] = "y"  # type: ignore[index]  # that it cannot be done is what is tested


def test_a_fault_is_said_anew_with_all_that_it_says() -> None:
    """Perhaps of another field; whoever waits for the same thing gets one of their own."""
    fault = Fault(Reason.RATE_LIMITED, "20 a second.", field="options", retry_after=0.5, variables={"allowed": "20"})
    for again, field in ((fault.anew(), "options"), (fault.anew(field=""), ""), (fault.anew(field="x"), "x")):
        assert again is not fault
        said = (again.reason, again.detail, again.field, again.retry_after, again.variables)
        assert said == (Reason.RATE_LIMITED, "20 a second.", field, 0.5, {"allowed": "20"})


def test_the_first_fault_is_found_in_groups_of_groups() -> None:
    fault = Fault(Reason.INTERNAL)
    group: ExceptionGroup[Any] = ExceptionGroup("", [ExceptionGroup("", [fault]), Fault(Reason.STORE_FULL)])
    assert first_fault(group) is fault
