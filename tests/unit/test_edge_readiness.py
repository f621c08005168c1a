"""What makes an edge unready, and what a partition lacks without any edge being unready."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from keyforge.contracts.errors import Problem, problem
from keyforge.edge.application.readiness import CUT_OFF_S_MAX, START_S_MAX, Readiness
from keyforge.edge.metrics import Metrics, registry
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import Outcomes

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
PARTITIONS: Final = 3
ALL: Final = frozenset(range(PARTITIONS))


@dataclass
class Log(Outcomes):
    """An outcome log that some partitions do not accept."""

    refused: frozenset[int] = frozenset()

    def unavailable(self, partition: int) -> Problem | None:
        return problem("log_unavailable") if partition in self.refused else None


@dataclass
class Edge:
    """The readiness of an edge whose partitions lack what is given here."""

    stale: frozenset[int] = frozenset()
    unowned: frozenset[int] = frozenset()
    unwritable: frozenset[int] = frozenset()
    unreadable_feed: bool = False
    connected: bool = True
    clock: SetClock = field(default_factory=lambda: SetClock(NOW))

    def __post_init__(self) -> None:
        edge = self

        class Feed:
            def stale(self, partition: int) -> bool:
                return partition in edge.stale

            def unreadable(self) -> bool:
                return edge.unreadable_feed

        log = Log()
        log.refused = self.unwritable
        self.readiness = Readiness(
            PARTITIONS,
            {"bus": lambda: self.connected, "platform": lambda: True},
            Feed(),
            lambda partition: partition not in self.unowned,
            log,
            self.clock.monotonic,
        )

    def failed(self) -> list[str]:
        return [name for name, passed in self.readiness.checks().items() if not passed]

    def started(self) -> "Edge":
        """Return it once it has seen each partition, or has waited long enough."""
        self.clock.set(NOW + timedelta(seconds=START_S_MAX))
        return self


@pytest.mark.parametrize(
    ("edge", "failed", "lacks"),
    [
        pytest.param(Edge(), [], {}, id="nothing"),
        pytest.param(Edge(stale=frozenset({1})), [], {"1": ["control_feed"]}, id="one partition cut off"),
        pytest.param(Edge(unowned=ALL), [], {each: ["owner"] for each in "012"}, id="no partition owned"),
        pytest.param(Edge(unwritable=frozenset({2})), [], {"2": ["log"]}, id="one log full"),
        pytest.param(
            Edge(stale=frozenset({0}), unowned=frozenset({0}), unwritable=frozenset({0})),
            [],
            {"0": ["control_feed", "owner", "log"]},
            id="all of one",
        ),
        pytest.param(Edge(stale=ALL), [], {each: ["control_feed"] for each in "012"}, id="no log has a leader"),
        pytest.param(Edge(unreadable_feed=True), ["control_feed"], {}, id="a newer writer"),
        pytest.param(Edge(connected=False), ["bus"], {}, id="not connected"),
    ],
)
def test_what_is_an_edges_own(edge: Edge, failed: list[str], lacks: dict[str, list[str]]) -> None:
    assert edge.started().failed() == failed
    assert edge.readiness.details() == ({"partitions_unavailable": lacks} if lacks else {})
    found = {(str(partition), thing) for partition, thing, lacking in edge.readiness.lacks() if lacking}
    assert found == {(partition, thing) for partition, things in lacks.items() for thing in things}


def test_an_edge_that_starts_waits_for_each_partition_but_not_for_ever() -> None:
    edge = Edge(stale=ALL)
    assert edge.failed() == ["started"]
    edge.stale, edge.unowned = frozenset(), frozenset({1})
    assert edge.failed() == ["started"]
    edge.unowned = frozenset()
    assert edge.failed() == []
    edge.unowned = ALL
    assert edge.failed() == [], "it has started"
    assert Edge(unowned=frozenset({1})).started().failed() == []


def test_an_edge_that_is_cut_off_from_all_for_longer_than_an_election_takes_is_unready() -> None:
    edge = Edge().started()

    def failed(after_s: float, stale: frozenset[int]) -> list[str]:
        edge.clock.set(NOW + timedelta(seconds=START_S_MAX + after_s))
        edge.stale = stale
        return edge.failed()

    assert failed(0, ALL) == []
    assert failed(CUT_OFF_S_MAX - 1, ALL) == []
    assert failed(CUT_OFF_S_MAX, ALL - {0}) == []
    assert failed(CUT_OFF_S_MAX + 1, ALL) == [], "it counts from its second beginning"
    assert failed(2 * CUT_OFF_S_MAX, ALL) == []
    assert failed(2 * CUT_OFF_S_MAX + 1, ALL) == ["control_feed"]
    assert failed(2 * CUT_OFF_S_MAX + 2, ALL - {0}) == []


def test_each_partition_is_a_metric() -> None:
    edge = Edge(stale=frozenset({1}))
    found = registry(Metrics(), {}, edge.readiness.lacks)
    name = "keyforge_edge_partition_unavailable"
    values = {
        (partition, lacks): found.get_sample_value(name, {"partition": str(partition), "lacks": lacks})
        for partition in range(PARTITIONS)
        for lacks in ("control_feed", "owner", "log")
    }
    assert {where for where, value in values.items() if value} == {(1, "control_feed")}
    assert None not in values.values()
