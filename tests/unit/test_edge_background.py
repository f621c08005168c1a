"""How an edge ends: with what it owes the log stored, or with an error that says how much is not."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from keyforge.contracts import subjects
from keyforge.contracts.events import RequestCancelled
from keyforge.contracts.ids import EdgeId, KeyId, RequestId, TenantId
from keyforge.edge.app import Service
from keyforge.edge.application import background as module
from keyforge.edge.application.background import Background
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.outcome_log import FramedOutcomeLog
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SystemClock
from keyforge.runtime.serve import StopFailedError
from tests.unit.edge_twins import KEY

EDGE, NOW = EdgeId("edge-0"), datetime(2030, 1, 1, tzinfo=UTC)


class NoBus:
    """The log is in memory: nothing is connected."""

    async def close(self) -> None:
        """Nothing to close."""


class Edge:
    """A service over a log in memory, without routes and feeds."""

    def __init__(self) -> None:
        self.log = MemoryLog.of_partitions(1)
        self.outcomes = FramedOutcomeLog(self.log, EDGE, lambda: NOW, PendingOutcomes())
        self.running = RunningRequests()
        background = Background(
            self.running, RefusalCounter(EDGE), self.outcomes, SystemClock(), Metrics(), stall_s=60.0
        )
        self.service = Service(None, background, self.running, [], NoBus())  # type: ignore[arg-type]

    def owes(self, name: str) -> None:
        self.outcomes.append(
            0,
            RequestCancelled(
                request_id=RequestId(name), tenant=TenantId("t"), key_id=KeyId("k"), edge=EDGE, reason="x", deadline=NOW
            ),
        )


async def test_an_edge_that_ends_stores_what_it_owes() -> None:
    edge = Edge()
    edge.owes("a")
    await edge.service.stop()
    assert await edge.log.end(subjects.log_stream(0)) == 1


async def test_an_edge_that_ends_while_the_log_hangs_counts_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S_MAX", 0.1)
    edge = Edge()
    edge.log.pause()
    edge.owes("a")
    edge.owes("b")
    with capture_logs() as lines, pytest.raises(StopFailedError, match="2 were not stored"):
        await edge.service.stop()
    assert [(line["event"], line["count"]) for line in lines] == [("outcomes were not stored", 2)]


async def test_a_request_that_still_runs_is_one_whose_outcome_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S_MAX", 0.1)
    edge = Edge()
    with edge.running.entered(KEY), pytest.raises(StopFailedError, match="1 were not stored"):
        await edge.service.stop()
