"""Commits the reserves of an owned partition: what waits is decided together, appended as one frame, then answered.

One conditional append is in flight at a time. Every frame is conditional on the last message of the control clock that
was folded, so the server refuses what was decided on a stale view or by a stale owner. An allow is answered only when
its admission is in the log; a refusal, which appends nothing, only while a recent append confirms that we are still
the owner.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from keyforge.budget.application.batch import ASKS_MAX, Batch, BatchBuilder
from keyforge.budget.application.batching import Batching
from keyforge.budget.application.leadership import Leadership
from keyforge.budget.application.pending import PendingQueue, PendingReserve, PendingReserves, refusal
from keyforge.budget.application.ports import Outbox
from keyforge.budget.application.replica import Replica
from keyforge.budget.core.admit import AlreadyAdmitted, Refused
from keyforge.budget.errors import Stopping
from keyforge.budget.metrics import Metrics
from keyforge.contracts import subjects
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.reserve import Answer, Reserve
from keyforge.eventlog.fence import append_known
from keyforge.eventlog.log import Appended, AppendUnknown, Busy, EventLog, Expect, Full, Stale, Unavailable
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

OVERDUE_S: Final = 0.5
"""How often overdue requests are looked for. Chosen: a twentieth of the grace, 10 s by default."""
SKEW_RECHECK_S: Final = 5.0
"""How often an owner that is not asked compares a skewed clock again. Chosen: each time costs a frame, 300 to 400 us
(docs/measured.md), so less than a ten-thousandth of a core."""
CATCH_UP_S: Final = 1.0
"""How long one wait for a known message takes at most. Chosen: half of what an edge waits for an answer."""
UNAVAILABLE_PAUSE_S: Final = 0.05
"""Pause before an append that reached no server is tried again. Chosen: 20 tries in CATCH_UP_S."""


class Committer:
    """Serves one leadership: `run` until it is deposed or stopped, then `give_way`."""

    def __init__(
        self,
        replica: Replica,
        leadership: Leadership,
        builder: BatchBuilder,
        log: EventLog,
        clock: Clock,
        metrics: Metrics,
        outbox: Outbox,
        batching: Batching,
        *,
        ask_age_s_max: float,
        asks_waiting_max: int,
    ) -> None:
        self.partition = replica.partition
        self.skewed = False
        self._full = False
        self._replica = replica
        self._leadership = leadership
        self._builder = builder
        self._eventlog = log
        self._clock = clock
        self._metrics = metrics
        self._outbox = outbox
        self._batching = batching
        self._admitted = metrics.admitted.labels(self.partition)
        self._append_s = metrics.append_s.labels(self.partition)
        self._appended = metrics.appends.labels(self.partition, "appended")
        self._adm = subjects.adm(self.partition)
        self._ask_age_s_max = ask_age_s_max
        self._overdue_at_s = 0.0
        self._queue = PendingQueue(asks_waiting_max)
        self._work = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._giving_way = False
        self._logger = logs.get("committer").bind(partition=self.partition)

    def offer(self, edge: EdgeId, asks: list[Reserve], reply_to: str) -> bool:
        """Queue a message of asks; False if too many wait already: they are refused, if we surely own the partition."""
        message = PendingReserves(edge, asks, reply_to, self._outbox, received_s=self._clock.monotonic())
        if self._stopping or not self._queue.add(message):
            self._metrics.dropped.labels(self.partition, "too_many").inc(len(asks))
            if self._giving_way or self._leadership.confirmed:
                self._turn_away(message.each())
            return False
        self._work.set()
        return True

    def stop(self) -> None:
        """Answer what was offered, then end `run`."""
        self._stopping = self._leadership.stopping = True
        self._work.set()

    async def run(self) -> None:
        """Decide, append, answer, until stopped with nothing to answer. Raises Deposed, Halted, Stopping."""
        while self._queue or not self._stopping:
            if not self._queue:
                await self._wait(self._overdue_at_s - self._clock.monotonic())
            await self._await_tick()
            self._leadership.check()
            await self._commit()
            self._outbox.flush()

    def give_way(self) -> None:
        """Let the edges of what still waits, and of what is still offered, ask the next owner."""
        self._stopping = self._giving_way = True
        self._turn_away(self._queue.drain())

    def _turn_away(self, pending: Iterable[PendingReserve]) -> None:
        """Refuse without a decision. What may be in the log gets no answer: its edge must give up and cancel."""
        for one in pending:
            if not self._replica.may_be_admitted(one.request_id):
                one.answer(Answer("refuse", "owner_unavailable", again=self._giving_way))
        self._outbox.flush()

    async def _wait(self, left_s: float) -> None:
        """Sleep until there is another ask, but not longer than `left_s`."""
        self._work.clear()
        if left_s > 0:
            timer = self._loop.call_later(left_s, self._work.set)
            try:
                await self._work.wait()
            finally:
                timer.cancel()

    async def _await_tick(self) -> None:
        """Wait for the next tick if the next frame has to."""
        due_s = self._batching.due_s()
        while self._queue and not self._stopping and (left_s := self._batching.left_s(len(self._queue), due_s)) > 0:
            await self._wait(left_s)

    async def _commit(self) -> None:
        """Make one frame of what waits, append it, and answer."""
        now, monotonic_s = self._clock.now(), self._clock.monotonic()
        pending, dropped = self._queue.take(ASKS_MAX, oldest_s=monotonic_s - self._ask_age_s_max)
        if dropped:
            self._metrics.dropped.labels(self.partition, "too_old").inc(dropped)
        self._batching.began(len(pending))
        self.skewed = self._replica.broker.skewed(now, monotonic_s)
        if self.skewed:
            await self._refuse_for_skew(pending)
            return
        batch = self._decide(pending, now)
        if batch.may_lag and await self._catch_up():
            self._builder.undo(batch)
            if self._leadership.deposed:
                self._queue.put_back(batch.pending)
                return
            batch = self._decide(batch.pending, now)  # not a later time: it was not compared with the broker's
        if monotonic_s >= self._overdue_at_s:
            self._overdue_at_s = monotonic_s + OVERDUE_S
            self._builder.add_overdue(batch, now)
        if batch.events or (batch.verdicts and not self._leadership.confirmed):
            await self._append(batch)
        else:
            self._answer(batch, 0)

    def _decide(self, pending: list[PendingReserve], now: datetime) -> Batch:
        batch, rest = self._builder.decide(pending, self._leadership.epoch, now)
        self._queue.put_back(rest)
        return batch

    async def _append(self, batch: Batch) -> None:
        """Append a batch and deal with every outcome. On return its asks are answered, or wait again."""
        expect = Expect(self._replica.ctl, self._replica.ledger.ctl_sequence)
        sent = self._replica.note_sent(self._adm, batch.body(), batch.events)
        try:
            outcome = await self._eventlog.append(self._adm, sent.body, expect=expect)
            if isinstance(outcome, Busy):
                self._count("busy")
                outcome = await append_known(self._eventlog, self._adm, sent.body, expect=expect)
                if isinstance(outcome, Stale):
                    await self._resolve_stale(batch, outcome.last or await self._replica.ctl_end())
                    return
        except AppendUnknown as unknown:
            self._count("unknown")
            self._logger.warning("append unknown", why=str(unknown), events=len(batch.events))
            await self._resolve_unknown(batch)
            return
        if isinstance(outcome, Appended):
            self._stored(batch, outcome.seq, sent.sent_s)
            return
        self._count(type(outcome).__name__.lower())
        self._replica.forget_sent(sent)
        self._builder.undo(batch)
        if isinstance(outcome, Full):
            self._note_full(outcome.reason)
            for one, verdict in batch.verdicts:
                if not isinstance(verdict, AlreadyAdmitted):  # that one is in the log: its edge must give up and cancel
                    one.answer(Answer("refuse", "log_full"))
            return
        self._queue.put_back(batch.pending)
        if isinstance(outcome, Stale):
            await self._replica.folded(outcome.last or await self._replica.ctl_end(), within_s=CATCH_UP_S)
        elif isinstance(outcome, Unavailable):
            await asyncio.sleep(UNAVAILABLE_PAUSE_S)

    def _stored(self, batch: Batch, sequence: int, sent_s: float) -> None:
        """Answer what the log has now. Raises Halted, and answers nobody, if the fold ended meanwhile."""
        self._replica.check()
        self._note_full("")
        self._appended.inc()
        self._append_s.observe(self._clock.monotonic() - sent_s)
        self._leadership.confirm(sent_s)
        self._builder.stored(batch, sequence)
        self._answer(batch, sequence)

    def _note_full(self, reason: str) -> None:
        """Log when the log becomes full, by the server's reason, and when it has room again: not at every attempt."""
        if bool(reason) == self._full:
            return
        self._full = bool(reason)
        stream = subjects.log_stream(self.partition)
        if reason:
            self._logger.error("the log is full", stream=stream, reason=reason)
        else:
            self._logger.info("the log has room again", stream=stream)

    async def _resolve_unknown(self, batch: Batch) -> None:
        """Find out about a frame whose acknowledgement never came: fence, fold up to the fence, look.

        What is in the log by then is admitted; what is not there never will be, and is decided again in the new epoch.
        If we are deposed instead, its asks stay without an answer: their edges give up and cancel.
        """
        await self._leadership.take(self._clock.now)
        self._answer_folded(batch)

    async def _resolve_stale(self, batch: Batch, tick: int) -> None:
        """Find out about a frame that was Busy and then Stale: fold up to the tick that ended its condition, look.

        Busy alone is no proof: while a leader is deposed, the old one answers so and the new one stores the frame.
        """
        while not await self._replica.folded(tick, within_s=CATCH_UP_S):
            if self._stopping:
                raise Stopping
        self._answer_folded(batch)

    def _answer_folded(self, batch: Batch) -> None:
        """Answer a batch that was folded if it is in the log at all; the rest is decided again."""
        self._builder.undo(batch)
        ledger = self._replica.ledger
        again: list[PendingReserve] = []
        for one, outcome in batch.verdicts:
            request = ledger.open.get(one.request_id) if isinstance(outcome, RequestAdmitted) else None
            if request is None:
                again.append(one)
            else:
                one.answer(Answer("allow", "", request.sequence, request.index))
        self._queue.put_back(again)

    async def _catch_up(self) -> bool:
        """Fold the ticks after those that were folded, which an edge read first; True if there were any."""
        before = self._replica.ledger.ctl_sequence
        end = await self._replica.ctl_end()
        if end > before:
            await self._replica.folded(end, within_s=CATCH_UP_S)
        self._replica.check()
        return self._replica.ledger.ctl_sequence > before

    async def _refuse_for_skew(self, pending: list[PendingReserve]) -> None:
        """Refuse while our clock and the broker's disagree, with an empty frame: its stamp shows if they still do."""
        skew_s = self._replica.broker.skew_s(self._clock.now(), self._clock.monotonic())
        self._logger.error("clock skew", skew_s=round(skew_s, 3))
        self._overdue_at_s = self._clock.monotonic() + SKEW_RECHECK_S
        batch = Batch()
        may_be_admitted = self._replica.may_be_admitted  # see `_turn_away`
        batch.verdicts = [(one, Refused("clock_skew")) for one in pending if not may_be_admitted(one.request_id)]
        await self._append(batch)

    def _answer(self, batch: Batch, sequence: int) -> None:
        """Answer all of a batch; its admissions are in message `sequence`, in their order."""
        indexes: dict[RequestId, int] = {}
        for one, outcome in batch.verdicts:
            if isinstance(outcome, RequestAdmitted):
                index = indexes[outcome.request_id] = len(indexes)
                one.answer(Answer("allow", "", sequence, index))
            elif isinstance(outcome, AlreadyAdmitted):
                here = indexes.get(outcome.request_id)
                position = (outcome.sequence, outcome.index) if here is None else (sequence, here)
                one.answer(Answer("allow", "", *position))
            else:
                self._metrics.refused.labels(self.partition, outcome.type).inc()
                one.answer(refusal(outcome, batch.seen))
        if indexes:
            self._admitted.inc(len(indexes))
        for recorded in batch.events[len(indexes) :]:
            self._metrics.unsolicited_events.labels(self.partition, recorded.event.TYPE).inc()

    def _count(self, outcome: str) -> None:
        self._metrics.appends.labels(self.partition, outcome).inc()
