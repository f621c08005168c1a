"""The command queue of one ctl subject: commands run one after the other, and one frame stores what they decide.

Every frame is conditional on the last sequence of the subject that was folded here, so the log holds exactly what a
command saw when its events are stored: rules over several aggregates cannot race, even with other writers. Messages of
others on the subject, such as owners' fences, only advance the condition.

An append is repeated until the follower shows its outcome. Only `Appended` is a proof: while a leader is deposed two
servers answer, and one of them is wrong. Once the follower has halted, every command is refused.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from keyforge.contracts import frame
from keyforge.contracts.compression import compress
from keyforge.contracts.errors import Problem, log_full, problem
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
from keyforge.keys.errors import QueueFailed
from keyforge.keys.outbound.follower import Follower
from keyforge.keys.outbound.recorder import Facts
from keyforge.keys.outbound.staging import Outcomes, PendingCommand, stage
from keyforge.runtime import logs, tasks
from keyforge.runtime.clock import Clock

TICKS_PER_S_MAX: Final = 20
"""Frames a second. Measured: changes at full speed slow the partition's owner, whose appends depend on this subject, 10
to 15 times."""
PLATFORM_TICKS_PER_S_MAX: Final = 200
"""Chosen: ten times a partition's, since no admission depends on the platform's subject: 200 fsyncs a second."""
WAITING_MAX: Final = 1_000
"""Commands that may wait in one queue. Chosen: about four full frames."""
ROUNDS_MAX: Final = 20
"""How often a frame is decided again because another writer was first."""
APPEND_TIME_LIMIT_S: Final = 5.0
"""How long one append is repeated; then callers get `log_unavailable`, and learn whether it may have been stored."""
RETRY_S: Final = 0.05
BUSY_S: Final = 0.005
"""Before an append is repeated: 100 times within `APPEND_TIME_LIMIT_S`; ten times as often while the server stores
another one, which it answers as `Busy`."""
_UNKNOWN: Final = "The change may have been stored or not: read it back before you repeat it."


class LogCommandQueue:
    """The command queue of one ctl subject. Start it, `submit` commands, stop it; `failed` ends the service."""

    def __init__(
        self,
        log: EventLog,
        stream: str,
        subject: str,
        clock: Clock,
        *,
        ticks_per_s: float = TICKS_PER_S_MAX,
        append_time_limit_s: float = APPEND_TIME_LIMIT_S,
        on_foreign: Callable[[Sequence[str]], None] = lambda _: None,
        append_took_s: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_foreign` is called with the aggregates that other writers changed, `append_took_s` after each append."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._eventlog = log
        self._stream = stream
        self._subject = subject
        self._follower = Follower(log, stream, subject, on_foreign=on_foreign)
        self._clock = clock
        self._tick_s = 1 / ticks_per_s
        self._append_time_limit_s = append_time_limit_s
        self._append_took_s = append_took_s
        self._waiting: deque[PendingCommand] = deque()
        self._work = asyncio.Event()
        self._ticked_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._logger = logs.get("command_queue").bind(subject=subject)

    @property
    def waiting(self) -> int:
        """How many commands have no outcome yet."""
        return len(self._waiting)

    @property
    def folded(self) -> int:
        """The last sequence of the subject that the facts contain."""
        return self._follower.folded

    @property
    def facts(self) -> Facts:
        """The facts, staged ones included."""
        return self._follower.facts

    @property
    def index(self) -> FactIndex:
        """The committed facts."""
        return self._follower.facts.cache

    @property
    def halted(self) -> str | None:
        """Why the fold halted at a message that it cannot read; None if it did not."""
        return self._follower.halted

    async def start(self) -> None:
        """Fold what the log holds, unless the fold halts; then accept commands. Raises LogMissing, QueueFailed."""
        last = await self._eventlog.last(self._stream, self._subject)
        self._tasks = [
            asyncio.create_task(self._guard(self._follower.run())),
            asyncio.create_task(self._guard(self._commit())),
        ]
        while last is not None and self.folded < last.seq and self.halted is None:
            await self._follower.advanced(self._append_time_limit_s)
            if self.failed.done():
                raise QueueFailed(self._subject)

    async def stop(self) -> None:
        """Stop; commands that wait get `not_ready`."""
        await tasks.end(self._tasks)
        self._resolve_all(problem("not_ready"))
        if not self.failed.cancel() and not self.failed.cancelled():
            self.failed.exception()

    async def submit(self, decide: Decide) -> Committed | Problem:
        """Run a command and return when its events are durable, or why they are not."""
        if len(self._waiting) >= WAITING_MAX:
            return problem("log_unavailable", "Too many changes are waiting to be stored.", retry_after_s=1)
        if self.failed.done():
            return problem("log_unavailable")
        pending = PendingCommand(decide, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._work.set()
        return await pending.done

    async def _commit(self) -> None:
        while True:
            self._work.clear()
            if not self._waiting:
                await self._work.wait()
            await asyncio.sleep(max(0.0, self._ticked_at + self._tick_s - self._clock.monotonic()))
            for pending, outcome in await self._decided():
                self._waiting.popleft()
                pending.resolve(outcome)

    async def _decided(self) -> Outcomes:
        """Decide and store as many waiting commands as fit one frame; return their outcomes."""
        for _ in range(ROUNDS_MAX):
            if self.halted is not None:
                return [(pending, problem("fold_halted")) for pending in self._waiting]
            ran = stage(self.facts, self._waiting, self._clock.now(), self._logger)
            if not self.facts.staged:
                return ran
            self._ticked_at = self._clock.monotonic()
            landed = await self._append(compress(frame.join([event.state for event in self.facts.staged])))
            self._append_took_s(self._clock.monotonic() - self._ticked_at)
            if landed is True:
                return ran
            self.facts.rollback()
            if isinstance(landed, Problem):
                return [(pending, landed) for pending, _ in ran]
        return [(pending, problem("conflict")) for pending, _ in ran]

    async def _append(self, data: bytes) -> bool | Problem:
        """Append one frame after what is folded: True if stored, False if another writer was first, or why neither."""
        give_up_at = self._clock.monotonic() + self._append_time_limit_s
        unknown = False
        with self._follower.expecting(data) as inflight:
            while inflight.landed is None:
                outcome: Outcome | None = None
                expect = Expect(self._subject, inflight.after)
                try:
                    outcome = await self._eventlog.append(self._subject, data, expect=expect)
                except AppendUnknown as error:
                    self._logger.warning("append outcome unknown, repeating it", error=str(error))
                if isinstance(outcome, Appended):
                    self._follower.fold(Message(outcome.seq, self._subject, self._clock.now(), data))
                    continue
                unknown = unknown or not isinstance(outcome, Full | Unavailable)
                if isinstance(outcome, Full) and not unknown:
                    self._logger.error("the log is full", reason=outcome.reason)
                    return log_full(self._stream)
                if self._clock.monotonic() > give_up_at:
                    return problem("log_unavailable", _UNKNOWN if unknown else "")
                if inflight.landed is None:
                    await self._pause(outcome)
        return inflight.landed

    async def _pause(self, outcome: Outcome | None) -> None:
        """Wait before repeating an append: for the message that was first, for the other append, or for the log."""
        if isinstance(outcome, Stale):
            await self._follower.advanced(RETRY_S)
        else:
            await asyncio.sleep(BUSY_S if isinstance(outcome, Busy) else RETRY_S)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Run one of the queue's two tasks; what ends it ends the queue."""
        try:
            await work
        except Exception as error:  # whatever ends a task must end the service, with its name in the log
            self._logger.exception("the command queue failed")
            if not self.failed.done():
                self.failed.set_exception(QueueFailed(f"{self._subject}: {type(error).__name__}"))
            self._resolve_all(problem("log_unavailable"))

    def _resolve_all(self, why: Problem) -> None:
        while self._waiting:
            self._waiting.popleft().resolve(why)
