"""What keys tells its metrics: how its lanes and its projection fare."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyforge.keys.application.ports import CommandQueue, DirectoryWriter


class Metrics(Collector):
    """A registry that reads lanes and projection when it is asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._append_s = Histogram(
            "keyforge_keys_append_seconds",
            "Time until a frame was durable, retries included.",
            ["lane"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10),
            registry=self.registry,
        )
        self._lanes: Mapping[str, CommandQueue] = {}
        self._directory: DirectoryWriter | None = None

    def append_of(self, lane: str) -> Callable[[float], None]:
        """Return what counts the appends of a lane."""
        return self._append_s.labels(lane).observe

    def watch(self, lanes: Mapping[str, CommandQueue], directory: DirectoryWriter) -> None:
        """Begin to tell of these."""
        self._lanes, self._directory = lanes, directory
        self.registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        """Return what is so now."""
        waiting = GaugeMetricFamily("keyforge_keys_commands_waiting", "Commands without an answer.", labels=["lane"])
        folded = GaugeMetricFamily("keyforge_keys_folded_seq", "Last sequence of ctl that is known.", labels=["lane"])
        for name, lane in self._lanes.items():
            waiting.add_metric([name], lane.waiting)
            folded.add_metric([name], lane.folded)
        late = self._directory.lagging if self._directory is not None else 0
        shown = GaugeMetricFamily("keyforge_keys_entries_late", "Facts that the directory does not show yet.", late)
        return [waiting, folded, shown]
