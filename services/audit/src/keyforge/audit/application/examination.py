"""Examines what is stored of one chain, or of one key's spend: against the fold of the log, which testifies."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from keyforge.audit.application.build import Build
from keyforge.audit.application.follow import FollowedLog, nanoseconds
from keyforge.audit.application.ports import RecordStore
from keyforge.audit.application.sharing import SharedWork
from keyforge.audit.core.evidence import Disagreement, StoredSpend, is_authentic, page_fault, spend_differs
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import NO_HEAD, KeySpend, Sealed
from keyforge.audit.core.verifying import VERIFY_RECORDS_MAX, Verification
from keyforge.audit.errors import StoreError
from keyforge.chain import record as rec
from keyforge.chain.seal import Mac, MasterKey, key_chain
from keyforge.chain.verify import Stored, Verdict
from keyforge.eventlog.log import EventLog, EventLogError
from keyforge.runtime.threads import in_thread

SEQ_MAX: Final = 2**64 - 1
"""The greatest that the column holds: more than any chain has, and what a made-up row may have."""
READS_MAX: Final = 2
"""Readers' queries of the store that run at a time; the others wait in order. Chosen: a machine of 2 cores runs no more
at once; the threads that all share are 5 at least, and a client of the store is kept for each
(`clients.CLIENTS_MAX`)."""
PLACING_READS_MAX: Final = 1
"""Queries of the store that run at a time to find where chains disagree, beside READS_MAX: in the queue of the readers,
many slow ones of one tenant would hold up what names the edits of all. Chosen: halved there is none; doubled, two
chains are read at a time, for which there is no hurry."""
FOLDS_MAX: Final = 2
"""Folds of a whole log that run at a time to find where a chain differs; the others wait, as long as who asks does.
Chosen: each takes 1 core while it runs; doubled, a machine of 4 has none left for the fold that stores."""

T = TypeVar("T")


class Examination(NamedTuple):
    """The verdict on a stored chain.

    `exact` is False where `seq` of an invalid one may be too great: the records before it were sealed with the right
    key, and comparing them with the log took too long, or the log cannot be read now.
    """

    verdict: Verdict
    exact: bool


class Examiner:
    """Compares stored rows with the folds of a build."""

    def __init__(
        self, eventlog: EventLog, store: RecordStore, master: MasterKey, *, reads_max: int = READS_MAX
    ) -> None:
        """`reads_max`: how many of its queries run at a time; the others wait, for no other examiner's."""
        self._eventlog = eventlog
        self._store = store
        self._master = master
        self._free = asyncio.Semaphore(reads_max)
        self._folds = SharedWork[tuple[FollowedLog, str, int], int](FOLDS_MAX)

    async def read(self, call: Callable[..., T], *args: Any) -> T:
        """Call the store, once fewer than `reads_max` calls run."""
        async with self._free:
            return await in_thread(call, *args)

    async def chain(self, build: Build, chain: str, within_s: float) -> Examination:
        """Read a whole stored chain and compute every hash and MAC; keep whether it disagrees. Raises StoreError.

        Waiting for the fold, and looking for the exact place of a disagreement, take `within_s` at most.
        """
        end_s = asyncio.get_running_loop().time() + within_s
        verdict, exact = await self._verdict(build, chain, within_s), True
        if verdict.valid:
            build.agrees(chain, "records")
            return Examination(verdict, exact)
        followed = build.log_of(chain)
        if followed is not None:
            exact = False
            with suppress(TimeoutError, EventLogError):
                async with asyncio.timeout_at(end_s):
                    find = partial(self._first_difference, followed, chain, verdict.seq)
                    first = await self._folds.run((followed, chain, verdict.seq), find)
                    exact = True
                    if first < verdict.seq:
                        verdict = verdict._replace(seq=first, why="it is another record in the log")
        before = build.disagreements.get((chain, "records"))
        if exact or before is None or before.seq is None or before.seq >= verdict.seq:  # else it was placed before
            log = followed.stream if followed else ""
            build.disagrees(Disagreement("records", log, chain, verdict.seq, verdict.why))
        return Examination(verdict, exact)

    async def page(self, build: Build, chain: str, after: int, upto: int, within_s: float) -> list[Stored] | None:
        """Return the stored records of a chain from seq `after` + 1 to `upto`, which is at most its head.

        None if any of them, or how many are stored, is not what the log gives. Waiting for the fold takes `within_s` at
        most. Raises StoreError.
        """
        head = build.head(chain)
        anchor = build.anchor(chain, upto)
        last, count = await self.read(self._store.chain_extent, chain, head.seq)
        if count != head.seq or (last > head.seq and await self._surplus(build, chain, within_s) is not None):
            return None
        if upto <= after:
            return []
        most = 2 * (anchor.seq - after)
        rows = await self.read(self._store.records, chain, after, anchor.seq, most)
        chain_id = rec.chain_id(chain)
        mac = Mac(self._master.chain_key(chain_id))
        return None if page_fault(rows, after, anchor, mac.of, chain_id) is not None else rows[: upto - after]

    async def stored_partition(self, chain: str) -> int | None:
        """Return the partition of the last record that is stored of a chain, if that is authentic."""
        ends = await self.read(self._store.chain_ends, [chain], self._master)
        return ends[0].partition if ends and ends[0].authentic else None

    async def spend(self, build: Build, tenant: str, key_id: str, within_s: float) -> str:
        """Compare what is stored of a key's requests; return in what it differs, empty if in nothing.

        Only what differs is looked at again between two blocks, for which it waits `within_s` at most. Raises
        StoreError.
        """
        chain = key_chain(tenant, key_id)
        before = build.writer.spend.get(chain)
        found = await self.read(self._spend, tenant, key_id)
        if any(not spend_differs(found, folded) for folded in (before, build.writer.spend.get(chain))):
            return ""
        try:
            # First a turn to read: no more than `reads_max` readers are ever between the writer and its next block.
            async with self._free, asyncio.timeout(within_s), build.writer.between_blocks():
                found = await in_thread(self._spend, tenant, key_id)
                return spend_differs(found, build.writer.spend.get(chain))
        except TimeoutError:
            raise StoreError("the writer is still storing a block") from None

    def _spend(self, tenant: str, key_id: str) -> KeySpend | None:
        found: list[StoredSpend] = self._store.spend_of_keys([(tenant, key_id)])
        return found[0].spend if found else None

    async def _verdict(self, build: Build, chain: str, within_s: float) -> Verdict:
        head = build.head(chain)
        verification = Verification(chain, self._master, head)
        while (after := verification.next_after) is not None:
            upto = min(after + VERIFY_RECORDS_MAX, head.seq)
            found = await self.read(self._store.records, chain, after, upto, 2 * VERIFY_RECORDS_MAX)
            verification.check(found, upto)
        verdict = verification.verdict()
        if not verdict.valid:
            twice = await self.read(self._store.first_stored_twice, chain, verdict.seq)
            if twice is not None and twice < verdict.seq:
                verdict = verdict._replace(seq=twice, why="it is stored twice, and differently")
            return verdict
        if (await self.read(self._store.chain_extent, chain, head.seq))[1] > head.seq:
            return verdict._replace(valid=False, seq=0, why="it is stored, but a chain begins at seq 1")
        if (surplus := await self._surplus(build, chain, within_s)) is not None:
            why = f"it is stored, but the chain ends at seq {surplus - 1} in the log"
            return verdict._replace(valid=False, seq=surplus, why=why)
        return verdict

    async def _surplus(self, build: Build, chain: str, within_s: float) -> int | None:
        """Return the seq of the first record that is stored after the head of a chain and is not in the log.

        A record that another process of ours stored is waited for, `within_s` at most. Raises StoreError.
        """
        end_s = asyncio.get_running_loop().time() + within_s
        while True:
            seq = build.head(chain).seq
            rows = await self.read(self._store.records, chain, seq, SEQ_MAX, 1)
            if not rows:
                return None
            if not is_authentic(chain, rows[0], self._master):
                return seq + 1
            header = rec.unpack(rows[0].header)
            followed = build.log(header.partition)
            if followed is None or header.seq <= seq:  # a copy of a record under another seq
                return seq + 1
            if followed.stopped and header.sequence > build.writer.done.get(header.partition, 0):
                return None
            await build.refresh_ends([followed])
            if header.sequence > followed.end:
                return seq + 1
            if build.writer.done.get(header.partition, 0) >= header.sequence:
                if build.head(chain).seq < header.seq:
                    return seq + 1
                continue
            try:
                async with asyncio.timeout_at(end_s):
                    await build.writer.until({header.partition: header.sequence})
            except TimeoutError:
                return None

    async def _first_difference(self, followed: FollowedLog, chain: str, upto: int) -> int:
        """Fold a log again until its chain has `upto` records; return the first stored differently, or `upto`."""
        fold = Fold(followed.partition, self._master)
        compared = 0
        async with aclosing(self._eventlog.read(followed.stream)) as batches:
            async for batch in batches:
                out = Sealed()
                for message in batch:
                    time_ns = nanoseconds(message.time)
                    if fold.fold(message.seq, message.subject, time_ns, message.data, out) is not None:
                        return upto
                expected = [record for record in out.records if record.chain.name == chain and record.seq < upto]
                if expected:
                    last = expected[-1].seq
                    rows = await self.read(self._store.records, chain, compared, last, 2 * len(expected))
                    for record, row in zip(expected, rows, strict=False):
                        if (record.header, record.hash, record.mac, record.body) != tuple(row)[:4]:
                            return record.seq
                    if len(rows) != len(expected):
                        return min(compared + len(rows) + 1, upto)
                    compared = last
                if (fold.head(chain) or NO_HEAD).seq >= upto - 1 or batch[-1].seq >= followed.folded:
                    return upto
                await asyncio.sleep(0)
        return upto
