"""Processes of a node: they run the same packages as their supervisor."""

from pathlib import Path

import nodes
from nodes.serving.post import ROOT


def test_another_interpreter_finds_these_packages() -> None:
    """Else a node that runs out of a folder would have resolvers of whatever is installed."""
    assert Path(nodes.__file__).samefile(ROOT / "nodes" / "__init__.py")
