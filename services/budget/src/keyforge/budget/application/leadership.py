"""Our leadership of a partition: begun by a fence, confirmed by appends, ended by the next fence that is not ours.

Only a fence whose acknowledgement we hold makes us the owner, and only until a newer one of any writer is folded: two
processes that were given the same name by mistake end each other's leadership like any others.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from keyforge.budget.application.replica import Replica
from keyforge.budget.errors import Deposed, Stopping
from keyforge.contracts import frame
from keyforge.contracts.compression import compress
from keyforge.contracts.events import PartitionFenced
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.fence import append_fence
from keyforge.eventlog.log import Appended, AppendUnknown, EventLog
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

CONFIRMED_S: Final = 2.0
"""How long after an append that was stored its sender may still refuse. Chosen: less than half of a lease's 5 s."""
FOLD_S: Final = 0.5
"""How long one wait for a fence to be folded takes before we look whether we are to stop. Chosen: 16 looks in the 8 s
of a stop (`app.STOP_S_MAX`)."""
FENCE_ATTEMPTS_MAX: Final = 4
"""Sends of one fence before we look whether another owner was faster, or we are to stop. Chosen: 0.3 s of pauses."""


class Leadership:
    """`epoch` is 0 until `take` has made us the owner. `on_epoch` is awaited when an epoch begins."""

    def __init__(
        self,
        replica: Replica,
        log: EventLog,
        clock: Clock,
        *,
        owner: OwnerId,
        on_epoch: Callable[[int], Awaitable[None]],
    ) -> None:
        self.epoch = 0
        self.stopping = False
        self.source = f"budget/{owner}"
        self._replica = replica
        self._eventlog = log
        self._clock = clock
        self._owner = owner
        self._on_epoch = on_epoch
        self._fence_sequence = 0
        self._confirmed_s = float("-inf")
        self._logger = logs.get("leadership").bind(partition=replica.partition)

    @property
    def confirmed(self) -> bool:
        """Whether an append of ours was stored so recently that we are surely still the owner."""
        return self._clock.monotonic() - self._confirmed_s < CONFIRMED_S

    @property
    def deposed(self) -> bool:
        """Whether a newer fence than ours was folded."""
        return self._replica.ledger.fence_sequence > self._fence_sequence

    def confirm(self, sent_s: float) -> None:
        """Note a conditional append that was stored and had been sent at `sent_s` (monotonic)."""
        self._confirmed_s = sent_s

    def check(self) -> None:
        """Raise Deposed if a newer fence than ours was folded, Halted if the fold ended."""
        self._replica.check()
        if self.deposed:
            ledger = self._replica.ledger
            raise Deposed(f"{ledger.owner} fenced epoch {ledger.epoch}")

    async def take(self, now: Callable[[], datetime]) -> None:
        """Fence the partition and fold up to the fence. Raises Deposed if another is faster, Halted, Stopping."""
        ledger = self._replica.ledger
        seen = self._fence_sequence or ledger.fence_sequence
        while True:
            self._check_running()
            if ledger.fence_sequence > seen and ledger.owner != self._owner:
                raise Deposed(f"{ledger.owner} fenced epoch {ledger.epoch}")
            last, epoch = ledger.ctl_sequence, ledger.epoch + 1
            event = PartitionFenced(partition=ledger.partition, epoch=epoch, owner=self._owner)
            fence = Recorded(f"p{ledger.partition}.{epoch}", self.source, now(), event)
            sent = self._replica.note_sent(self._replica.ctl, compress(frame.encode([fence])), [fence])
            try:
                outcome = await append_fence(
                    self._eventlog,
                    self._replica.ctl,
                    sent.body,
                    last=last,
                    attempts_max=FENCE_ATTEMPTS_MAX,
                )
            except AppendUnknown as unknown:
                self._logger.warning("fence not confirmed", why=str(unknown))
                continue
            if isinstance(outcome, Appended):
                await self._begin(outcome.seq, epoch, sent.sent_s)
                return
            while not await self._replica.ticked(last, within_s=FOLD_S):
                self._check_running()

    async def _begin(self, sequence: int, epoch: int, sent_s: float) -> None:
        """Fold up to our own fence: from there on this epoch is ours, until the next fence."""
        self._fence_sequence = sequence
        while not await self._replica.folded(sequence, within_s=FOLD_S):
            self._check_running()
        self.check()
        self.epoch = epoch
        self.confirm(sent_s)
        self._logger.info("ownership taken", epoch=epoch, sequence=sequence)
        await self._on_epoch(epoch)

    def _check_running(self) -> None:
        self._replica.check()
        if self.stopping:
            raise Stopping
