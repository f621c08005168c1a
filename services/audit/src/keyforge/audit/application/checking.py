"""Compares all that is stored with the folds, again and again: the end of every chain, and what every key spent.

The tables are read while they are written. What differs at first sight is looked at again between two blocks; what
another process stored already and the fold has not reached is left for the next time.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from keyforge.audit.application.build import Build
from keyforge.audit.application.examination import Examiner
from keyforge.audit.application.ports import RecordStore
from keyforge.audit.core.evidence import Disagreement, StoredEnd, StoredSpend, Table, end_differs, spend_differs
from keyforge.audit.core.sealed import NO_HEAD, Head, KeySpend
from keyforge.audit.errors import StoreError
from keyforge.chain.seal import MasterKey, key_chain
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime.threads import in_thread

CHECK_EVERY_S: Final = 30.0
"""Between two comparisons of everything. Chosen: half of LATE_S_MAX, which leaves the other half for one that takes
long."""
LATE_S_MAX: Final = 60.0
"""Spend is not answered from a comparison that began longer ago: what docs/spec/audit-format.md promises."""
AGAIN_MAX: Final = 500
"""Chains or keys that are looked at again in one query, during which nothing is stored. Chosen: some 5 ms."""
PLACED_MAX: Final = 20
"""Chains that are read whole in one comparison to find where they disagree. The others are named without the place,
until somebody verifies them. Chosen: a screen of 24 lines shows them all."""
BACKOFF: Final = Backoff(0.5, 5.0)
"""Chosen: as long as the writer waits for a store that is down (`writer.BACKOFF`)."""


T = TypeVar("T")


class Checker:
    """Compares the current tables with the folds of a build."""

    def __init__(self, store: RecordStore, examiner: Examiner, master: MasterKey) -> None:
        self._store = store
        self._examiner = examiner
        self._master = master

    async def run(self, build: Build) -> None:
        """Compare once what was stored at the start has been folded, then every CHECK_EVERY_S, until cancelled."""
        await build.writer.until(build.stored.records)
        while True:
            await retrying(lambda: self.check(build), backoff=BACKOFF, retry_on=StoreError)
            await asyncio.sleep(CHECK_EVERY_S)

    async def check(self, build: Build) -> None:
        """Compare everything. Raises StoreError."""
        began = asyncio.get_running_loop().time()
        await self._check_chains(build)
        await self._check_spend(build)
        build.checked_at = began
        build.checked.set()

    async def _check_chains(self, build: Build) -> None:
        before = dict(build.writer.heads)
        stored = await in_thread(self._store.chain_ends)
        after = build.writer.heads
        suspects = [end.chain for end in stored if _end_suspect(end, before, after)]
        found = {end.chain for end in stored}
        suspects += [chain for chain in before if chain not in found]
        known = [chain for chain, table in build.disagreements if table == "records"]
        differing = dict.fromkeys(known, "")
        for some in _in_parts(suspects):
            differing |= await self._ends_that_differ(build, some)
        for number, (chain, why) in enumerate(differing.items()):
            if number < PLACED_MAX:
                await self._examiner.chain(build, chain, 0)
            elif why:
                self._disagrees(build, "records", chain, why)

    async def _ends_that_differ(self, build: Build, chains: Sequence[str]) -> dict[str, str]:
        """Return those of these chains whose stored end is not what the log gives, and what differs."""
        async with build.writer.between_blocks():
            rows = await in_thread(self._store.chain_ends, chains, self._master)
            stored = {end.chain: end for end in rows}
            found = {chain: end_differs(stored.get(chain), build.head(chain)) for chain in chains}
        return {
            chain: why for chain, why in found.items() if why and await self._is_judged(build, chain, stored.get(chain))
        }

    async def _check_spend(self, build: Build) -> None:
        before = dict(build.writer.spend)
        stored = await in_thread(self._store.spend_of_keys)
        after = build.writer.spend
        rows = {key_chain(one.tenant, one.key_id): one for one in stored}
        names = {(one.tenant, one.key_id) for one in stored}
        names |= {_key_of(chain) for chain in before if chain not in rows}
        known = (chain for chain, table in build.disagreements if table == "requests" and chain not in rows)
        names |= {_key_of(chain) for chain in known}
        suspects = [name for name in names if _spend_suspect(key_chain(*name), rows, before, after)]
        agreeing = {key_chain(*name) for name in names} - {key_chain(*name) for name in suspects}
        for some in _in_parts(suspects):
            differing = await self._spend_that_differs(build, some)
            agreeing |= {key_chain(*name) for name in some} - differing
        for chain in agreeing:
            build.agrees(chain, "requests")

    async def _spend_that_differs(self, build: Build, keys: Sequence[tuple[str, str]]) -> set[str]:
        """Compare these keys between two blocks; return the chains of those that differ, which are kept as such."""
        async with build.writer.between_blocks():
            rows = await in_thread(self._store.spend_of_keys, keys)
            stored = {key_chain(one.tenant, one.key_id): one for one in rows}
            chains = [key_chain(*key) for key in keys]
            spend = build.writer.spend
            found = {chain: spend_differs(_spent(stored.get(chain)), spend.get(chain)) for chain in chains}
        differing = {
            chain for chain, why in found.items() if why and await self._is_judged(build, chain, stored.get(chain))
        }
        for chain in differing:
            self._disagrees(build, "requests", chain, found[chain])
        return differing

    @staticmethod
    def _disagrees(build: Build, table: Table, chain: str, why: str) -> None:
        followed = build.log_of(chain)
        build.disagrees(Disagreement(table, followed.stream if followed else "", chain, None, why))

    @staticmethod
    async def _is_judged(build: Build, chain: str, stored: StoredEnd | StoredSpend | None) -> bool:
        """Return whether a difference is one: the log goes on, and its fold has reached what is stored.

        Another process may have stored a message first. Rows of a chain that no log has are judged by where they say
        that they are.
        """
        followed = build.log_of(chain)
        if followed is None and stored is not None:
            if isinstance(stored, StoredEnd) and not stored.authentic:
                return True
            followed = build.log(stored.partition)
        if followed is None or stored is None:
            return followed is None or not followed.halted
        if followed.halted:
            return False
        if stored.sequence <= build.writer.done.get(followed.partition, 0):
            return True
        if not followed.stopped:
            await build.refresh_ends([followed])
        return not followed.stopped and stored.sequence > followed.end


def _in_parts(suspects: Sequence[T]) -> Iterable[Sequence[T]]:
    return [suspects[begin : begin + AGAIN_MAX] for begin in range(0, len(suspects), AGAIN_MAX)]


def _end_suspect(end: StoredEnd, before: Mapping[str, Head], after: Mapping[str, Head]) -> bool:
    """Return whether a stored end is neither what the fold had before it was read nor what it had after that."""
    return all(end_differs(end, heads.get(end.chain, NO_HEAD)) for heads in (before, after))


def _spend_suspect(
    chain: str, rows: Mapping[str, StoredSpend], before: Mapping[str, KeySpend], after: Mapping[str, KeySpend]
) -> bool:
    """Return whether the stored spend of a key is missing, or is neither what the fold had before it was read nor
    after."""
    stored = _spent(rows.get(chain))
    return stored is None or stored not in (before.get(chain), after.get(chain))


def _spent(stored: StoredSpend | None) -> KeySpend | None:
    return None if stored is None else stored.spend


def _key_of(chain: str) -> tuple[str, str]:
    """Return tenant and key id of a key's chain."""
    tenant, _, key_id = chain.removeprefix("key/").rpartition("/")
    return tenant, key_id
