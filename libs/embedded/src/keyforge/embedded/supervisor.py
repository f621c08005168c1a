"""Keeps the embedded stack running: starts its processes in order, restarts those that end, stops all in order.

nats -> streams -> audit, keys, budget, edge, simulator (at once) -> all healthy -> seed -> ready.json -> until a signal
edge -> audit, keys, budget, simulator -> nats
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from keyforge.embedded import probe
from keyforge.embedded.child import Child, reason
from keyforge.embedded.disk import DiskWatch
from keyforge.embedded.errors import StackEndedError, StackError
from keyforge.embedded.home import Home
from keyforge.embedded.services import Service
from keyforge.embedded.watch import watch
from keyforge.eventlog.retry import repeating

ANSWER_WITHIN_S: Final = 60.0
"""How long a service may not answer at the start. Chosen: 40 times the 1.5 s that ClickHouse's engine takes to start,
as it may have to load its parts first."""
HEALTHY_WITHIN_S: Final = 3600.0
"""How long a service that answers may take to become healthy. Chosen: budget folds 150,000 events a CPU second
(docs/NEXT.md), so an hour is enough for a log of 540 million."""
REPORT_EVERY_S: Final = 15.0
"""How often the operator is shown which service of a start is waited for, and why; of one that was started again, once
after this time."""
POLL_S: Final = 0.03
"""Between two questions for health. Chosen: a start takes about two seconds, and a question less than a millisecond."""
ROTATE_EVERY_S: Final = 5.0
"""How often the sizes of the log files are checked."""
STOP_WITHIN_S: Final = 18.0
"""A service lets open requests end within 10 s (`services.SHUTDOWN_S_DEFAULT`), stores their outcomes within another 5,
and has 3 to spare."""
EARLY_DEATHS_MAX: Final = 3
"""How often one service may be killed before all were healthy once. One that exits by itself then ends the start."""
RESTART_FIRST_S: Final = 0.05
RESTART_MAX_S: Final = 10.0
"""The shortest and the longest pause before a restart. Precedent: the kubelet begins with 10 s after a crash and goes
up to 5 minutes. Chosen: its first pause, 10 s, is our longest, since a person waits here; one crash costs 0.05 s."""
STEADY_AFTER_S: Final = 20.0
"""A service that ran this long is restarted as after its first death: twice the longest pause."""

Report = Callable[[str], None]
"""Takes one line for the operator."""


def restart_delay_s(deaths: int) -> float:
    """Return how long to wait before a restart after so many deaths in a row: briefly, then doubling."""
    return RESTART_FIRST_S if deaths <= 1 else min(RESTART_MAX_S, 0.5 * 2 ** min(deaths - 2, 10))


class Supervisor:
    """One run of one stack. `on_pids` is called whenever a process was replaced after all were healthy."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home = home
        self._report = report
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._was_healthy = False
        self._returning: set[str] = set()
        self._ends_said: set[str] = set()
        """Services whose last end was reported, or will be by `_end`."""
        self._failed_ends: list[str] = []
        self._shown: dict[str, str] = {}
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_requested = asyncio.Event()
        self.disk = DiskWatch(home, report)
        """Looked at as long as this runs, and whenever asked."""
        self.stop_longer_s = 0.0
        """What a service is given beyond `STOP_WITHIN_S`, where settings let open requests continue for longer."""
        self.on_pids: Callable[[], None] = lambda: None

    def pids(self) -> dict[str, int]:
        """Return the process id of each service."""
        return {name: child.pid for name, child in self._children.items()}

    @contextlib.contextmanager
    def signals_handled(self) -> Iterator[None]:
        """Handle signals: SIGINT, SIGTERM and SIGHUP request the end, SIGCHLD reports that a child has ended.

        A SIGHUP that is ignored stays ignored: that is what `nohup` is for."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        ending = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            ending.append(signal.SIGHUP)
        for number in ending:
            loop.add_signal_handler(number, self._stop_requested.set)
        try:
            yield
        finally:
            for number in (*ending, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    async def start(self, services: Sequence[Service]) -> None:
        """Start these at once and wait until all are healthy. Raises StackError."""
        for service in services:
            child = Child(service, self._home.logs)
            child.start()
            self._children[service.name] = child
            keeper = asyncio.create_task(self._keep(child), name=f"keep {service.name}")
            keeper.add_done_callback(self._kept)
            self._keepers[service.name] = keeper
        try:
            async with asyncio.TaskGroup() as waiting:
                for service in services:
                    waiting.create_task(self._healthy(service))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def all_healthy(self) -> None:
        """End the start: from now on a service that ends is restarted, and does not count as a failed start."""
        self._was_healthy = True

    async def run(self, starting: Coroutine[None, None, None]) -> None:
        """Await the start, then the end: a signal, or a fault that no restart cures. Raises EmbeddedError."""
        start: asyncio.Future[None] = asyncio.create_task(starting)
        stop: asyncio.Future[bool] = asyncio.create_task(self._stop_requested.wait())
        rotating = asyncio.create_task(self._rotate())
        watching = asyncio.create_task(watch(self._watched, self._report, self.disk, self._shown))
        try:
            await _first(start, stop, self._fatal)
            if self._fatal.done():
                self._fatal.result()
            if start.done():
                start.result()
                await _first(stop, self._fatal)
        finally:
            tasks = (start, stop, rotating, watching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._fatal.done():
            self._fatal.result()

    async def stop(self) -> list[str]:
        """Stop all, stage by stage; a process that does not end in time is killed. Return the services whose end
        failed, each of which was reported: what they had to store may not be stored."""
        self._stopping.set()
        within_s = STOP_WITHIN_S + self.stop_longer_s
        for stage in sorted({child.service.stop_stage for child in self._children.values()}):
            children = [child for child in self._children.values() if child.service.stop_stage == stage]
            await asyncio.gather(*(self._end(child, within_s) for child in children))
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        return self._failed_ends

    async def _end(self, child: Child, within_s: float) -> None:
        """Stop one, and report an end that failed; one that ended before is reported if its keeper did not do so."""
        name = child.service.name
        if name in self._ends_said:
            return
        self._ends_said.add(name)
        by_itself = await child.stop(within_s)
        code = await child.ended()
        if by_itself:
            self._report_end(child, code)
        else:
            self._failed_ends.append(name)
            self._report(f"{name} did not stop within {within_s:g} s and was killed")

    def _report_end(self, child: Child, code: int) -> None:
        """Report how a process ended once all were to end, if that is a failure: an edge that could not store an
        outcome ends with 1, one that the kernel kills may have stored none. SIGTERM is what we send to each."""
        if code not in (0, -signal.SIGTERM):
            name, how = child.service.name, "ended with" if code > 0 else "was"
            self._failed_ends.append(name)
            self._report(f"{name} {how} {reason(code)}: {self._last_line(child)}")

    def _reap(self) -> None:
        for child in self._children.values():
            child.reap()

    async def _keep(self, child: Child) -> None:
        """Start a service again whenever it ends: the first time at once, then with growing pauses."""
        name, deaths = child.service.name, 0
        while True:
            code = await child.ended()
            if self._stopping.is_set():
                if name not in self._ends_said:  # it ended by itself, while others are waited for
                    self._ends_said.add(name)
                    self._report_end(child, code)
                return
            self._ends_said.add(name)
            self._returning.add(name)
            self._shown.pop(name, None)
            ran_s = time.monotonic() - child.started_at
            deaths = 1 if ran_s > STEADY_AFTER_S else deaths + 1
            if not self._was_healthy and (code >= 0 or deaths >= EARLY_DEATHS_MAX):
                self._fail(f"{name} does not start ({reason(code)}): {self._last_line(child)}")
                return
            delay_s = restart_delay_s(deaths)
            when = "now" if delay_s < 1 else f"in {delay_s:g} s"
            self._report(f"{name} ended ({reason(code)}); starting it again {when}")
            await asyncio.sleep(delay_s)
            if self._stopping.is_set():
                return
            try:
                child.start()
            except StackError as error:
                self._fail(str(error))
                return
            self._ends_said.discard(name)
            if self._was_healthy:
                try:
                    self.on_pids()
                except StackError as error:  # a full disk must not end the keeper: nothing else restarts this service
                    self._report(str(error))
                await self._report_return(child)
            self._returning.discard(name)

    async def _report_return(self, child: Child) -> None:
        """Wait until a restarted service is healthy, or has ended again; say once that this takes long."""
        name, reported = child.service.name, False
        began = time.monotonic()
        while child.running and (waited_s := time.monotonic() - began) < HEALTHY_WITHIN_S:
            status, body = await probe.get(child.service.port, child.service.path)
            if status == 200:
                self._report(f"{name} is healthy again after {time.monotonic() - began:.1f} s")
                return
            if waited_s > REPORT_EVERY_S and not reported:
                reported = True
                self._report(f"waiting for {name} since {waited_s:.0f} s: {probe.why_not(status, body)}")
            await asyncio.sleep(POLL_S)

    async def _healthy(self, service: Service) -> None:
        """Wait until a service is healthy; one that answers is given time. Raises StackError."""
        name, log = service.name, self._children[service.name].log
        began = answered = reported = time.monotonic()
        while True:
            status, body = await probe.get(service.port, service.path)
            if status == 200:
                return
            now = time.monotonic()
            answered = now if status else answered
            if now - answered > ANSWER_WITHIN_S or now - began > HEALTHY_WITHIN_S:
                why = probe.why_not(status, body)
                raise StackError(f"{name} is not healthy after {now - began:.0f} s: {why}; its log is {log}")
            if now - reported > REPORT_EVERY_S:
                reported = now
                self._report(f"waiting for {name} since {now - began:.0f} s: {probe.why_not(status, body)}")
            await asyncio.sleep(POLL_S)

    def _watched(self) -> list[Service]:
        """Return the services whose condition is shown: those that run and were healthy since. Of the others it is
        shown by `_healthy`, until all were healthy once, and by `_keep`."""
        if not self._was_healthy:
            return []
        children = self._children.items()
        return [child.service for name, child in children if child.running and name not in self._returning]

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """End the stack where a keeper ends by a fault: nothing else restarts its service."""
        if not keeper.cancelled() and (fault := keeper.exception()) is not None:
            self._fail(f"{keeper.get_name()}: {fault!r}")

    def _fail(self, message: str) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(StackEndedError(message) if self._was_healthy else StackError(message))

    def _last_line(self, child: Child) -> str:
        line = child.last_line()
        return f"{line} (its log: {child.log})" if line else f"it wrote nothing; its log is {child.log}"

    async def _rotate(self) -> None:
        async def rotate() -> None:
            for child in self._children.values():
                child.rotate()

        def failed(fault: Exception) -> None:
            self._report(f"a log file could not be rotated: {fault!r}")

        await repeating(rotate, pause_s=lambda: ROTATE_EVERY_S, failed=failed)


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Wait until any one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
