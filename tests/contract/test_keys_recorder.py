"""The library's own conformance cases for recorders, run on ours with a log behind it.

The cases insert made-up topics and states. The log takes real events only, so each is worn as one: an update of a
tenant whose name carries topic and state; the ids are the tenants'. An insertion is what a queue does: staged, appended
as one frame under the condition, committed when the fold meets it; the case's thread waits for that. Left out is
`subscribe`, since a subscription is a reading of the log.
"""

import asyncio
import json
import sys
import threading
import types
import unittest
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
)

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import TenantUpdated
from keyforge.contracts.frame import FRAME_EVENTS_MAX, Recorded
from keyforge.contracts.ids import TenantId, TokenId
from keyforge.eventlog.log import Appended, EventLog, Expect, Message, Stale
from keyforge.eventlog.memory import MemoryLog
from keyforge.keys.outbound.follower import Follower
from keyforge.keys.outbound.recorder import LogRecorder
from keyforge.testkit.encrypted_names import decrypted, encrypted
from keyforge.testkit.nats_client import NatsServer, partition_log

cipher = types.ModuleType("eventsourcing.cipher")
cipher.AESCipher = object  # type: ignore[attr-defined]  # the library's cases import it; those run here do not use it
sys.modules.setdefault("eventsourcing.cipher", cipher)  # the real one wants a package that nothing else needs
import eventsourcing.tests.persistence as library  # noqa: E402  # behind what it imports

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WITHIN_S = 60

T = TypeVar("T")


class Loop:
    """An event loop on a thread of its own: the cases are synchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(WITHIN_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WITHIN_S)
        self.loop.close()


def worn(event: StoredEvent) -> StoredEvent:
    """Dress a made-up event as a real one."""
    tenant = TenantId(str(event.originator_id))
    real = TenantUpdated(
        tenant=tenant,
        name=encrypted(json.dumps([event.topic, event.state.decode()])),
        plan="default",
        status="active",
        limits=(),
        revision=event.originator_version,
        secret_version=1,
        by=TokenId("x"),
    )
    id_ = f"tenant:{tenant}.{event.originator_version}"
    return StoredEvent(
        originator_id=f"tenant:{tenant}",
        originator_version=event.originator_version,
        topic=real.TYPE,
        state=frame.encode_one(Recorded(id_, "keys", NOW, real)),
    )


def bare(event: StoredEvent) -> StoredEvent:
    """Undress it."""
    (recorded,) = frame.decode(frame.join([event.state]), subjects.ctl(0))
    assert isinstance(recorded, Recorded)
    assert isinstance(recorded.event, TenantUpdated)
    topic, state = json.loads(decrypted(recorded.event.name))
    return StoredEvent(
        originator_id=UUID(recorded.event.tenant),
        originator_version=event.originator_version,
        topic=topic,
        state=state.encode(),
    )


class OnTheLog(ApplicationRecorder):
    """Our recorder with the log behind it: what is staged is appended before `insert_events` returns."""

    def __init__(self, loop: Loop, log: EventLog, partition: int) -> None:
        self._loop = loop
        self._log = log
        self._subject = subjects.ctl(partition)
        self._follower = Follower(log, subjects.log_stream(partition), self._subject, on_foreign=lambda _: None)
        self._recorder = cast("LogRecorder", self._follower.facts.recorder)
        self._lock = threading.Lock()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        if not stored_events:
            return []
        assert len(stored_events) <= FRAME_EVENTS_MAX
        with self._lock:
            ids = self._recorder.insert_events([worn(event) for event in stored_events], **kwargs)
            self._loop.run(self._append())
        return list(ids)

    async def _append(self) -> None:
        data = frame.join([event.state for event in self._recorder.staged])
        with self._follower.expecting(data) as inflight:
            expect = Expect(self._subject, inflight.after)
            outcome = await self._log.append(self._subject, data, expect=expect)
            if isinstance(outcome, Stale):
                self._recorder.rollback()
                raise IntegrityError("somebody else was first")
            assert isinstance(outcome, Appended)
            self._follower.fold(Message(outcome.seq, self._subject, NOW, data))

    def select_events(self, originator_id: UUID | str, **kwargs: Any) -> Sequence[StoredEvent]:
        return [bare(event) for event in self._recorder.select_events(f"tenant:{originator_id}", **kwargs)]

    def select_notifications(
        self, start: int | None, limit: int, stop: int | None = None, topics: Sequence[str] = (), **kwargs: Any
    ) -> Sequence[Notification]:
        """Topics are the worn ones' here: they are filtered behind ours."""
        found = self._recorder.select_notifications(start, 1_000_000 if topics else limit, stop, **kwargs)
        stripped = [Notification(id=one.id, **vars(bare(one))) for one in found]
        return [one for one in stripped if not topics or one.topic in topics][:limit]

    def max_notification_id(self) -> int | None:
        return self._recorder.max_notification_id()

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return self._recorder.subscribe(gt, topics)


class AggregatesOnTheLog(OnTheLog):
    """As an aggregate recorder, which returns no ids."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture(params=["memory", "node"])
def recorders(request: pytest.FixtureRequest, loop: Loop, partition: int) -> Iterator[Any]:
    """A function that makes a recorder of a class on a log of its own."""
    if request.param == "memory":
        yield lambda kind: kind(loop, _memory(partition), partition)
        return
    server: NatsServer = request.getfixturevalue("nats_node")
    opened = partition_log(server, partition)
    log = loop.run(opened.__aenter__())
    yield lambda kind: kind(loop, log, partition)
    loop.run(opened.__aexit__(None, None, None))


def _memory(partition: int) -> MemoryLog:
    log = MemoryLog()
    log.declare(subjects.log_stream(partition), [subjects.log_all(partition)])
    return log


def run_case(case: unittest.TestCase) -> None:
    """Run one of the library's cases; fail with what it says."""
    result = unittest.TestResult()
    case.run(result)
    problems = [text for _, text in (*result.failures, *result.errors)]
    assert not problems, problems[0]
    assert result.testsRun == 1


class _Ids:
    INITIAL_VERSION = 1

    def new_originator_id(self) -> UUID:
        return UUID(bytes=next(_numbers).to_bytes(16, "big"))


_numbers = iter(range(1, 1_000_000))


@pytest.mark.parametrize("name", ["test_insert_and_select", "test_performance"])
def test_it_is_an_aggregate_recorder(recorders: Any, name: str) -> None:
    class Case(_Ids, library.AggregateRecorderTestCase):
        def create_recorder(self) -> AggregateRecorder:
            recorder: AggregateRecorder = recorders(AggregatesOnTheLog)
            return recorder

    run_case(Case(name))


@pytest.mark.parametrize(
    "name", ["test_insert_select", "test_performance", "test_concurrent_no_conflicts", "test_concurrent_throughput"]
)
def test_it_is_an_application_recorder(recorders: Any, name: str) -> None:
    class Case(_Ids, library.ApplicationRecorderTestCase[ApplicationRecorder]):
        def create_recorder(self) -> ApplicationRecorder:
            recorder: ApplicationRecorder = recorders(OnTheLog)
            return recorder

    run_case(Case(name))


def test_its_notifications_do_not_interleave(recorders: Any) -> None:
    class Case(_Ids, library.NonInterleavingNotificationIDsBaseCase):
        insert_num = FRAME_EVENTS_MAX

        def create_recorder(self) -> ApplicationRecorder:
            recorder: ApplicationRecorder = recorders(OnTheLog)
            return recorder

    run_case(Case("test"))
