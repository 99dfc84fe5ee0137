"""Settings of the shared Redis: what is refused, and how the pieces read."""

from pathlib import Path
from typing import Any

import pytest

from resolver.cache.redis.settings import SHELVES, RedisSettings, host_and_port, read_password
from resolver.errors import Fault, Reason
from resolver.units import Duration


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"address": "10.0.0.7:6379", "sentinels": ("10.0.0.8:26379",)}, "sentinels"),
        ({"sentinels": ("10.0.0.8:26379",), "cluster": True}, "sentinels"),
        ({"cluster": True}, "address"),
        ({"address": "10.0.0.7"}, "address"),
        ({"address": ":6379"}, "address"),
        ({"address": "10.0.0.7:0"}, "address"),
        ({"address": "10.0.0.7:65536"}, "address"),
        ({"sentinels": ("10.0.0.8:26379", "10.0.0.9")}, "sentinels"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": "a{b}"}, "namespace"),
        ({"deadline": Duration(0)}, "deadline"),
        ({"markers_for": Duration(0)}, "markers_for"),
        ({"absent_entries": -1}, "absent_entries"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Fault) as caught:
        RedisSettings(**given)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)


def test_there_is_one_where_it_is_named() -> None:
    assert not RedisSettings().is_set
    assert RedisSettings(address="redis.example.cn:6379").is_set
    assert RedisSettings(sentinels=("[::1]:26379", "10.0.0.8:26379")).is_set


def test_a_cluster_has_shelves() -> None:
    assert RedisSettings(address="10.0.0.7:6379").shelves == 1
    assert RedisSettings(address="10.0.0.7:6379", cluster=True).shelves == SHELVES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7:6379", ("10.0.0.7", 6379)),
        ("redis.example.cn:1", ("redis.example.cn", 1)),
        ("[2001:db8::7]:65535", ("2001:db8::7", 65_535)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text, "address") == expected


def test_a_password_is_what_stands_in_its_file_without_the_lines_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" correct horse \r\n")
    assert read_password(RedisSettings(password_file=str(file))) == " correct horse "
    assert read_password(RedisSettings()) == ""


def test_a_password_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        read_password(RedisSettings(password_file=str(tmp_path / "none")))
    assert (caught.value.reason, caught.value.field) == (Reason.FILE_UNREADABLE, "password_file")
