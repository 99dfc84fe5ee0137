"""`topnode serve secondary` and `topnode serve enterprise`: complete nodes, with registries for what is below."""

import msgspec
import pytest

from nodes.client import Row, Value
from tests.fronts import clients
from tests.journeys.conftest import TopNode
from tests.topnode import told, topnode


@pytest.mark.parametrize(("tier", "workers"), [("secondary", 1), ("enterprise", 0)])
async def test_a_node_of_each_tier_registers_resolves_and_says_what_it_is(
    top_node: TopNode, tier: str, workers: int
) -> None:
    node = top_node(tier=tier, workers=workers, TOPNODE_NODE="88.111")
    assert (node.started.tier, node.started.node) == (tier, "88.111")
    assert node.started.to_text().startswith(f"{tier} node 88.111 serves at ")
    signed = ("--registry", node.started.registry, "--data", node.data, "--json")
    told(topnode("prefix", "allocate", "88.111", "--holder", "88.111", *signed))
    row = Row(identifier="88.111/A", values=[Value(index=1, type="NAME", data="a")])
    file = node.data.parent / "rows.ndjson"
    file.write_bytes(msgspec.json.encode(row) + b"\n")
    told(topnode("register", file, *signed))

    async with clients(node.fronts) as fronts:
        for client in fronts:
            about = await client.node_info()
            answer = await client.resolve("88.111/A")
            assert (about.node, about.tier, answer.outcome.name) == ("88.111", tier, "FOUND")
