"""The certificate authority of deploy/: what it makes, who may read it, and what it refuses."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy import certificates
from resolver.rpc.tls import ServerTls, read_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ca"
    assert certificates.main(["init", str(made), "--name", "示例"]) == 0
    return made


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def test_a_nodes_certificate_is_issued_by_the_authority_for_both_sides(folder: Path) -> None:
    names = [
        "--dns",
        "resolver.example.cn",
        "--dns",
        "registry.example.cn",
        "--ip",
        "192.0.2.7",
        "--ip",
        "2001:db8::7",
    ]
    assert certificates.main(["issue", str(folder), "88.111", *names, "--days", "30"]) == 0
    made = certificate(folder, "88.111")
    made.verify_directly_issued_by(certificate(folder, "authority"))
    known_by = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert known_by.get_values_for_type(x509.DNSName) == ["resolver.example.cn", "registry.example.cn"]
    assert [str(each) for each in known_by.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::7"]
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    left = made.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    read_server(ServerTls(certificate=str(folder / "88.111.pem"), key=str(folder / "88.111.key")))


def test_only_the_owner_reads_keys_and_nothing_else_is_left(folder: Path) -> None:
    assert certificates.main(["issue", str(folder), "88.111"]) == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("authority", "88.111"):
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    assert {each.name for each in folder.iterdir()} == {
        f"{n}.{k}" for n in ("authority", "88.111") for k in ("pem", "key")
    }


def test_issued_anew_it_has_another_key_and_the_same_authority(folder: Path) -> None:
    files = set()
    for _ in range(2):
        certificates.issue(folder, "88.111")
        made = certificate(folder, "88.111")
        made.verify_directly_issued_by(certificate(folder, "authority"))
        files.add((folder / "88.111.key").read_bytes())
    assert len(files) == 2


def test_names_with_points_are_not_mixed_up(folder: Path) -> None:
    """88.111 and 88.112 differ by what looks like a suffix."""
    certificates.issue(folder, "88.111")
    certificates.issue(folder, "88.112")
    assert [name for name, _, _ in certificates.issued(folder)] == ["88.111", "88.112", "authority"]


def test_what_was_issued_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificates.issue(folder, "top", dns=["resolver.example.cn"], ips=["192.0.2.1"])
    assert certificates.main(["show", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "resolver.example.cn 192.0.2.1" in said
    assert "authority" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "{ca}"], "There is an authority"),
        (["issue", "{none}", "88.1"], "certificates.py init"),
        (["show", "{none}"], "certificates.py init"),
        (["issue", "{ca}", "../88.1"], "cannot be the name"),
        (["issue", "{ca}", "authority"], "cannot be the name"),
        (["issue", "{ca}", "88.1", "--ip", "192.0.2"], "192.0.2"),
        (["issue", "{ca}", "88.1", "--dns", "节点.cn"], "A-label"),
        (["issue", "{ca}", "88.1", "--days", "4000"], "The authority ends"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    places = {"ca": folder, "none": folder / "none"}
    assert certificates.main([each.format_map(places) for each in arguments]) == 1
    assert said in capsys.readouterr().err
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
