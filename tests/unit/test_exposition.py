"""The metrics of several processes as one exposition."""

import subprocess
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nodes.serving.exposition import Merged, openmetrics, process_registry


def one_process(count: int) -> str:
    registry = CollectorRegistry()
    calls = Counter("topnode_calls_total", 'Calls, by "code".', ["code"], registry=registry)
    calls.labels("OK").inc(count)
    calls.labels('odd "one"\n').inc()
    Histogram("topnode_call_seconds", "Time.", registry=registry).observe(0.1)
    Gauge("topnode_held_bytes", "Held.", registry=registry).set(count)
    return openmetrics(registry).decode()


def merged() -> Merged:
    both = Merged()
    both.add(one_process(3), worker="worker-0")
    both.add(one_process(4), worker="worker-1")
    own = CollectorRegistry()
    Gauge("topnode_supervisor_children_up", "Up.", registry=own).set(2)
    both.add(openmetrics(own).decode())
    return both


@pytest.mark.parametrize(
    ("generate", "parse"), [(generate_latest, parse_text), (generate_openmetrics, parse_openmetrics)]
)
def test_samples_of_each_process_are_told_apart_by_the_label(
    generate: Callable[[Merged], bytes], parse: Callable[[str], Iterable[Metric]]
) -> None:
    families = {family.name: family for family in parse(generate(merged()).decode())}
    calls = {(s.labels["worker"], s.labels["code"]): s.value for s in families["topnode_calls"].samples}
    assert calls[("worker-0", "OK")] == 3
    assert calls[("worker-1", "OK")] == 4
    assert calls[("worker-1", 'odd "one"\n')] == 1
    assert {s.labels["worker"] for s in families["topnode_call_seconds"].samples} == {"worker-0", "worker-1"}
    (up,) = families["topnode_supervisor_children_up"].samples
    assert up.labels == {}
    assert up.value == 2


def test_each_family_is_described_once_and_the_birth_of_children_is_left_out() -> None:
    text = generate_latest(merged()).decode()
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == 4
    assert "_created" not in text


@pytest.mark.parametrize(
    "text", ["", "topnode_calls_total 1", "# TYPE topnode_calls gauge\ntopnode_calls 1\n# EOF\n"]
)
def test_what_does_not_fit_is_refused_whole(text: str) -> None:
    both = merged()
    before = generate_latest(both)
    with pytest.raises(ValueError, match=r"topnode_calls|EOF|empty|line|type"):
        both.add(text, worker="worker-2")
    assert generate_latest(both) == before


def test_a_process_tells_its_cpu_memory_and_files_under_our_name() -> None:
    parse: Callable[[str], Iterable[Metric]] = parse_openmetrics
    names = {family.name for family in parse(openmetrics(process_registry()).decode())}
    assert {
        "topnode_process_cpu_seconds",
        "topnode_process_resident_memory_bytes",
        "topnode_process_open_fds",
    } <= names


@pytest.mark.needs("promtool")
def test_prometheus_itself_takes_it() -> None:
    text = generate_latest(merged())
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
