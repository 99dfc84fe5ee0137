"""Quantities with a unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import Fault, Reason
from resolver.units import Duration, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250us", 0.00025),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2min", 120.0),
        ("1h", 3_600.0),
        ("1 d", 86_400.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert Duration.from_text(text) == pytest.approx(seconds)
    assert isinstance(Duration.from_text(text), float)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("512B", 512), ("64KiB", 65_536), ("256MiB", 1 << 28), ("1.5GiB", 3 << 29), ("2 TiB", 1 << 41), ("0B", 0)],
)
def test_a_size_is_bytes(text: str, octets: int) -> None:
    assert Size.from_text(text) == octets
    assert isinstance(Size.from_text(text), int)


@pytest.mark.parametrize("unit", [Duration, Size])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "250",
        "ms",
        "-1s",
        "-1B",
        "1e3s",
        "1.s",
        ".5s",
        "1 2s",
        "1  s",
        " 1s",
        "1s ",
        "1s\n",
        "٣s",
        "٣B",
        "9" * 400 + "B",
    ],
)
def test_what_is_no_quantity_is_refused(unit: type[Duration] | type[Size], text: str) -> None:
    with pytest.raises(Fault) as caught:
        unit.from_text(text)
    assert caught.value.reason is Reason.SETTING_INVALID


@pytest.mark.parametrize("text", ["1MiB", "1B", "1m", "1S", "1sec"])
def test_a_duration_refuses_other_units_and_says_its_own(text: str) -> None:
    with pytest.raises(Fault, match="us, ms, s, min, h, d"):
        Duration.from_text(text)


@pytest.mark.parametrize("text", ["1s", "1MB", "1kib", "1KB", "1b"])
def test_a_size_refuses_other_units_and_says_its_own(text: str) -> None:
    """Powers of ten are not offered: nobody should have to know whether 1 MB is 1,000,000 or 1,048,576 bytes."""
    with pytest.raises(Fault, match="B, KiB, MiB, GiB, TiB"):
        Size.from_text(text)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for unit in (Duration, Size):
        try:
            read = unit.from_text(text)
        except Fault:
            continue
        assert read >= 0


@given(st.integers(0, 10**12))
def test_whole_bytes_come_back(octets: int) -> None:
    assert Size.from_text(f"{octets}B") == octets
