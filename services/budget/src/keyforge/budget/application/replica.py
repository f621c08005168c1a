"""Follows one partition's log and folds it: the same in an owner and in a standby."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, NoReturn

import msgspec

from keyforge.budget.core.broker_clock import BrokerClock
from keyforge.budget.core.fold import Halt, fold
from keyforge.budget.core.holds import Holds
from keyforge.budget.core.ledger import Ledger
from keyforge.budget.errors import FoldFailed, Halted
from keyforge.budget.metrics import Metrics
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import FrameError, Recorded, Unread
from keyforge.contracts.ids import RequestId
from keyforge.eventlog.log import EventLog, EventLogError, LogMissing, LogShrunk, Message
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

TURN_S_MAX: Final = 0.005
"""How long folding may keep the event loop before it lets others run. Chosen: half a tick of the committers."""
SENT_MAX: Final = 1000
"""Frames of our own that are yet to be read back; beyond it the oldest are decoded like those of others. Chosen: one is
in flight at a time and begins at a tick of 10 ms under load, so these are ten seconds of frames."""
BACKOFF: Final = Backoff(0.2, 0.2)
"""Pause before a log that is not there is looked for again. Chosen: a twenty-fifth of the 5 s that edges wait for an
owner."""


class SentFrame(msgspec.Struct, frozen=True, eq=False):
    """A frame that we are about to append: its subject, bytes and events, and when (monotonic seconds)."""

    subject: str
    body: bytes
    events: list[Recorded]
    sent_s: float


class Replica:
    """The folded state of one partition, what is held beside it, and what waits for a message to be folded."""

    def __init__(self, partition: int, log: EventLog, clock: Clock, metrics: Metrics) -> None:
        self.partition = partition
        self.stream = subjects.log_stream(partition)
        self.ctl = subjects.ctl(partition)
        self.ledger = Ledger(partition)
        self.holds = Holds()
        self.broker = BrokerClock()
        self.caught_up = False
        self.halted: Halt | None = None
        self._eventlog = log
        self._clock = clock
        self._sent: deque[SentFrame] = deque(maxlen=SENT_MAX)
        self._waiters: list[asyncio.Future[None]] = []
        self._rejected = metrics.rejected_events.labels(partition)
        self._logger = logs.get("replica").bind(partition=partition)

    async def run(self) -> None:
        """Fold until cancelled. Raises Halted; FoldFailed, LogClosed: this state is of no use any more."""
        async with aclosing(self._eventlog.read(self.stream, after=self.ledger.sequence)) as batches:
            try:
                async for messages in batches:
                    await self._fold_messages(messages)
            except LogShrunk as shrunk:
                raise FoldFailed(str(shrunk)) from shrunk

    async def catch_up(self) -> None:
        """Fold up to where the log ends now, however long that takes. Raises Halted."""
        end = await retrying(partial(self._eventlog.end, self.stream), backoff=BACKOFF, retry_on=LogMissing)
        while not await self.folded(end, within_s=BACKOFF.max_s):
            pass
        self.caught_up = True

    async def current(self, *, within_s: float) -> bool:
        """Fold up to the end that the log has now; False if that is not known, or not reached in time."""
        try:
            async with asyncio.timeout(within_s):
                end = await self._eventlog.end(self.stream)
            return await self.folded(end, within_s=within_s)
        except (EventLogError, TimeoutError, Halted):
            return False

    async def folded(self, sequence: int, *, within_s: float) -> bool:
        """Wait until message `sequence` is folded; False if it was not within `within_s`. Raises Halted."""
        if self.ledger.sequence >= sequence:
            return True
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        while self.ledger.sequence < sequence:
            if not await self._progress(end_s - loop.time()):
                return self.ledger.sequence >= sequence
        return True

    async def ticked(self, ctl_sequence: int, *, within_s: float) -> bool:
        """Wait until a tick after `ctl_sequence` is folded; False if none was within `within_s`. Raises Halted."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        while self.ledger.ctl_sequence <= ctl_sequence:
            if not await self._progress(end_s - loop.time()):
                return self.ledger.ctl_sequence > ctl_sequence
        return True

    async def ctl_end(self) -> int:
        """Return the last sequence of the control clock as the server shows it: a hint. 0 if it does not answer."""
        try:
            last = await self._eventlog.last(self.stream, self.ctl)
        except EventLogError:
            return 0
        return last.seq if last else 0

    def note_sent(self, subject: str, body: bytes, events: list[Recorded]) -> SentFrame:
        """Note a frame before it is appended: read back, it is recognised by its bytes and need not be decoded."""
        sent = SentFrame(subject, body, events, self._clock.monotonic())
        self._sent.append(sent)
        return sent

    def may_be_admitted(self, request_id: RequestId) -> bool:
        """Whether an admission of this id is open, or on its way."""
        return request_id in self.ledger.open or request_id in self.holds.requests

    def forget_sent(self, sent: SentFrame) -> None:
        """Forget a frame that surely is not in the log."""
        if sent in self._sent:
            self._sent.remove(sent)

    def check(self) -> None:
        """Raise Halted if the fold ended."""
        if self.halted is not None:
            raise Halted(str(self.halted))

    async def _progress(self, within_s: float) -> bool:
        self.check()
        if within_s <= 0:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(within_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        self.check()
        return True

    async def _fold_messages(self, messages: list[Message]) -> None:
        begun_s = self._clock.monotonic()
        for message in messages:
            self._fold(message)
            if self._clock.monotonic() - begun_s > TURN_S_MAX:
                self._wake()
                await asyncio.sleep(0)
                begun_s = self._clock.monotonic()
        self._wake()

    def _fold(self, message: Message) -> None:
        events: Sequence[Recorded | Unread] | FrameError
        sent = self._read_back(message) if self._sent else None
        if sent is not None:
            self.broker.sampled(message.time, sent_s=sent.sent_s, seen_s=self._clock.monotonic())
            events = sent.events
        else:
            try:
                events = frame.decode(message.data, message.subject)
            except FrameError as error:
                events = error
        rejected = fold(self.ledger, message.seq, message.subject, message.time, events)
        if isinstance(rejected, Halt):
            self._halt(rejected)
        for one in rejected:
            self._rejected.inc()
            self._logger.warning("event rejected", **msgspec.structs.asdict(one))
        if self.holds.requests and not isinstance(events, FrameError):
            for recorded in events:
                if isinstance(recorded, Recorded) and isinstance(recorded.event, RequestAdmitted):
                    self.holds.release(recorded.event.request_id)

    def _halt(self, halt: Halt) -> NoReturn:
        self.halted, self.caught_up = halt, False
        self._logger.error("fold halted", **msgspec.structs.asdict(halt))
        self._wake()
        raise Halted(str(halt))

    def disown(self) -> None:
        """Release all holds and forget what was sent: we are not the owner any more."""
        self.holds.clear()
        self._sent.clear()

    def _read_back(self, message: Message) -> SentFrame | None:
        """Return our own frame that has these bytes; those sent before it are not in the log."""
        for place, sent in enumerate(self._sent):
            if sent.body == message.data and sent.subject == message.subject:
                for _ in range(place + 1):
                    self._sent.popleft()
                return sent
        return None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
