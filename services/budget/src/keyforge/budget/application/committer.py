"""The append lane of an owned partition: what waits is decided together, appended as one frame, and answered after it.

One conditional append is in flight at a time. Every frame is conditional on the last message of the control clock that
was folded, so the server refuses what a stale view or a stale owner decided. No allow is told that is not in the log; a
refusal, which appends nothing, only while an append confirmed lately that we are still the owner.
"""

import asyncio
from collections import deque
from datetime import datetime
from typing import Final

from keyforge.budget.application.batch import ASKS_MAX, Draft, Drafter
from keyforge.budget.application.batching import Pace
from keyforge.budget.application.leadership import Tenure
from keyforge.budget.application.pending import Call, Waiting, refusal
from keyforge.budget.application.ports import Outbox
from keyforge.budget.application.replica import Follower
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

DUTIES_S: Final = 0.5
SKEW_LOOK_S: Final = 5.0
CATCH_UP_S: Final = 1.0
AWAY_PAUSE_S: Final = 0.05


class Lane:
    """Serves one tenure: `run` until it is deposed or stopped, then `close`."""

    def __init__(
        self,
        follower: Follower,
        tenure: Tenure,
        drafter: Drafter,
        log: EventLog,
        clock: Clock,
        metrics: Metrics,
        outbox: Outbox,
        pace: Pace,
        *,
        ask_age_s_max: float,
        asks_waiting_max: int,
    ) -> None:
        self.partition = follower.partition
        self.skewed = False
        self._follower = follower
        self._tenure = tenure
        self._drafter = drafter
        self._eventlog = log
        self._clock = clock
        self._metrics = metrics
        self._outbox = outbox
        self._pace = pace
        self._admitted = metrics.admitted.labels(self.partition)
        self._append_s = metrics.append_s.labels(self.partition)
        self._appended = metrics.appends.labels(self.partition, "appended")
        self._adm = subjects.adm(self.partition)
        self._ask_age_s_max = ask_age_s_max
        self._asks_waiting_max = asks_waiting_max
        self._duties_at_s = 0.0
        self._queue: deque[Waiting] = deque()
        self._work = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._logger = logs.get("lane").bind(partition=self.partition)

    def offer(self, edge: EdgeId, asks: list[Reserve], reply_to: str) -> bool:
        """Queue a message of asks; False if too many wait already: they are refused, if we surely own the partition."""
        call = Call(edge, asks, reply_to, self._outbox, received_s=self._clock.monotonic())
        if self._stopping or len(self._queue) + len(asks) > self._asks_waiting_max:
            self._metrics.dropped.labels(self.partition, "too_many").inc(len(asks))
            if self._tenure.confirmed:
                self.turn_away(call.each())
            return False
        self._queue.extend(call.each())
        self._work.set()
        return True

    def turn_away(self, asks: deque[Waiting] | list[Waiting]) -> None:
        """Refuse what nobody decides. What may stand in the log has no answer: its edge must give up and cancel."""
        for one in asks:
            if not self._follower.may_stand(one.request_id):
                one.answer(Answer("refuse", "owner_unavailable"))
        self._outbox.flush()

    def stop(self) -> None:
        """Finish what is in flight, then end `run`."""
        self._stopping = self._tenure.stopping = True
        self._work.set()

    async def run(self) -> None:
        """Decide, append, answer, for ever. Raises Deposed, Stopping; returns when stopped and nothing is in flight."""
        while not self._stopping:
            if not self._queue:
                await self._wait(self._duties_at_s - self._clock.monotonic())
            await self._keep_pace()
            self._tenure.check()
            await self._turn()
            self._outbox.flush()

    async def close(self) -> None:
        """Turn away what still waits."""
        self._stopping = True
        self.turn_away(self._queue)
        self._queue.clear()

    async def _wait(self, left_s: float) -> None:
        """Sleep until there is another ask, but not longer than `left_s`."""
        self._work.clear()
        if left_s > 0:
            timer = self._loop.call_later(left_s, self._work.set)
            try:
                await self._work.wait()
            finally:
                timer.cancel()

    async def _keep_pace(self) -> None:
        """Wait for the next tick if the next frame has to."""
        due_s = self._pace.due_s()
        while self._queue and not self._stopping and (left_s := self._pace.left_s(len(self._queue), due_s)) > 0:
            await self._wait(left_s)

    async def _turn(self) -> None:
        """Make one frame of what waits, and see it through."""
        now, monotonic_s = self._clock.now(), self._clock.monotonic()
        waiting = self._take(monotonic_s)
        self._pace.began(len(waiting))
        self.skewed = self._follower.broker.skewed(now, monotonic_s)
        if self.skewed:
            await self._refuse_for_skew(waiting)
            return
        draft = self._decide(waiting, now)
        if draft.behind and await self._catch_up():
            self._drafter.undo(draft)
            if self._tenure.deposed:
                self._put_back(draft.waiting)
                return
            draft = self._decide(draft.waiting, now)  # not a later one: it was not compared with the broker's
        if monotonic_s >= self._duties_at_s:
            self._duties_at_s = monotonic_s + DUTIES_S
            self._drafter.add_duties(draft, now)
        if draft.events or (draft.verdicts and not self._tenure.confirmed):
            await self._append(draft)
        else:
            self._answer(draft, 0)

    def _decide(self, waiting: list[Waiting], now: datetime) -> Draft:
        draft, rest = self._drafter.decide(waiting, self._tenure.epoch, now)
        self._put_back(rest)
        return draft

    async def _append(self, draft: Draft) -> None:
        """Append a draft and deal with every outcome. On return its asks are answered, or wait again."""
        expect = Expect(self._follower.ctl, self._follower.ledger.ctl_sequence)
        sent = self._follower.sending(self._adm, draft.body(), draft.events)
        try:
            outcome = await self._eventlog.append(self._adm, sent.body, expect=expect)
            if isinstance(outcome, Busy):
                self._count("busy")
                outcome = await append_known(self._eventlog, self._adm, sent.body, expect=expect)
                if isinstance(outcome, Stale):
                    await self._look(draft, outcome.last or await self._follower.ctl_end())
                    return
        except AppendUnknown as unknown:
            self._count("unknown")
            self._logger.warning("append unknown", why=str(unknown), events=len(draft.events))
            await self._resolve(draft)
            return
        if isinstance(outcome, Appended):
            self._stored(draft, outcome.seq, sent.sent_s)
            return
        self._count(type(outcome).__name__.lower())
        self._follower.not_stored(sent)
        self._drafter.undo(draft)
        if isinstance(outcome, Full):
            self._logger.error("the log is full", reason=outcome.reason)
            for one, verdict in draft.verdicts:
                if not isinstance(verdict, AlreadyAdmitted):  # that one is in the log: its edge must give up and cancel
                    one.answer(Answer("refuse", "log_full"))
            return
        self._put_back(draft.waiting)
        if isinstance(outcome, Stale):
            await self._follower.folded(outcome.last or await self._follower.ctl_end(), within_s=CATCH_UP_S)
        elif isinstance(outcome, Unavailable):
            await asyncio.sleep(AWAY_PAUSE_S)

    def _stored(self, draft: Draft, sequence: int, sent_s: float) -> None:
        self._appended.inc()
        self._append_s.observe(self._clock.monotonic() - sent_s)
        self._tenure.confirm(sent_s)
        self._drafter.stored(draft, sequence)
        self._answer(draft, sequence)

    async def _resolve(self, draft: Draft) -> None:
        """Make sure of a frame whose acknowledgement never came: fence, fold up to the fence, look.

        What is in the log by then is admitted; what is not there never will be, and is decided again in the new epoch.
        If we are deposed instead, its asks stay without an answer: their edges give up and cancel.
        """
        await self._tenure.take(self._clock.now)
        self._tell(draft)

    async def _look(self, draft: Draft, tick: int) -> None:
        """Make sure of a frame that was Busy and then Stale: fold up to the tick that ended its condition, look.

        Busy alone is no proof: while a leader is deposed, the old one says it and the new one stores the frame.
        """
        while not await self._follower.folded(tick, within_s=CATCH_UP_S):
            if self._stopping:
                raise Stopping
        self._tell(draft)

    def _tell(self, draft: Draft) -> None:
        """Tell what became of a draft that was folded if it is in the log at all; the rest is decided again."""
        self._drafter.undo(draft)
        ledger = self._follower.ledger
        again: list[Waiting] = []
        for one, outcome in draft.verdicts:
            request = ledger.open.get(one.request_id) if isinstance(outcome, RequestAdmitted) else None
            if request is None:
                again.append(one)
            else:
                one.answer(Answer("allow", "", request.sequence, request.index))
        self._put_back(again)

    def _take(self, monotonic_s: float) -> list[Waiting]:
        """Take what one frame can hold; what waited longer than its edge will is dropped without a word."""
        taken: list[Waiting] = []
        oldest_s = monotonic_s - self._ask_age_s_max
        queue, dropped = self._queue, 0
        while queue and len(taken) < ASKS_MAX:
            one = queue.popleft()
            if one.call.received_s < oldest_s:
                dropped += 1
            else:
                taken.append(one)
        if dropped:
            self._metrics.dropped.labels(self.partition, "too_old").inc(dropped)
        return taken

    def _put_back(self, waiting: list[Waiting]) -> None:
        self._queue.extendleft(reversed(waiting))

    async def _catch_up(self) -> bool:
        """Fold what the control clock has behind us, of which an edge heard first; True if there was something."""
        before = self._follower.ledger.ctl_sequence
        end = await self._follower.ctl_end()
        if end > before:
            await self._follower.folded(end, within_s=CATCH_UP_S)
        return self._follower.ledger.ctl_sequence > before

    async def _refuse_for_skew(self, waiting: list[Waiting]) -> None:
        """Our clock and the broker's disagree: say so, with an empty frame whose stamp shows whether they still do."""
        skew_s = self._follower.broker.skew_s(self._clock.now(), self._clock.monotonic())
        self._logger.error("clock skew", skew_s=round(skew_s, 3))
        self._duties_at_s = self._clock.monotonic() + SKEW_LOOK_S
        draft = Draft()
        may_stand = self._follower.may_stand  # see `turn_away`
        draft.verdicts = [(one, Refused("clock_skew")) for one in waiting if not may_stand(one.request_id)]
        await self._append(draft)

    def _answer(self, draft: Draft, sequence: int) -> None:
        """Answer all of a draft; its admissions are in message `sequence`, in their order."""
        indexes: dict[RequestId, int] = {}
        for one, outcome in draft.verdicts:
            if isinstance(outcome, RequestAdmitted):
                index = indexes[outcome.request_id] = len(indexes)
                one.answer(Answer("allow", "", sequence, index))
            elif isinstance(outcome, AlreadyAdmitted):
                here = indexes.get(outcome.request_id)
                where = (outcome.sequence, outcome.index) if here is None else (sequence, here)
                one.answer(Answer("allow", "", *where))
            else:
                self._metrics.refused.labels(self.partition, outcome.type).inc()
                one.answer(refusal(outcome, draft.seen))
        if indexes:
            self._admitted.inc(len(indexes))
        for recorded in draft.events[len(indexes) :]:
            self._metrics.said.labels(self.partition, recorded.event.TYPE).inc()

    def _count(self, outcome: str) -> None:
        self._metrics.appends.labels(self.partition, outcome).inc()
