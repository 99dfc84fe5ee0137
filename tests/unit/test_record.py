"""Values and records: their bounds, each with the field that a refusal names."""

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from resolver.bounds import (
    INDEX_MAX,
    RECORD_VALUES,
    SECONDS_MAX,
    VALUE_DATA_BYTES,
    VALUE_REFERENCES,
    VALUE_TYPE_BYTES,
)
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.record import (
    DEFAULT_PERMISSIONS,
    DEFAULT_TTL,
    Absolute,
    Permission,
    Record,
    Reference,
    Relative,
    Tombstone,
    Value,
)
from tests.nouns import records

HANDLE = Handle.from_text("88.111.1/SN-0042")
VALUE = Value(index=1, type="URL", data=b"https://example.cn")


def test_what_nobody_said_has_the_defaults_of_the_handle_system() -> None:
    """86,400 seconds, no time stamp, 1110 (RFC 3651 section 3.1)."""
    assert Relative(DEFAULT_TTL) == VALUE.lifetime == Relative(86_400)
    assert VALUE.permissions == DEFAULT_PERMISSIONS == 0b1110
    assert (VALUE.timestamp, VALUE.references) == (0, ())


@pytest.mark.parametrize(
    "change",
    [
        {"index": 1},
        {"index": INDEX_MAX},
        {"type": "T"},
        {"type": "10320/loc"},
        {"type": "产品 型号"},
        {"type": "x" * VALUE_TYPE_BYTES},
        {"type": "é" * (VALUE_TYPE_BYTES // 2)},
        {"data": b""},
        {"data": bytes(VALUE_DATA_BYTES)},
        {"lifetime": Relative(0)},
        {"lifetime": Relative(SECONDS_MAX)},
        {"lifetime": Absolute(0)},
        {"lifetime": Absolute(SECONDS_MAX)},
        {"timestamp": SECONDS_MAX},
        {"permissions": 0},
        {"permissions": 15},
        {"references": (Reference("88.1/x", 0),) * VALUE_REFERENCES},
        {"references": (Reference("88.1/x", INDEX_MAX),)},
    ],
)
def test_a_value_may_fill_each_bound(change: dict[str, Any]) -> None:
    value = replace(VALUE, **change)
    ((field, wanted),) = change.items()
    assert getattr(value, field) == wanted


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("index", 0),
        ("index", -1),
        ("index", INDEX_MAX + 1),
        ("type", ""),
        ("type", "T."),
        ("type", "."),
        ("type", "a\nb"),
        ("type", "a\x85"),
        ("type", "\ud800"),
        ("type", "x" * (VALUE_TYPE_BYTES + 1)),
        ("type", "é" * (VALUE_TYPE_BYTES // 2) + "e"),
        ("data", bytes(VALUE_DATA_BYTES + 1)),
        ("lifetime", Relative(-1)),
        ("lifetime", Relative(SECONDS_MAX + 1)),
        ("lifetime", Absolute(-1)),
        ("lifetime", Absolute(SECONDS_MAX + 1)),
        ("timestamp", -1),
        ("timestamp", SECONDS_MAX + 1),
        ("permissions", -1),
        ("permissions", 16),
        ("references", (Reference("88.1/x", 0),) * (VALUE_REFERENCES + 1)),
        ("references", (Reference("88.1/x", -1),)),
        ("references", (Reference("88.1/x", INDEX_MAX + 1),)),
        ("references", (Reference("no slash", 1),)),
        ("references", (Reference("88.1/\ud800", 1),)),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_field(field: str, wrong: object) -> None:
    with pytest.raises(Fault) as caught:
        replace(VALUE, **{field: wrong})
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, field)


@pytest.mark.parametrize("permissions", range(16))
def test_a_value_is_public_when_the_public_may_read_it(permissions: int) -> None:
    value = replace(VALUE, permissions=permissions)
    assert value.is_public is (Permission.PUBLIC_READ in Permission(permissions))


def test_a_record_is_public_when_all_its_values_are() -> None:
    restricted = replace(VALUE, index=2, permissions=0b1100)
    assert Record(identifier=HANDLE).is_public
    assert Record(identifier=HANDLE, values=(VALUE,)).is_public
    assert not Record(identifier=HANDLE, values=(VALUE, restricted)).is_public


@pytest.mark.parametrize("indexes", [(1, 1), (2, 1), (1, 3, 3), (5, 4, 6)])
def test_values_stand_in_the_order_of_their_indexes_each_once(indexes: tuple[int, ...]) -> None:
    with pytest.raises(Fault) as caught:
        Record(identifier=HANDLE, values=tuple(replace(VALUE, index=index) for index in indexes))
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, "values")


def test_a_record_has_at_most_its_number_of_values() -> None:
    values = tuple(replace(VALUE, index=index) for index in range(1, RECORD_VALUES + 2))
    assert len(Record(identifier=HANDLE, values=values[:-1]).values) == RECORD_VALUES
    with pytest.raises(Fault) as caught:
        Record(identifier=HANDLE, values=values)
    assert (caught.value.reason, caught.value.field) == (Reason.RECORD_TOO_LARGE, "values")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("registrant", "88.1\n"),
        ("registrant", "\ud800"),
        ("registered_at", -1),
        ("registered_at", SECONDS_MAX + 1),
        ("updated_at", -1),
        ("updated_at", SECONDS_MAX + 1),
        ("version", -1),
        ("version", 2**63),
    ],
)
def test_a_record_out_of_bounds_is_refused_with_its_field(field: str, wrong: object) -> None:
    """Each of these could not be written on the wire, or not be read again."""
    with pytest.raises(Fault) as caught:
        replace(Record(identifier=HANDLE), **{field: wrong})
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, field)


@pytest.mark.parametrize(
    ("reason", "deleted_at", "field"),
    [
        ("gone\x00", 1, "tombstone.reason"),
        ("\ud800", 1, "tombstone.reason"),
        ("gone", -1, "tombstone.deleted_at"),
        ("gone", SECONDS_MAX + 1, "tombstone.deleted_at"),
    ],
)
def test_a_tombstone_out_of_bounds_is_refused_with_its_field(reason: str, deleted_at: int, field: str) -> None:
    with pytest.raises(Fault) as caught:
        Tombstone(reason=reason, deleted_at=deleted_at)
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, field)


def test_a_deleted_identifier_has_no_values() -> None:
    gone = Tombstone(reason="recalled", deleted_at=1_800_000_000)
    assert Record(identifier=HANDLE, tombstone=gone).tombstone == gone
    with pytest.raises(Fault) as caught:
        Record(identifier=HANDLE, values=(VALUE,), tombstone=gone)
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, "tombstone")


@given(records())
def test_records_are_frozen_and_equal_by_content(record: Record) -> None:
    assert replace(record) == record
    assert hash(replace(record)) == hash(record)
    with pytest.raises(AttributeError):
        record.version = 1  # type: ignore[misc]  # that it cannot be done is what is tested
