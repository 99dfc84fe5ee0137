"""`topnode config check`: every setting, its value, where it came from, what it is, and what is wrong."""

import json
from pathlib import Path

import pytest

from nodes import layers
from nodes.cli import run
from nodes.settings import NodeSettings
from resolver.trust.keys import Algorithm, PrivateKey


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPNODE_LOG__LEVEL", "debug")
    path = tmp_path / "node.toml"
    path.write_text('node = "wuhan"\n[serving]\ndrain_grace = "1500ms"\n')
    return path


def test_json_has_every_setting_with_value_origin_and_description(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", "check", "--config", str(config), "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(layers.keys(NodeSettings))
    assert rows["node"]["value"] == "wuhan"
    assert rows["node"]["from"] == f"file {config}"
    assert rows["log.level"]["value"] == "debug"
    assert rows["log.level"]["from"] == "environment"
    assert rows["serving.drain_grace"]["value"] == "1500ms"
    assert rows["admin"]["from"] == "default"
    assert rows["workers"]["value"] is None
    assert all(row["description"] for row in rows.values())


def test_the_table_says_the_same_to_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (grace,) = [line for line in lines if "serving.drain_grace" in line]
    assert "1500ms" in grace
    assert f"file {config}" in grace
    (workers,) = [line for line in lines if line.strip().startswith("workers")]
    assert "not set" in workers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nod = "x"', "Did you mean node?"),
        ("[serving]\nstreams = 0", "serving.streams"),
        ('[serving]\naddress = "nowhere"', "HOST:PORT"),
        ('[serving.tls]\ncertificate = "/absent"\nkey = "/absent"', "/absent"),
        ("[serving.tls]\n", ""),
    ],
)
def test_what_is_wrong_is_exit_code_1_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    code = run(["config", "check", "--config", str(path)])
    said = capsys.readouterr()
    assert code == (1 if says else 0)
    assert says in said.err
    assert bool(said.out) == (not says)


def test_a_key_that_cannot_sign_the_journal_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one that is named, and the one that lies in the data folder; nothing is made by looking."""
    data = tmp_path / "data"
    path = tmp_path / "node.toml"
    path.write_text(f"data = '{data}'\n")
    assert run(["config", "check", "--config", str(path)]) == 0
    assert not data.exists()
    data.mkdir()
    PrivateKey.generate(Algorithm.ECDSA_P256).to_file(data / "journal.pem")
    assert run(["config", "check", "--config", str(path)]) == 1
    assert "KEY_INVALID" in capsys.readouterr().err
    PrivateKey.generate().to_file(tmp_path / "other.pem")
    path.write_text(f"data = '{data}'\n[registry]\nkey = '{tmp_path}/other.pem'\n")
    assert run(["config", "check", "--config", str(path)]) == 0
