"""What is counted about the node above."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from registry.plans import Outcome

BECAME: Final = ("registered", "replaced", "unchanged", "deleted", "done", "owed", "refused")
BEATS: Final = ("heard", "failed")


class UpwardMetrics:
    """Counters and gauges; all children are there from the first scrape on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        rows = Counter(
            "topnode_upward_rows_total",
            "Identifiers pushed to the node above, by what became of them there.",
            ["outcome"],
            registry=registry,
        )
        self.rows = {name: rows.labels(name) for name in BECAME}
        self.outcomes = {outcome: self.rows[outcome.name.lower()] for outcome in Outcome}
        routes = Counter(
            "topnode_upward_routes_total",
            "Rows of prefixes compared with the node above, by what came of it.",
            ["outcome"],
            registry=registry,
        )
        self.routes = {name: routes.labels(name) for name in ("unchanged", "pushed", "refused")}
        self.repeated = Counter(
            "topnode_upward_repeated_answers_total",
            "Requests that the node above had taken already, and answered as it did then.",
            registry=registry,
        )
        self.failures = Counter(
            "topnode_upward_failures_total",
            "Times that dealings with the node above were broken off, to be taken up again.",
            registry=registry,
        )
        beats = Counter(
            "topnode_upward_heartbeats_total",
            "Signs of life given to the node above, by whether they were heard.",
            ["outcome"],
            registry=registry,
        )
        self.heartbeats = {name: beats.labels(name) for name in BEATS}
        self.dropped = Counter(
            "topnode_upward_refusals_dropped_total",
            "Refused rows that could not be noted in the file of refused rows.",
            registry=registry,
        )
        self.behind = Gauge(
            "topnode_upward_behind_entries", "Entries that the node above has not been told of.", registry=registry
        )
        self.owed = Gauge(
            "topnode_upward_owed_prefixes",
            "Prefixes below which everything is still to be pushed: the node above does not take it yet.",
            registry=registry,
        )
        self.running = Gauge(
            "topnode_upward_running",
            "1: this process deals with the node above; 0: it ended by a mistake, which the log shows.",
            registry=registry,
        )
        self.enabled = Gauge(
            "topnode_upward_enabled",
            "1: the node above has enabled this one; 0: not known to.",
            registry=registry,
        )
        self.clock_offset = Gauge(
            "topnode_upward_clock_offset_seconds",
            "By how much the clock of the node above is ahead, as far as it had to tell: 0 while both agree.",
            registry=registry,
        )
