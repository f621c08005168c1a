"""What the edge counts: plain numbers on the way of a request, read when Prometheus scrapes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GAUGES: Final = {
    "keyforge_edge_open_requests": "Requests open now.",
    "keyforge_edge_running_requests": "Requests that run now, from before their reserve to their settlement.",
    "keyforge_edge_outcomes_waiting": "Outcomes that are not stored in the log yet.",
    "keyforge_edge_directory_keys": "Keys in memory.",
    "keyforge_edge_directory_bytes": "What keys in memory and their last changes take.",
    "keyforge_edge_partitions_cut_off": "Partitions whose control feed is stale or cannot be read: they get no stream.",
}

PartitionLacks = Callable[[], Iterable[tuple[int, str, bool]]]
"""For each partition and each thing that it may lack, whether it lacks that."""


class Metrics:
    """Counts since the start. Labels are of bounded sets: routes, statuses, types of the catalogue."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.attempts: Counter[int] = Counter()
        self.unknown_keys = 0
        self.refusals_unrecorded = 0
        self.control_events_unread = 0
        self.directory_reads = 0
        self.open_requests = 0


class EdgeCollector(Collector):
    """Turns the counts into what Prometheus reads."""

    def __init__(self, metrics: Metrics, gauges: Mapping[str, Callable[[], int]], lacks: PartitionLacks) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._lacks = lacks

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        counts = self._metrics
        requests = CounterMetricFamily(
            "keyforge_edge_requests", "Requests answered, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in counts.requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        for name, text, label, counted in (
            ("refusals", "Requests refused before a provider was called, by type.", "type", counts.refusals),
            ("outcomes", "Admitted requests that ended, by outcome.", "outcome", counts.outcomes),
            ("attempts", "Physical calls of providers, by status (0: no answer).", "status", counts.attempts),
        ):
            family = CounterMetricFamily(f"keyforge_edge_{name}", text, labels=[label])
            for value, count in counted.items():
                family.add_metric([str(value)], count)
            yield family
        for name, text, value in (
            ("unknown_keys", "Requests whose key is missing or unknown.", counts.unknown_keys),
            ("refusals_unrecorded", "Refusals that are not in the log.", counts.refusals_unrecorded),
            ("directory_reads", "Keys read from the bucket: many, if memory is too small.", counts.directory_reads),
            ("control_events_unread", "Control events that this version cannot read.", counts.control_events_unread),
        ):
            yield CounterMetricFamily(f"keyforge_edge_{name}", text, value=value)
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(name, GAUGES[name], value=read())
        partitions = GaugeMetricFamily(
            "keyforge_edge_partition_unavailable",
            "1 for a partition whose tenants cannot be served, by what it lacks.",
            labels=["partition", "lacks"],
        )
        for partition, thing, lacking in self._lacks():
            partitions.add_metric([str(partition), thing], float(lacking))
        yield partitions


def registry(metrics: Metrics, gauges: Mapping[str, Callable[[], int]], lacks: PartitionLacks) -> CollectorRegistry:
    """Return a registry that holds these metrics."""
    found = CollectorRegistry()
    found.register(EdgeCollector(metrics, gauges, lacks))
    return found
