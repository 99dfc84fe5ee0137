"""Which nodes of the demo run, with which settings, and how they share processes."""

from pathlib import Path

import pytest

from nodes.demo.topology import HOSTS_MAX, NodeFiles, moved, own_nodes, settings_text, shared_out
from nodes.demo.wuhan import PLANNED_NODES, SECONDARY_NODES
from nodes.settings import read
from resolver.routes import Hosting, Protocol


def nodes(folder: Path, count: int) -> list[NodeFiles]:
    return [
        NodeFiles(name=f"88.1.{each}", tier="enterprise", folder=folder / f"88.1.{each}") for each in range(count)
    ]


def test_enterprises_with_an_address_for_our_protocol_run_nodes() -> None:
    for node in SECONDARY_NODES:
        for enterprise in node.enterprises:
            runs = enterprise in own_nodes(node)
            assert runs == (bool(enterprise.address) and enterprise.protocol is Protocol.GRPC)


def test_once_they_have_moved_all_enterprises_run_nodes() -> None:
    for node in SECONDARY_NODES:
        assert own_nodes(moved(node)) == list(moved(node).enterprises)
        assert {each.prefix for each in moved(node).enterprises} == {each.prefix for each in node.enterprises}
        assert all(each.allocation.hosting is Hosting.DELEGATED for each in moved(node).enterprises)
    assert sum(len(moved(node).enterprises) for node in SECONDARY_NODES) == 25


def test_each_planned_node_brings_a_third_tier_and_hosts_another() -> None:
    for node in PLANNED_NODES:
        assert (len(node.enterprises), len(own_nodes(node))) == (2, 1)


@pytest.mark.parametrize(
    ("count", "cores", "hosts"), [(12, 2, 2), (12, 1, 1), (1, 64, 1), (0, 4, 0), (90, 64, HOSTS_MAX)]
)
def test_nodes_are_shared_out_evenly_by_what_the_machine_has(
    tmp_path: Path, count: int, cores: int, hosts: int
) -> None:
    given = nodes(tmp_path, count)
    shared = shared_out(given, cores)
    assert len(shared) == hosts
    assert sorted(each.name for group in shared for each in group) == sorted(each.name for each in given)
    sizes = [len(group) for group in shared]
    assert not sizes or 0 < max(sizes) <= min(sizes) + 1


def test_the_settings_of_a_node_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """Also where names hold quotes, backslashes and what is not ASCII."""
    files = NodeFiles(name="88.111.1", tier="enterprise", folder=tmp_path / 'a "folder" \\ 示例')
    files.folder.mkdir()
    organisation = '晨澜 "光模块" \\ 有限公司'
    key = files.folder / "key.pem"
    text = settings_text(
        files, registry="127.0.0.1:3643", key=key, organisation=organisation, push=["routes", "copies"]
    )
    files.config.write_text(text, encoding="utf-8")
    settings = read(files.config, {}, {}, tier="enterprise").settings
    assert (settings.node, settings.data, settings.workers) == ("88.111.1", files.data, 0)
    assert settings.upward.organisation == organisation
    assert (settings.upward.key, settings.upward.push) == (key, ("routes", "copies"))
    assert settings.upward.registry == "127.0.0.1:3643"
