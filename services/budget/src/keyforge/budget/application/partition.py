"""One partition in this process: always folding, and its owner when the lease is free. Ends only with the process.

standing by ──lease free──▶ fencing ──fence folded──▶ owner ──newer fence, or the process ends──▶ standing by

From each of these it is halted, for good, by a message that this version must not fold: a newer one may take over.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from keyforge.budget.application.batch import BatchBuilder
from keyforge.budget.application.batching import Batching
from keyforge.budget.application.committer import Committer
from keyforge.budget.application.leadership import Leadership
from keyforge.budget.application.ports import Leases, Listener, Outbox
from keyforge.budget.application.replica import Replica
from keyforge.budget.core.state_hash import state_hash
from keyforge.budget.errors import Deposed, Halted, LeasesUnavailable, NotListening, Stopping
from keyforge.budget.metrics import Metrics
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.log import EventLog
from keyforge.eventlog.retry import repeating
from keyforge.runtime import logs, tasks
from keyforge.runtime.clock import Clock

LEASE_RENEW_S: Final = 1.5
"""How often an owner renews its lease. Chosen: three times before one of 5 s (`eventlog.streams`) times out."""
LEASE_CHECK_S: Final = 0.5
"""How often a standby looks whether the lease is free. Chosen: a tenth of the time after which one times out."""
DEPOSED_PAUSE_S: Final = 2.0
"""How long a deposed owner leaves its successor to publish a lease. Chosen: ten of the successor's tries
(PUBLISH_PAUSE_S), less than half of the time after which a lease that was published times out."""
PUBLISH_PAUSE_S: Final = 0.2
"""How often a lease that could not be published or renewed is tried again. Chosen: 25 times in the 5 s that edges wait
for an owner."""
LEASE_PATIENCE_S: Final = 3.0
"""How long after the leases could not be read one that is gone is not taken for free: its owner could not renew it
either. Chosen: its last try may take 2 s to fail (`buckets.REQUEST_TIMEOUT_S`); the next one, after PUBLISH_PAUSE_S, is
a matter of milliseconds."""
HANDOVER_S: Final = 5.0
"""How long a partition counts as ready while it changes hands. Chosen: as long as edges wait for an owner
(`streams.LEASE_TTL_S`). Of two processes one takes over while the other ends: if both were not ready meanwhile,
operators would be answered by nobody."""

END_S: Final = 5.0
"""Before what owns a partition is cancelled again. Chosen: its end may take two requests of 2 s that fail, to drain
what edges asked and to give the lease back; as long as a lease that is not given back lasts."""

ListenerOf = Callable[[Committer], Listener]
"""Makes what takes the reserves of one leadership and offers them to its committer."""


class PartitionBounds(msgspec.Struct, frozen=True):
    """How long a request may be open past its deadline, how long an ask may wait, and how many may."""

    abandon_grace_s: float
    ask_age_s_max: float
    asks_waiting_max: int


class Partition:
    """Folds all the time, owns some of it. `replica` is the folded state, in an owner and in a standby."""

    def __init__(
        self,
        number: int,
        *,
        owner: OwnerId,
        log: EventLog,
        leases: Leases,
        outbox: Outbox,
        listener_of: ListenerOf,
        batching: Batching,
        clock: Clock,
        metrics: Metrics,
        bounds: PartitionBounds,
    ) -> None:
        self.number = number
        self.replica = Replica(number, log, clock, metrics)
        self._name = owner
        self._eventlog = log
        self._leases = leases
        self._outbox = outbox
        self._listener_of = listener_of
        self._batching = batching
        self._clock = clock
        self._metrics = metrics
        self._bounds = bounds
        self._session: _Session | None = None
        self._lease_epoch = 0
        self._owned_elsewhere = False
        self._stood_by = False
        """Whether another process was seen to own it since this one last tried to."""
        self._handover_s = float("-inf")
        """When it last began to change hands or epochs (monotonic), having been ready before."""
        self._stopping = asyncio.Event()
        self._logger = logs.get("partition").bind(partition=number)

    @property
    def owner(self) -> bool:
        """Whether this process owns it: fenced, folded, and its lease published."""
        session = self._session
        return session is not None and session.leadership.epoch > 0 and session.published == session.leadership.epoch

    @property
    def epoch(self) -> int:
        """The epoch of the last fence folded."""
        return self.replica.ledger.epoch

    @property
    def ready(self) -> bool:
        """Whether it does its work: as the owner, or standing by, caught up, while another process owns it; and for
        HANDOVER_S between the two."""
        session = self._session
        if self.replica.halted is not None or (session is not None and session.committer.skewed):
            return False
        if self.owner or (session is None and self.replica.caught_up and self._owned_elsewhere):
            return True
        return self.replica.caught_up and self._clock.monotonic() - self._handover_s < HANDOVER_S

    def state_hash(self) -> str:
        """Return the hash of the folded state."""
        return state_hash(self.replica.ledger)

    def stop(self) -> None:
        """End `run` when what edges have asked is answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Fold, and own while the lease is ours, until stopped; once halted, do neither.

        Raises what makes the folded state useless.
        """
        folding = asyncio.create_task(self.replica.run())
        owning = asyncio.create_task(self._stand_by())
        try:
            done, _ = await asyncio.wait((folding, owning), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Halted:
            pass  # the replica has logged it
        finally:
            await tasks.end((folding, owning), repeat_s=END_S)
        if self.replica.halted is not None:
            await self._give_back()
            await self._stopping.wait()

    async def _stand_by(self) -> None:
        await self.replica.catch_up()
        restarted, unread_s = True, float("-inf")
        while not self._stopping.is_set():
            read_s = self._clock.monotonic() - unread_s
            try:
                holder = await self._leases.holder(self.number)
            except LeasesUnavailable as error:
                self._logger.warning("leases cannot be read", why=str(error))
                free = False  # and whether another process owns it is as it was when they could be read
                unread_s = self._clock.monotonic()
            else:
                lapsed = holder == "none" and read_s > LEASE_PATIENCE_S
                free = holder == "given_back" or lapsed or (holder == "us" and restarted)
                if free and self._stood_by:
                    self._handover_s = self._clock.monotonic()
                self._owned_elsewhere = not free
                self._stood_by = not free and (self._stood_by or holder == "another")
            if free:
                await self._own()
                restarted, self._lease_epoch = False, 0
                await self._pause(DEPOSED_PAUSE_S)
            else:
                await self._pause(LEASE_CHECK_S)

    async def _own(self) -> None:
        """Take the partition and serve it until deposed or stopped, then release what belongs to this leadership."""
        session = self._session = self._new_session()
        beside = [asyncio.create_task(self._renew(session)), asyncio.create_task(self._end(session))]
        try:
            if not self._stopping.is_set():
                await session.leadership.take(self._clock.now)
                await session.committer.run()
        except Deposed as deposed:
            if session.published:  # who never served hands over nothing
                self._handover_s = self._clock.monotonic()
            self._logger.warning("deposed", why=str(deposed))
        except Stopping:
            self._logger.info("stopped while fencing")
        finally:
            for task in beside:
                task.cancel()
            session.committer.give_way()
            self._session, self._lease_epoch = None, session.published
            try:
                await session.listener.drain()
            finally:
                self.replica.disown()
            await tasks.end(beside)  # may be cancelled here: nothing is left to release
            if self._stopping.is_set():
                await self._give_back()

    async def _end(self, session: "_Session") -> None:
        """Once stopped, take no more asks, so that edges wait for the next owner; then end what serves them."""
        await self._stopping.wait()
        if session.leadership.epoch:
            try:
                await session.listener.drain()
            except Exception:  # nobody awaits this task yet: the end must not wait for what it could not do
                self._logger.exception("asks could not be refused before the end")
        session.committer.stop()

    async def _give_back(self) -> None:
        """Let a standby take over at once. What fails is left to the lease's end."""
        if self._lease_epoch:
            with suppress(LeasesUnavailable):
                await self._leases.give_back(self.number, self._lease_epoch)

    def _new_session(self) -> "_Session":
        replica, clock, bounds = self.replica, self._clock, self._bounds
        leadership = Leadership(replica, self._eventlog, clock, owner=self._name, on_epoch=self._began)
        committer = Committer(
            replica,
            leadership,
            BatchBuilder(replica, source=leadership.source, abandon_grace_s=bounds.abandon_grace_s),
            self._eventlog,
            clock,
            self._metrics,
            self._outbox,
            self._batching,
            ask_age_s_max=bounds.ask_age_s_max,
            asks_waiting_max=bounds.asks_waiting_max,
        )
        return _Session(leadership, committer, self._listener_of(committer))

    async def _began(self, epoch: int) -> None:
        """Listen on the subject of a new epoch, then publish the lease. What fails is tried again by `_renew`."""
        session = self._session
        assert session is not None
        # Once for each epoch, however often it is tried, and for none after one that was never served.
        if session.published and session.published == session.begun != epoch:
            self._handover_s = self._clock.monotonic()
        session.begun = epoch
        try:
            await session.listener.listen(epoch)
            await self._publish(session, epoch)
        except (NotListening, LeasesUnavailable) as error:
            self._logger.warning("lease not published yet", epoch=epoch, why=str(error) or type(error).__name__)

    async def _renew(self, session: "_Session") -> None:
        def failed(fault: Exception) -> None:
            self._logger.error("lease not renewed", why=repr(fault), exc_info=fault)

        # Nobody awaits this task while we own the partition: a fault that ended it would let the lease lapse unseen.
        await repeating(partial(self._renew_once, session), pause_s=lambda: 0.0, failed=failed)

    async def _renew_once(self, session: "_Session") -> None:
        renewed = True
        while True:
            epoch = session.leadership.epoch
            await asyncio.sleep(LEASE_RENEW_S if renewed and session.published == epoch else PUBLISH_PAUSE_S)
            epoch = session.leadership.epoch
            if epoch and session.listener.epoch != epoch:
                await self._began(epoch)
            elif epoch:
                try:
                    await self._publish(session, epoch)
                except LeasesUnavailable as error:
                    if renewed:
                        self._logger.warning("lease not renewed", why=str(error))
                    renewed = False
                else:
                    renewed = True

    async def _publish(self, session: "_Session", epoch: int) -> None:
        if await self._leases.publish(self.number, epoch):
            session.published = epoch

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()


class _Session:
    """What belongs to one leadership of ours. `published` is the epoch that our lease names, `begun` the last one that
    it was to name."""

    __slots__ = ("begun", "committer", "leadership", "listener", "published")

    def __init__(self, leadership: Leadership, committer: Committer, listener: Listener) -> None:
        self.leadership = leadership
        self.committer = committer
        self.listener = listener
        self.begun = 0
        self.published = 0
