"""What audit counts, for /metrics."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE: Final = "keyforge"
SUBSYSTEM: Final = "audit"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = _counter(registry, "events", "Events folded.")
        self.repeated = _counter(registry, "events_repeated", "Events that the log already told.")
        self.ignored = _counter(registry, "events_ignored", "Events that were not believed.")
        self.records = _counter(registry, "records", "Records stored.")
        self.requests = _counter(registry, "requests", "Ends of requests stored.")
        self.failures = _counter(registry, "insert_failures", "Tries to store a block that failed.")
        self.lag = _gauge(registry, "lag_messages", "Messages of a log that are not stored.", ("log",))
        self.lag_seconds = _gauge(registry, "lag_seconds", "How long the oldest row has waited to be stored.")
        self.waiting = _gauge(registry, "rows_waiting", "Rows that wait to be stored.")
        self.open = _gauge(registry, "requests_open", "Requests without a final end.", ("log",))
        self.published = _counter(registry, "records_published", "Records published to subscribers.")
        self.publish_failures = _counter(registry, "publish_failures", "Tries to publish that failed.")
        self.publish_failing = _gauge(
            registry, "publish_failing", "1 while the stream of subscribers takes nothing: alarm."
        )
        self.publish_waiting = _gauge(registry, "publish_waiting_bytes", "What waits in memory to be published.")
        self.inserts = Histogram(
            "insert_seconds",
            "From a block's first try until it was stored.",
            namespace=NAMESPACE,
            subsystem=SUBSYSTEM,
            registry=registry,
            buckets=_SECONDS,
        )


def _counter(registry: CollectorRegistry, name: str, what: str) -> Counter:
    return Counter(name, what, namespace=NAMESPACE, subsystem=SUBSYSTEM, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, what, labels, namespace=NAMESPACE, subsystem=SUBSYSTEM, registry=registry)
