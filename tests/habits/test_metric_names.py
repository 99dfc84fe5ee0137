"""Metrics are named alike: topnode_, a counter's _total, a unit; labels have few values.

The source is read, not run: so a metric counts wherever it is made, and under whatever condition.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.habits.tree import CODE, FLOORS, ROOT, parsed, planted

KINDS: Final = {"Counter", "Gauge", "Histogram", "Summary", "Enum", "Info"}
UNITS: Final = ("_seconds", "_bytes", "_identifiers", "_ratio")
"""What a distribution is of: base units and things counted (prometheus.io, "Metric and label naming")."""

MEASURED: Final = re.compile(r"time|age|lag|latency|delay|duration|uptime|size|memory")
"""Words for a quantity that has a unit, which a gauge must name."""

OTHER_UNITS: Final = re.compile(
    r"_(ms|us|ns|milliseconds|microseconds|minutes|hours|kb|mb|gb|kib|mib|gib|percent)(_|$)"
)
MANY_VALUED: Final = {"identifier", "handle", "prefix", "suffix", "address", "peer", "caller", "asker", "key"}


class Metric(NamedTuple):
    """One metric as the source makes it; what an f-string fills in is written as "x"."""

    place: str
    kind: str
    is_family: bool
    name: str
    labels: tuple[str, ...]


def metrics(tree: Path, *folders: str) -> Iterator[Metric]:
    """Find every call of a class of prometheus_client that makes a metric."""
    for file, module in parsed(tree, *folders):
        known = _imported(module)
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and (made := _kind(node.func, known)):
                kind, _, family = made.partition("MetricFamily")
                is_family = made != kind or bool(family)
                yield Metric(f"{file}:{node.lineno}", kind, is_family, _name(node), _labels(node))


def _imported(module: ast.Module) -> set[str]:
    """Name what stands for a metric class in this module (a Counter may be that of collections)."""
    return {
        alias.asname or alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
        for alias in node.names
    }


def _kind(called: ast.expr, known: set[str]) -> str:
    name = called.id if isinstance(called, ast.Name) and called.id in known else ""
    if isinstance(called, ast.Attribute) and "prometheus_client" in ast.unparse(called.value):
        name = called.attr
    return name if name.removesuffix("MetricFamily") in KINDS else ""


def _argument(call: ast.Call, position: int, *keywords: str) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg in keywords]
    return named[0] if named else call.args[position] if len(call.args) > position else None


def _name(call: ast.Call) -> str:
    given = _argument(call, 0, "name")
    if isinstance(given, ast.JoinedStr):
        return "".join(_text(part) or "x" for part in given.values)
    return _text(given)


def _labels(call: ast.Call) -> tuple[str, ...]:
    # A family takes its value before its labels, so there labels are always named.
    given = _argument(call, 2, "labelnames", "labels")
    if isinstance(given, ast.List | ast.Tuple):
        return tuple(_text(each) for each in given.elts)
    return ()


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def breaches(metric: Metric) -> Iterator[str]:
    """Say what is wrong with the name of a metric."""
    if not re.fullmatch(r"topnode_[a-z0-9_]+", metric.name):
        yield "the name is not topnode_ and lower case"
    if OTHER_UNITS.search(metric.name):
        yield "the unit is not seconds, bytes or a ratio"
    if metric.kind == "Counter" and not metric.is_family and not metric.name.endswith("_total"):
        yield "a counter does not end with _total"
    if metric.kind != "Counter" and metric.name.endswith("_total"):
        yield "only counters end with _total"
    if metric.kind in {"Histogram", "Summary"} and not metric.name.endswith(UNITS):
        yield "a distribution does not end with its unit"
    if metric.kind == "Gauge" and MEASURED.search(metric.name) and not metric.name.endswith(UNITS):
        yield "a gauge does not end with its unit"
    if many := MANY_VALUED & set(metric.labels):
        yield f"the label {many.pop()} has too many values"


def told(tree: Path, *folders: str) -> list[str]:
    return [
        f"{metric.place} {metric.name}: {wrong}" for metric in metrics(tree, *folders) for wrong in breaches(metric)
    ]


def test_metrics_are_named_alike() -> None:
    wrong = told(ROOT, *FLOORS)
    assert not wrong, "\n".join(wrong)


def test_metrics_are_found_at_all() -> None:
    found = {metric.name for metric in metrics(ROOT, *FLOORS)}
    assert len(found) >= 5
    assert all(name.startswith("topnode_") for name in found)


def test_no_metric_stands_outside_the_floors() -> None:
    outside = set(CODE) - set(FLOORS)
    assert list(metrics(ROOT, *outside)) == []


@pytest.mark.parametrize(
    "made",
    [
        "Counter('requests_total', 'x', registry=r)",
        "Counter('topnode_requests', 'x', registry=r)",
        "Counter(name='topnode_requests', documentation='x', registry=r)",
        "Counter('topnode_Requests_total', 'x', registry=r)",
        "Counter('topnode_waiting_ms_total', 'x', registry=r)",
        "Counter('topnode_requests_total', 'x', ['prefix'], registry=r)",
        "Counter('topnode_requests_total', 'x', labelnames=('method', 'address'), registry=r)",
        "Gauge('topnode_entries_total', 'x', registry=r)",
        "Gauge('topnode_feed_lag', 'x', registry=r)",
        "Histogram('topnode_calls', 'x', registry=r)",
        "Histogram(f'topnode_{a}_milliseconds', 'x', registry=r)",
        "Histogram(name, 'x', registry=r)",
        "GaugeMetricFamily('entries', 'x')",
        "HistogramMetricFamily('topnode_calls', 'x', labels=('identifier',))",
        "prometheus_client.Counter('topnode_requests', 'x')",
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, made: str) -> None:
    imports = (
        "import prometheus_client\nfrom prometheus_client import Counter, Gauge, Histogram\n"
        "from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily\n"
    )
    assert told(planted(tmp_path, f"{imports}\nx = {made}\n"), "resolver")


def test_a_counter_of_the_standard_library_is_none(tmp_path: Path) -> None:
    text = "import collections\nfrom collections import Counter\nx = Counter('abc'), collections.Counter('a')\n"
    assert list(metrics(planted(tmp_path, text), "resolver")) == []
