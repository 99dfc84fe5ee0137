"""From Debian's package index to rows."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from nodes.demo import debian
from resolver.errors import Fault, Reason

Rows = list[dict[str, Any]]

INDEX = """\
Package: libstdc++6
Source: gcc-12
Version: 1:12.2.0-14+deb12u1~rc2
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Architecture: amd64
Description: GNU Standard C++ Library v3
Homepage: http://gcc.gnu.org/
Description-md5: 724ab84919e0bcabdc5b2c8d2a4ddb0c
Tag: role::shared-lib,
 works-with::software:source
Section: libs
Filename: pool/main/g/gcc-12/libstdc++6_12.2.0-14_amd64.deb
Size: 613100
SHA256: 00ff0fa64ee104ef2c3a65dba2a63f1b4f04e4a0e3b0a6e2fd3c9a3ad0d1f9e8

Package: zhcon
Version: 1:0.2.6-17.1
Maintainer: ChangZhuo Chen (陳昌倬) <czchen@debian.org>
Architecture: all
Description: two lines
 .
 Homepage: not a field, but text
Section: utils
"""


@pytest.fixture
def rows() -> Rows:
    return [json.loads(row) for row in debian.rows(map(debian.registration, debian.stanzas(INDEX.encode())))]


def test_the_prefix_is_allocated_first_and_tells_cases_apart(rows: Rows) -> None:
    assert rows[0]["prefix"] == debian.ENTERPRISE.text
    assert (rows[0]["state"], rows[0]["hosting"], rows[0]["case"]) == ("enabled", "here", "sensitive")


def test_each_stanza_is_a_row_named_by_package_version_and_architecture(rows: Rows) -> None:
    """Signs such as `+`, `~` and `:` stay as they are."""
    assert [row["identifier"] for row in rows[1:]] == [
        "88.199.12/libstdc++6_1:12.2.0-14+deb12u1~rc2_amd64",
        "88.199.12/zhcon_1:0.2.6-17.1_all",
    ]


def test_the_fields_become_values(rows: Rows) -> None:
    texts = {value["type"]: value.get("data") for value in rows[1]["values"]}
    assert texts == {
        "NAME": "libstdc++6",
        "VERSION": "1:12.2.0-14+deb12u1~rc2",
        "MAINTAINER": "Debian GCC Maintainers <debian-gcc@lists.debian.org>",
        "SHA256": None,
        "SIZE": "613100",
        "HOMEPAGE": "http://gcc.gnu.org/",
        "SECTION": "libs",
        "SUMMARY": "GNU Standard C++ Library v3",
    }


def test_the_hash_is_32_bytes(rows: Rows) -> None:
    (hash_row,) = [value for value in rows[1]["values"] if value["type"] == "SHA256"]
    assert "data" not in hash_row
    assert b64decode(hash_row["data_base64"]).hex().startswith("00ff0fa64ee1")
    assert len(b64decode(hash_row["data_base64"])) == 32


def test_what_a_package_does_not_have_makes_no_value(rows: Rows) -> None:
    """Indexes keep their meaning, and a line that goes on is no field."""
    assert [value["index"] for value in rows[2]["values"]] == [1, 2, 3, 7, 8]
    assert rows[2]["values"][2]["data"] == "ChangZhuo Chen (陳昌倬) <czchen@debian.org>"


@pytest.mark.parametrize(
    ("stanza", "field"),
    [
        (b"Package: a\nVersion: 1", "Architecture"),
        (b"Package: a\nVersion: \xff\nArchitecture: all", "stanza"),
    ],
)
def test_a_stanza_that_names_no_package_is_refused(stanza: bytes, field: str) -> None:
    with pytest.raises(Fault) as caught:
        debian.registration(stanza)
    assert (caught.value.reason, caught.value.field) == (Reason.ROW_MALFORMED, field)


def test_as_a_script_it_reads_a_file(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "index").write_text(INDEX, encoding="utf-8")
    command = [sys.executable, "-m", "nodes.demo.debian", str(tmp_path / "index")]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert [json.loads(line) for line in printed.stdout.splitlines()] == rows


def test_where_there_is_no_apt_there_is_no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian.read_index() is None
