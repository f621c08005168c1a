"""The metrics of audit."""

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
        self.repeated = _counter(registry, "events_repeated", "Second copies of events.")
        self.rejected = _counter(
            registry,
            "events_rejected",
            "Events that were rejected: unreadable, of an unknown tenant, key or request, or of another writer.",
        )
        self.records = _counter(registry, "records", "Records stored.")
        self.requests = _counter(registry, "requests", "Ends of requests stored.")
        self.failures = _counter(registry, "insert_failures", "Attempts to store a block that failed.")
        self.lag = _gauge(registry, "lag_messages", "Messages of a log that are not stored yet.", ("log",))
        self.unreadable = _gauge(
            registry,
            "log_unreadable",
            "1 while a log waits at a message that this version of the service cannot read; alert on it.",
            ("log",),
        )
        self.halted = _gauge(
            registry,
            "log_halted",
            "1 while a log is halted: it is shorter than what is stored of it, or another one; alert on it.",
            ("log",),
        )
        self.disagreeing = _gauge(
            registry,
            "chains_disagreeing",
            "Chains that are stored differently than their log has them; alert on it.",
            ("log",),
        )
        self.lag_seconds = _gauge(
            registry, "lag_seconds", "Age, by the broker's time, of the oldest message that is not stored."
        )
        self.waiting = _gauge(registry, "rows_waiting", "Rows that wait to be stored.")
        self.open = _gauge(registry, "requests_open", "Requests without a final end.", ("log",))
        self._of_subscribers(registry)
        self.inserts = Histogram(
            "insert_seconds",
            "From the first attempt to store a block until it was stored.",
            namespace=NAMESPACE,
            subsystem=SUBSYSTEM,
            registry=registry,
            buckets=_SECONDS,
        )

    def _of_subscribers(self, registry: CollectorRegistry) -> None:
        self.published = _counter(registry, "records_published", "Records published to subscribers.")
        self.withheld = _counter(
            registry,
            "records_withheld",
            "Records not published, as they are not stored as they were sealed, or not found; alert on it.",
        )
        self.publish_failures = _counter(registry, "publish_failures", "Attempts to publish that failed.")
        self.publish_failing = _gauge(
            registry, "publish_failing", "1 while nothing can be published to subscribers; alert on it."
        )
        self.publish_waiting = _gauge(registry, "publish_waiting_bytes", "Bytes in memory that wait to be published.")
        self.stream_bytes = _gauge(registry, "stream_bytes", "Bytes that the subscribers' stream holds.")
        self.stream_oldest = _gauge(
            registry,
            "stream_oldest_timestamp_seconds",
            "Broker time of the oldest message of the subscribers' stream, in seconds since 1970; 0 if it is empty.",
        )


def _counter(registry: CollectorRegistry, name: str, what: str) -> Counter:
    return Counter(name, what, namespace=NAMESPACE, subsystem=SUBSYSTEM, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, what, labels, namespace=NAMESPACE, subsystem=SUBSYSTEM, registry=registry)
