"""Metrics of keys: how its command queues and the directory are doing."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyforge.keys.application.ports import CommandQueue, DirectoryWriter


class Metrics(Collector):
    """A registry that reads queues and directory when it is scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._append_s = Histogram(
            "keyforge_keys_append_seconds",
            "Time until a frame was durable, retries included.",
            ["queue"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10),
            registry=self.registry,
        )
        self._queues: Mapping[str, CommandQueue] = {}
        self._directory: DirectoryWriter | None = None

    def append_of(self, queue: str) -> Callable[[float], None]:
        """Return what observes the appends of a queue, in seconds."""
        return self._append_s.labels(queue).observe

    def watch(self, queues: Mapping[str, CommandQueue], directory: DirectoryWriter) -> None:
        """Begin to report on these."""
        self._queues, self._directory = queues, directory
        self.registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the present values."""
        waiting = GaugeMetricFamily("keyforge_keys_commands_waiting", "Commands without an outcome.", labels=["queue"])
        folded = GaugeMetricFamily(
            "keyforge_keys_folded_seq", "Last sequence of ctl that was folded.", labels=["queue"]
        )
        halted = GaugeMetricFamily(
            "keyforge_keys_fold_halted", "1 if a message cannot be read, so changes are refused.", labels=["queue"]
        )
        for name, queue in self._queues.items():
            waiting.add_metric([name], queue.waiting)
            folded.add_metric([name], queue.folded)
            halted.add_metric([name], queue.halted is not None)
        lagging = self._directory.lagging if self._directory is not None else 0
        entries = GaugeMetricFamily("keyforge_keys_entries_lagging", "Facts that the directory lacks so far.", lagging)
        return [waiting, folded, halted, entries]
