"""One partition in this process: always folding, and its owner when the lease is free. Ends only with the process.

standing by ──lease free──▶ fencing ──fence folded──▶ owner ──newer fence, or told to end──▶ standing by
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from keyforge.budget.application.batch import Drafter
from keyforge.budget.application.batching import Pace
from keyforge.budget.application.committer import Lane
from keyforge.budget.application.leadership import Tenure
from keyforge.budget.application.ports import Leases, Listener, Outbox
from keyforge.budget.application.replica import Follower
from keyforge.budget.core.state_hash import state_hash
from keyforge.budget.errors import Deposed, LeasesUnavailable, NotListening, Stopping
from keyforge.budget.metrics import Metrics
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.log import EventLog
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

RENEW_S: Final = 1.5
"""How often an owner renews; entries time out after `eventlog.streams.LEASE_TTL_S` (5 s)."""
LOOK_S: Final = 0.5
"""How often a standby looks."""
DEPOSED_PAUSE_S: Final = 2.0
"""How long a deposed owner leaves its successor to publish a lease."""
PUBLISH_PAUSE_S: Final = 0.2

ListenerOf = Callable[[Lane], Listener]
"""Makes what takes the reserves of one tenure and offers them to its lane."""


class Bounds(msgspec.Struct, frozen=True):
    """How long a request may be open past its deadline, how long an ask may wait, and how many may."""

    abandon_grace_s: float
    ask_age_s_max: float
    asks_waiting_max: int


class Partition:
    """Folds for ever; owns now and then. `follower` is its state, whoever owns it."""

    def __init__(
        self,
        number: int,
        *,
        owner: OwnerId,
        log: EventLog,
        leases: Leases,
        outbox: Outbox,
        listener_of: ListenerOf,
        pace: Pace,
        clock: Clock,
        metrics: Metrics,
        bounds: Bounds,
    ) -> None:
        self.number = number
        self.follower = Follower(number, log, clock, metrics)
        self._name = owner
        self._eventlog = log
        self._leases = leases
        self._outbox = outbox
        self._listener_of = listener_of
        self._pace = pace
        self._clock = clock
        self._metrics = metrics
        self._bounds = bounds
        self._session: _Session | None = None
        self._others = False
        self._stopping = asyncio.Event()
        self._logger = logs.get("partition").bind(partition=number)

    @property
    def owner(self) -> bool:
        """Whether this process owns it: fenced, folded, and its lease published."""
        session = self._session
        return session is not None and session.tenure.epoch > 0 and session.published == session.tenure.epoch

    @property
    def epoch(self) -> int:
        """The epoch of the last fence folded."""
        return self.follower.ledger.epoch

    @property
    def ready(self) -> bool:
        """Whether it does its work: as the owner, or standing by, caught up, while somebody else owns it."""
        session = self._session
        if session is None:
            return self.follower.caught_up and self._others
        return self.owner and not session.lane.skewed

    def state_hash(self) -> str:
        """Return the hash of the folded state."""
        return state_hash(self.follower.ledger)

    def stop(self) -> None:
        """End `run` when what is in flight is answered."""
        self._stopping.set()
        if self._session is not None:
            self._session.lane.stop()

    async def run(self) -> None:
        """Fold, and own while the lease is ours. Raises what makes the folded state useless; returns when stopped."""
        folding = asyncio.create_task(self.follower.run())
        owning = asyncio.create_task(self._stand_by())
        try:
            done, _ = await asyncio.wait((folding, owning), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (folding, owning):
                task.cancel()
            await asyncio.gather(folding, owning, return_exceptions=True)

    async def _stand_by(self) -> None:
        await self.follower.catch_up()
        restarted = True
        while not self._stopping.is_set():
            try:
                free = await self._leases.free(self.number, restarted=restarted)
            except LeasesUnavailable as error:
                self._logger.warning("leases cannot be read", why=str(error))
                free = False  # and whether others own it is as it was when it could be read
            else:
                self._others = not free
            if free:
                await self._own()
                restarted = False
                await self._pause(DEPOSED_PAUSE_S)
            else:
                await self._pause(LOOK_S)

    async def _own(self) -> None:
        """Take the partition and serve it until deposed or stopped; leave nothing of it behind."""
        session = self._session = self._new_session()
        renewing = asyncio.create_task(self._renew(session))
        try:
            if not self._stopping.is_set():
                await session.tenure.take(self._clock.now)
                await session.lane.run()
        except Deposed as deposed:
            self._logger.warning("deposed", why=str(deposed))
        except Stopping:
            self._logger.info("stopped while fencing")
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            session.listener.close()
            await session.lane.close()
            self.follower.disown()
            self._session = None
            if self._stopping.is_set() and session.published:
                with suppress(LeasesUnavailable):
                    await self._leases.give_back(self.number, session.published)

    def _new_session(self) -> "_Session":
        follower, clock, bounds = self.follower, self._clock, self._bounds
        tenure = Tenure(follower, self._eventlog, clock, owner=self._name, on_epoch=self._began)
        lane = Lane(
            follower,
            tenure,
            Drafter(follower, source=tenure.source, abandon_grace_s=bounds.abandon_grace_s),
            self._eventlog,
            clock,
            self._metrics,
            self._outbox,
            self._pace,
            ask_age_s_max=bounds.ask_age_s_max,
            asks_waiting_max=bounds.asks_waiting_max,
        )
        return _Session(tenure, lane, self._listener_of(lane))

    async def _began(self, epoch: int) -> None:
        """Hear the subject of a new epoch, then let edges know. Failing is no matter: `_renew` goes on trying."""
        session = self._session
        assert session is not None
        try:
            await session.listener.listen(epoch)
            await self._publish(session, epoch)
        except (NotListening, LeasesUnavailable) as error:
            self._logger.warning("lease not published yet", epoch=epoch, why=str(error) or type(error).__name__)

    async def _renew(self, session: "_Session") -> None:
        while True:
            epoch = session.tenure.epoch
            await asyncio.sleep(RENEW_S if session.published == epoch else PUBLISH_PAUSE_S)
            epoch = session.tenure.epoch
            if epoch and session.listener.epoch != epoch:
                await self._began(epoch)
            elif epoch:
                try:
                    await self._publish(session, epoch)
                except LeasesUnavailable as error:
                    self._logger.warning("lease not renewed", why=str(error))

    async def _publish(self, session: "_Session", epoch: int) -> None:
        if await self._leases.publish(self.number, epoch):
            session.published = epoch

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()


class _Session:
    """What belongs to one tenure of ours. `published` is the epoch that our lease names."""

    __slots__ = ("lane", "listener", "published", "tenure")

    def __init__(self, tenure: Tenure, lane: Lane, listener: Listener) -> None:
        self.tenure = tenure
        self.lane = lane
        self.listener = listener
        self.published = 0
