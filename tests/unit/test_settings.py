"""Settings: which source has the last word, what is refused, and how a refusal helps."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from deploy import certificates
from nodes import layers
from nodes.settings import TIER, NodeSettings, check, read
from resolver.errors import Fault, Reason
from resolver.units import Duration, Size


class Corner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section that may be left out."""

    file: Path
    """A file."""

    strict: bool = False


class Shelf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section."""

    wait: Duration = Duration(0.25)
    """How long
    to wait."""

    size: Size = Size(1024)
    names: tuple[str, ...] = ()
    share: float = 0.5
    corner: Corner | None = None

    def __post_init__(self) -> None:
        if self.share > 1:
            raise Fault(Reason.SETTING_INVALID, "A share is at most 1.", field="share")


class House(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings with every kind of value."""

    name: str = "house"
    """What it is called."""

    floors: int | None = None
    shelf: Shelf = Shelf()


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str) -> Fault:
    with pytest.raises(Fault) as caught:
        layers.settle(House, [layers.from_toml(House, toml(tmp_path, text))])
    return caught.value


def test_defaults_hold_and_say_so() -> None:
    settled = layers.settle(House, [])
    assert settled.settings == House()
    assert set(settled.origins.values()) == {"default"}
    assert list(settled.origins) == [
        "name",
        "floors",
        "shelf.wait",
        "shelf.size",
        "shelf.names",
        "shelf.share",
        "shelf.corner.file",
        "shelf.corner.strict",
    ]


def test_file_then_environment_then_options_have_the_last_word(tmp_path: Path) -> None:
    path = toml(tmp_path, 'name = "file"\nfloors = 1\n[shelf]\nwait = "1s"\nsize = "2KiB"')
    environment = {"TOPNODE_FLOORS": "2", "TOPNODE_SHELF__WAIT": "2s", "PATH": "/bin"}
    settled = layers.settle(
        House,
        [
            layers.from_toml(House, path),
            layers.from_environment(House, environment),
            layers.from_options({"shelf.wait": "3s", "floors": None}),
        ],
    )
    assert settled.settings == House(name="file", floors=2, shelf=Shelf(wait=Duration(3), size=Size(2048)))
    assert settled.origins["name"] == settled.origins["shelf.size"] == f"file {path}"
    assert settled.origins["floors"] == "environment"
    assert settled.origins["shelf.wait"] == "option"
    assert settled.origins["shelf.share"] == "default"


def test_environment_reads_lists_numbers_and_truth_out_of_text() -> None:
    environment = {
        "TOPNODE_SHELF__NAMES": "a, b ,c",
        "TOPNODE_SHELF__SHARE": "0.25",
        "TOPNODE_SHELF__CORNER__FILE": "/key",
        "TOPNODE_SHELF__CORNER__STRICT": "true",
    }
    settings = layers.settle(House, [layers.from_environment(House, environment)]).settings
    assert settings.shelf.names == ("a", "b", "c")
    assert settings.shelf.share == 0.25
    assert settings.shelf.corner == Corner(file=Path("/key"), strict=True)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ('nmae = "x"', "nmae", "name"),
        ('[shelf]\nwiat = "1s"', "shelf.wiat", "shelf.wait"),
        ('[shelff]\nwait = "1s"', "shelff", "shelf"),
        ('[shelf.corner]\nfiel = "x"', "shelf.corner.fiel", "shelf.corner.file"),
        ('wait = "1s"', "wait", "shelf.wait"),
        ("zzzzzz = 1", "zzzzzz", ""),
    ],
)
def test_an_unknown_key_is_refused_with_file_key_and_the_nearest_known_one(
    tmp_path: Path, text: str, key: str, nearest: str
) -> None:
    fault = refusal(tmp_path, text)
    assert fault.reason is Reason.SETTING_UNKNOWN
    assert fault.field == key
    assert str(tmp_path / "settings.toml") in fault.detail
    assert fault.variables["nearest"] == nearest
    assert (f"Did you mean {nearest}?" in fault.detail) == bool(nearest)


def test_an_unknown_variable_of_ours_is_refused_by_its_name() -> None:
    with pytest.raises(Fault, match="TOPNODE_SHELF__WIAT") as caught:
        layers.from_environment(House, {"TOPNODE_SHELF__WIAT": "1s"})
    assert caught.value.reason is Reason.SETTING_UNKNOWN


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("floors = true", "floors", "bool"),
        ('floors = "2"', "floors", "str"),
        ("[shelf]\nwait = 250", "shelf.wait", "such as 250ms"),
        ('[shelf]\nwait = "250 parsecs"', "shelf.wait", "parsecs"),
        ('[shelf]\nsize = "1 MB"', "shelf.size", "MiB"),
        ("[shelf]\nshare = 1.5", "shelf.share", "at most 1"),
        ("[shelf]\nnames = [1]", "shelf.names", "str"),
        ("shelf = 3", "shelf", "[shelf]"),
        ("[shelf.corner]\nstrict = true", "shelf.corner.file", "not set"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path, text: str, key: str, says: str) -> None:
    fault = refusal(tmp_path, text)
    assert fault.reason is Reason.SETTING_INVALID
    assert fault.field == key
    assert says in fault.detail
    assert key in fault.detail


def test_what_is_no_toml_or_cannot_be_read_is_refused_with_its_path(tmp_path: Path) -> None:
    fault = refusal(tmp_path, "[shelf\n")
    assert fault.reason is Reason.SETTING_INVALID
    assert "settings.toml is not TOML" in fault.detail
    (tmp_path / "latin").write_bytes(b"name = '\xe9'")
    with pytest.raises(Fault, match="is not TOML"):
        layers.from_toml(House, tmp_path / "latin")
    with pytest.raises(Fault, match="No such file") as caught:
        layers.from_toml(House, tmp_path / "absent")
    assert caught.value.reason is Reason.FILE_UNREADABLE


def test_descriptions_are_the_docstrings_under_the_fields() -> None:
    described = layers.descriptions(House)
    assert described["name"] == "What it is called."
    assert described["shelf.wait"] == "How long\nto wait."
    assert described["shelf.size"] == ""
    assert described["shelf.corner.file"] == "A file."


def test_values_of_a_section_left_out_are_none() -> None:
    values = layers.values_of(House())
    assert values["shelf.corner.file"] is None
    assert values["shelf.size"] == 1024


@given(st.integers(1, 10**9), st.integers(0, 10**12), st.lists(st.text(max_size=5), max_size=3))
def test_settings_reach_another_interpreter_as_they_are(milliseconds: int, size: int, names: list[str]) -> None:
    shelf = Shelf(wait=Duration(milliseconds * 1e-3), size=Size(size), names=tuple(names))
    house = House(floors=3, shelf=shelf)
    read_back = layers.decode(layers.encode(house), House)
    assert read_back.shelf.wait == pytest.approx(float(shelf.wait), rel=1e-12)
    assert msgspec.structs.replace(read_back.shelf, wait=shelf.wait) == shelf


def test_every_setting_of_a_node_is_described_and_named_once() -> None:
    described = layers.descriptions(NodeSettings)
    assert set(described) == set(layers.keys(NodeSettings))
    assert [key for key, text in described.items() if not text] == []


def test_the_defaults_of_a_node_pass_the_check_and_travel() -> None:
    settings = read(None, {}, {}).settings
    check(settings)
    assert layers.decode(layers.encode(settings), NodeSettings) == settings


@pytest.mark.parametrize("key", ["admin", "serving.address"])
@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:port", "host:65536", "host:-1", "host:\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_a_node_refuses_what_is_no_address(key: str, address: str) -> None:
    with pytest.raises(Fault, match="HOST:PORT") as caught:
        check(read(None, {}, {key: address}).settings)
    assert caught.value.field == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node", ""),
        ("node", "a\nb"),
        ("workers", "-1"),
        ("workers", "1025"),
        ("restarts.first", "0s"),
        ("restarts.attempts", "-1"),
    ],
)
def test_a_node_refuses_what_cannot_be(key: str, value: str) -> None:
    with pytest.raises(Fault) as caught:
        read(None, {}, {key: value})
    assert caught.value.reason is Reason.SETTING_INVALID
    assert caught.value.field == key


def test_the_command_alone_says_the_tier(tmp_path: Path) -> None:
    assert read(None, {}, {}).settings.tier == "top"
    for tier in ("secondary", "enterprise"):
        settings = read(None, {"TOPNODE_NODE": "88.111"}, {}, tier=tier).settings
        assert (settings.tier, settings.node) == (tier, "88.111")
        assert layers.decode(layers.encode(settings), NodeSettings) == settings
    for config, environment in ((toml(tmp_path, 'tier = "secondary"'), {}), (None, {"TOPNODE_TIER": "secondary"})):
        with pytest.raises(Fault, match="topnode serve TIER") as caught:
            read(config, environment, {}, tier="secondary")
        assert (caught.value.reason, caught.value.field) == (Reason.SETTING_UNKNOWN, TIER)


def test_a_node_below_another_has_an_identifier_of_its_own() -> None:
    with pytest.raises(Fault, match="identifier of its own") as caught:
        read(None, {}, {}, tier="enterprise")
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, "node")


def test_a_node_refuses_tls_files_that_are_not_there() -> None:
    options = {"serving.tls.certificate": "/absent/cert.pem", "serving.tls.key": "/absent/key.pem"}
    with pytest.raises(Fault, match=r"/absent/cert\.pem") as caught:
        check(read(None, {}, options).settings)
    assert caught.value.reason is Reason.FILE_UNREADABLE


def test_the_example_in_deploy_sets_nothing_and_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "deploy" / "topnode.toml").read_text()
    as_it_is = layers.from_toml(NodeSettings, toml(tmp_path, text))
    assert as_it_is.values == {}
    shown = re.sub(r"^# (?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)
    settled = layers.settle(NodeSettings, [layers.from_toml(NodeSettings, toml(tmp_path, shown))])
    assert [key for key, origin in settled.origins.items() if origin == "default"] == [TIER]
    defaults = layers.values_of(NodeSettings())
    different = {key for key, value in layers.values_of(settled.settings).items() if value != defaults[key]}
    assert different == {key for key, value in defaults.items() if value in (None, "")}


def test_the_example_of_a_secondary_node_passes_the_check(tmp_path: Path) -> None:
    """Given the certificates that it names, made as it says."""
    certificates.init(tmp_path / "ca", "authority")
    certificates.issue(tmp_path / "ca", "88.111")
    text = (Path(__file__).parents[2] / "deploy" / "secondary.toml").read_text()
    example = toml(tmp_path, text.replace("/etc/topnode/", f"{tmp_path}/ca/"))
    settings = read(example, {}, {"data": tmp_path}, tier="secondary").settings
    check(settings)
    with pytest.raises(Fault, match="no node above a top-level node"):
        check(read(example, {}, {"data": tmp_path}).settings)
