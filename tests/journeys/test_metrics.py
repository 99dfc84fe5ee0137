"""What Prometheus' own tool says of the metrics of a whole node."""

import subprocess
from collections.abc import Callable

import pytest

from tests.running_node import RunningNode


@pytest.mark.needs("promtool")
def test_promtool_accepts_the_metrics_of_a_node(top_node: Callable[..., RunningNode]) -> None:
    node = top_node(workers=2)
    node.resolve("88.111/NOBODY")
    status, exposed = node.get("/metrics")
    assert status == 200
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed, capture_output=True, check=False, text=True
    )
    assert checked.stderr == ""
    assert checked.returncode == 0
