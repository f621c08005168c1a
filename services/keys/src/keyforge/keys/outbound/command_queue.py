"""The commit lane of one ctl subject: commands run one after the other, and what they decide is appended as one frame.

Every frame is conditional on the last sequence of the subject that was folded here, so whatever a command saw is what
the log holds when its events are stored: rules over several aggregates cannot race, whoever else writes. What the
subject holds beside our own frames, such as owners' fences, only moves the condition on.

An append is tried until the follower says what became of it. No answer but Appended is believed alone: while a leader
is deposed two servers answer, and one of them is wrong.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts import frame
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Event
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX
from keyforge.eventlog.log import (
    Appended,
    AppendUnknown,
    Busy,
    EventLog,
    Expect,
    Full,
    Message,
    Outcome,
    Stale,
    Unavailable,
)
from keyforge.keys.application.ports import Committed, Decide, FactIndex
from keyforge.keys.core.evolve import HistoryError, aggregate_of
from keyforge.keys.core.facts import Change
from keyforge.keys.errors import LaneFailed
from keyforge.keys.outbound import tasks
from keyforge.keys.outbound.follower import Follower
from keyforge.keys.outbound.recorder import Facts
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

TICKS_PER_S_MAX: Final = 20
"""Frames a second: key changes at full speed would slow the partition's owner, whose appends depend on this subject."""
PLATFORM_TICKS_PER_S_MAX: Final = 200
"""The platform's subject holds up nobody's admissions."""
WAITING_MAX: Final = 1_000
"""Commands that may wait in one lane."""
ROUNDS_MAX: Final = 20
"""How often a group is decided again because somebody else was first."""
PATIENCE_S: Final = 5.0
"""How long one append is tried: beyond it the callers hear that the log cannot be written, or that nobody knows."""
RETRY_S: Final = 0.05
BUSY_S: Final = 0.005
_UNKNOWN: Final = "The change may have been stored or not: look before you ask again."


class _Waiting(msgspec.Struct):
    decide: Decide
    done: "asyncio.Future[Committed | Problem]"


_Ran = tuple[_Waiting, Committed | Problem]


class Lane:
    """One ctl subject. Start it, `submit` commands, stop it; `failed` ends the service."""

    def __init__(
        self,
        log: EventLog,
        stream: str,
        subject: str,
        clock: Clock,
        *,
        ticks_per_s: float = TICKS_PER_S_MAX,
        patience_s: float = PATIENCE_S,
        on_foreign: Callable[[Sequence[str]], None] = lambda _: None,
        took_s: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_foreign` hears of aggregates that others changed, `took_s` how long each append took."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._stream = stream
        self._subject = subject
        self._follower = Follower(log, stream, subject, on_foreign=on_foreign)
        self._clock = clock
        self._tick_s = 1 / ticks_per_s
        self._patience_s = patience_s
        self._took_s = took_s
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._ticked_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._say = logs.get("lane").bind(subject=subject)

    @property
    def waiting(self) -> int:
        """How many commands have no answer yet."""
        return len(self._waiting)

    @property
    def folded(self) -> int:
        """The last sequence of the subject that is part of what is known."""
        return self._follower.folded

    @property
    def facts(self) -> Facts:
        """What is known."""
        return self._follower.facts

    @property
    def index(self) -> FactIndex:
        """The committed facts."""
        return self._follower.facts.book

    async def start(self) -> None:
        """Fold what the log holds, then take commands. Raises LogMissing, LaneFailed."""
        last = await self._log.last(self._stream, self._subject)
        self._tasks = [
            asyncio.create_task(self._guard(self._follower.run())),
            asyncio.create_task(self._guard(self._commit())),
        ]
        while last is not None and self.folded < last.seq:
            await self._follower.moves(self._patience_s)
            if self.failed.done():
                raise LaneFailed(self._subject)

    async def stop(self) -> None:
        """Stop; commands that wait are answered with `not_ready`."""
        await tasks.end(self._tasks)
        self._give_up(problem("not_ready"))
        if not self.failed.cancel() and not self.failed.cancelled():
            self.failed.exception()

    async def submit(self, decide: Decide) -> Committed | Problem:
        """Run a command and return when its events are durable, or why they are not."""
        if len(self._waiting) >= WAITING_MAX:
            return problem("log_unavailable", "Too many changes wait to be stored.", retry_after_s=1)
        if self.failed.done():
            return problem("log_unavailable")
        waiting = _Waiting(decide, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._work.set()
        return await waiting.done

    async def _commit(self) -> None:
        while True:
            self._work.clear()
            if not self._waiting:
                await self._work.wait()
            await asyncio.sleep(max(0.0, self._ticked_at + self._tick_s - self._clock.monotonic()))
            for waiting, verdict in await self._decided():
                self._waiting.popleft()
                _settle(waiting, verdict)

    async def _decided(self) -> list[_Ran]:
        """Take as many waiting commands as fit a frame through to a verdict each."""
        for _ in range(ROUNDS_MAX):
            group = self._stage()
            if not self.facts.staged:
                return group
            self._ticked_at = self._clock.monotonic()
            landed = await self._append(frame.join([event.state for event in self.facts.staged]))
            self._took_s(self._clock.monotonic() - self._ticked_at)
            if landed is True:
                return group
            self.facts.rollback()
            if isinstance(landed, Problem):
                return [(waiting, landed) for waiting, _ in group]
        return [(waiting, problem("conflict")) for waiting, _ in group]

    def _stage(self) -> list[_Ran]:
        """Run commands against what is known and staged, until the frame is full; return those that ran."""
        now = self._clock.now()
        ran: list[_Ran] = []
        size = 0
        for waiting in self._waiting:
            try:
                decided = waiting.decide(self.facts, now)
            except Exception:  # noqa: BLE001  # one faulty command must not stop the others
                self._say.exception("a command failed")
                decided = problem("internal")
            if decided is None or isinstance(decided, Problem):
                ran.append((waiting, decided or Committed(())))
                continue
            events = [decided] if isinstance(decided, Event) else decided
            held = len(self.facts.staged)
            if held and held + len(events) > FRAME_EVENTS_MAX:
                break
            ids = tuple(self._stage_one(event, now) for event in events)
            size += sum(len(stored.state) + 1 for stored in self.facts.staged[held:])
            ran.append((waiting, Committed(ids)))
            if size > FRAME_BYTES_MAX // 2 or len(self.facts.staged) >= FRAME_EVENTS_MAX:
                break
        return ran

    def _stage_one(self, event: Event, now: datetime) -> str:
        id_ = aggregate_of(event)
        if id_ is None:
            raise HistoryError(f"{event.TYPE} is not for keys to say")
        known = self.facts.find(id_)
        self.facts.stage(Change(id_, (known.version if known else 0) + 1, now, event))
        return id_

    async def _append(self, data: bytes) -> bool | Problem:
        """Append one frame behind what is folded: True it is stored, False somebody was first, or why neither."""
        give_up_at = self._clock.monotonic() + self._patience_s
        unknown = False
        with self._follower.expecting(data) as inflight:
            while inflight.landed is None:
                outcome: Outcome | None = None
                try:
                    outcome = await self._log.append(self._subject, data, expect=Expect(self._subject, inflight.after))
                except AppendUnknown as error:
                    self._say.warning("an append of unknown outcome: asking again", error=str(error))
                if isinstance(outcome, Appended):
                    self._follower.fold(Message(outcome.seq, self._subject, self._clock.now(), data))
                    continue
                unknown = unknown or not isinstance(outcome, Full | Unavailable)
                if isinstance(outcome, Full) and not unknown:
                    self._say.error("the log is full", reason=outcome.reason)
                    return problem("log_full")
                if self._clock.monotonic() > give_up_at:
                    return problem("log_unavailable", _UNKNOWN if unknown else "")
                if inflight.landed is None:
                    await self._pause(outcome)
        return inflight.landed

    async def _pause(self, outcome: Outcome | None) -> None:
        """Wait before asking again: for the fold to show who was first, for the other append, for the log."""
        if isinstance(outcome, Stale):
            await self._follower.moves(RETRY_S)
        else:
            await asyncio.sleep(BUSY_S if isinstance(outcome, Busy) else RETRY_S)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Run one of the lane's two tasks; what ends it ends the lane."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # whatever ends a task must end the service, in words
            self._say.exception("the lane failed")
            if not self.failed.done():
                self.failed.set_exception(LaneFailed(f"{self._subject}: {type(error).__name__}"))
            self._give_up(problem("log_unavailable"))

    def _give_up(self, why: Problem) -> None:
        while self._waiting:
            _settle(self._waiting.popleft(), why)


def _settle(waiting: _Waiting, verdict: Committed | Problem) -> None:
    """Answer whoever waits; they may have gone."""
    if not waiting.done.done():
        waiting.done.set_result(verdict)
