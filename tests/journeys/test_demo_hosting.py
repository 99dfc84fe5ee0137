"""Several nodes in one process: each serves by itself, and all end in order; one that cannot start ends all."""

import asyncio
from pathlib import Path

import pytest

from nodes.demo.node import Launched
from nodes.demo.topology import NodeFiles, settings_text
from resolver.errors import Fault
from tests.fronts import addresses, clients
from tests.running_node import is_running

NAMES = ("88.111.1", "88.111.2", "88.111.3")


def prepared(folder: Path, name: str) -> NodeFiles:
    files = NodeFiles(name=name, tier="enterprise", folder=folder / name)
    files.folder.mkdir()
    # Nothing is above: these nodes have no registry to push to.
    text = settings_text(files, registry="", key=folder / "none.pem", organisation="", push=[])
    files.config.write_text(text, encoding="utf-8")
    return files


def leftovers(folder: Path) -> list[Path]:
    """Folders for sockets, which go with their nodes."""
    return list(folder.glob("*/data/run"))


async def test_each_node_serves_under_its_own_name_and_all_end_in_order(tmp_path: Path) -> None:
    configs = [str(prepared(tmp_path, name).config) for name in NAMES]
    running = await Launched.start(["nodes.demo.hosting", "enterprise", *configs], tmp_path / "log")
    try:
        started = {each.node: each for each in [await running.started() for _ in NAMES]}
        assert set(started) == set(NAMES)
        assert {each.pid for each in started.values()} == {running.pid}
        for name in NAMES:
            async with clients(addresses(started[name])) as fronts:
                for client in fronts:
                    told = await client.node_info()
                    assert (told.node, told.tier) == (name, "enterprise")
    finally:
        await running.stop()
    assert not is_running(running.pid)
    assert leftovers(tmp_path) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_one_that_cannot_start_ends_all(tmp_path: Path) -> None:
    good, bad = prepared(tmp_path, NAMES[0]), prepared(tmp_path, NAMES[1])
    bad.config.write_text("wishes = 3\n", encoding="utf-8")
    running = await Launched.start(
        ["nodes.demo.hosting", "enterprise", str(good.config), str(bad.config)], tmp_path / "log"
    )
    with pytest.raises(Fault, match="SETTING_UNKNOWN"):
        await running.started()
    async with asyncio.timeout(30):
        await running.stop()
    assert not is_running(running.pid)
