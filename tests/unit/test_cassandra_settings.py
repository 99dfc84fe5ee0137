"""Settings of the Cassandra store, and the files that they name."""

from pathlib import Path
from typing import Any

import pytest

from resolver.errors import Fault, Reason
from resolver.store.cassandra.connecting import connect, patience_of, tls_context
from resolver.store.cassandra.settings import CassandraSettings, CassandraTls
from resolver.store.cassandra.statements import Way
from resolver.units import Duration


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("port", {"port": 0}),
        ("port", {"port": 65_536}),
        ("datacenter", {"datacenter": ""}),
        ("keyspace", {"keyspace": ""}),
        ("keyspace", {"keyspace": "1abc"}),
        ("keyspace", {"keyspace": "Upper"}),
        ("keyspace", {"keyspace": "a; DROP KEYSPACE b"}),
        ("keyspace", {"keyspace": "a" * 49}),
        ("replicas", {"replicas": 0}),
        ("password_file", {"user": "somebody"}),
        ("password_file", {"password_file": "somewhere"}),
        ("deadline", {"deadline": Duration(0)}),
        ("queries", {"queries": 7}),
        ("waiting", {"waiting": 999}),
    ],
)
def test_what_cannot_be_is_refused_by_name(field: str, setting: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        CassandraSettings(hosts=("somewhere",), **setting)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)


def test_transactions_are_waited_for_longer_than_reads() -> None:
    patience = patience_of(CassandraSettings(deadline=Duration(0.5)))
    assert set(patience) == set(Way)
    assert patience[Way.NEAR] == patience[Way.WRITE] == 0.5
    assert patience[Way.DECIDE] > 0.5


def test_a_password_that_cannot_be_read_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    settings = CassandraSettings(hosts=("somewhere",), user="one", password_file=str(tmp_path / "none"))
    with pytest.raises(Fault) as caught:
        connect(settings)
    assert (caught.value.reason, caught.value.field) == (Reason.FILE_UNREADABLE, "password_file")


@pytest.mark.parametrize("field", ["server_ca", "certificate"])
def test_a_tls_file_that_cannot_be_used_is_named(tmp_path: Path, field: str) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("no certificate")
    for path in (odd, tmp_path / "none"):
        with pytest.raises(Fault) as caught:
            tls_context(CassandraTls(**{field: str(path)}))
        assert (caught.value.reason, caught.value.field) == (Reason.FILE_UNREADABLE, f"tls.{field}")
        assert caught.value.variables["path"] == str(path)


def test_nodes_are_verified_by_authority_and_by_name() -> None:
    context = tls_context(CassandraTls())
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_a_name_without_an_address_is_told() -> None:
    with pytest.raises(Fault) as caught:
        connect(CassandraSettings(hosts=("nobody.invalid",)))
    assert (caught.value.reason, caught.value.field) == (Reason.STORE_UNAVAILABLE, "hosts")
