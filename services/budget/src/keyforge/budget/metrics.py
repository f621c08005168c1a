"""What budget counts, in one registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters and gauges of one process; labels are few and bounded, never a key or a tenant."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"keyforge_budget_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"keyforge_budget_{name}", text, ("partition",), registry=self.registry)

        self.admitted = counter("admitted", "Requests admitted", "partition")
        self.refused = counter("refused", "Requests refused, by type", "partition", "type")
        self.dropped = counter("dropped", "Reserves dropped undecided, by reason", "partition", "reason")
        self.unsolicited_events = counter(
            "unsolicited_events", "Events recorded without a reserve: abandoned, overran", "partition", "type"
        )
        self.appends = counter("appends", "Appends, by outcome", "partition", "outcome")
        self.rejected_events = counter("rejected_events", "Events of the log that were rejected", "partition")
        self.append_s = Histogram(
            "keyforge_budget_append_seconds",
            "From sending a frame to its acknowledgement",
            ("partition",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.open = gauge("open_requests", "Requests that are open")
        self.owner = gauge("owner", "1 while this process owns the partition")
        self.position = gauge("position", "Last message folded")
        self.halted = gauge("halted", "1 if the partition's log holds what this version must not fold")
        self.skew_s = gauge("clock_skew_seconds", "Lower bound of how far our clock is ahead of the broker's")
