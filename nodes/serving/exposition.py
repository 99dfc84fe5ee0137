"""One exposition of the metrics of several processes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

openmetrics: Final[Callable[[CollectorRegistry], bytes]] = generate_latest
"""Write a registry as OpenMetrics text."""


def process_registry() -> CollectorRegistry:
    """Make a registry that tells this process's CPU time, memory and open files."""
    registry = CollectorRegistry()
    ProcessCollector(namespace="topnode", registry=registry)
    return registry


_read: Final[Callable[[str], Iterable[Metric]]] = text_string_to_metric_families


class Merged:
    """The metrics of several processes, told apart by the label `worker`. Encoders take it as a registry.

    When a child of a metric was made (`_created`) is left out: it would nearly double the counters, and the start
    of each process is a metric of its own.
    """

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def add(self, text: str, *, worker: str = "") -> None:
        """Take the OpenMetrics text of one process; without a name its samples get no label. All of it or nothing.

        Raises:
            ValueError: it is no OpenMetrics text, or a metric has another type than in a process before.
        """
        families = list(_read(text))
        for family in families:
            held = self._families.get(family.name, family)
            if held.type != family.type:
                raise ValueError(f"{family.name} is a {family.type} here and a {held.type} elsewhere")
        for family in families:
            held = self._families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            held.samples.extend(_labelled(sample, worker) for sample in family.samples if not _is_created(sample))

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def _labelled(sample: Sample, worker: str) -> Sample:
    return sample._replace(labels={**sample.labels, "worker": worker}) if worker else sample


def _is_created(sample: Sample) -> bool:
    return sample.name.endswith("_created")
