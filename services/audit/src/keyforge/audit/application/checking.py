"""Compares all that is stored with the folds, again and again: the end of every chain, and what every key spent.

The tables are read while they are written. What differs at first sight is looked at again between two blocks; what
another process stored already and the fold has not reached is left for the next time. Where exactly a chain differs is
found beside that: to read long chains takes long, and answers wait for the comparison.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeVar

from keyforge.audit.application.between_blocks import between_blocks
from keyforge.audit.application.build import Build
from keyforge.audit.application.examination import Examiner
from keyforge.audit.application.ports import RecordStore
from keyforge.audit.application.watching import unless_ended
from keyforge.audit.core.evidence import Disagreement, StoredEnd, StoredSpend, Table, end_differs, gap_in, spend_differs
from keyforge.audit.core.sealed import NO_HEAD, Head, KeySpend
from keyforge.audit.errors import StoreError
from keyforge.chain.seal import MasterKey, key_chain, tenant_chain
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread

CHECK_EVERY_S: Final = 30.0
"""Between two comparisons of everything. Chosen: half of LATE_S_MAX, which leaves the other half for one that takes
long."""
LATE_S_MAX: Final = 60.0
"""Spend is not answered from a comparison that began longer ago: what docs/spec/audit-format.md promises."""
AGAIN_MAX: Final = 500
"""Chains or keys that are looked at again in one query, during which nothing is stored. Chosen: some 5 ms."""
PLACED_MAX: Final = 20
"""Chains that are read whole after one comparison to find where they disagree. The others are named without the place,
until somebody verifies them. Chosen: a screen of 24 lines shows them all."""
MADE_UP_MAX: Final = 20
"""Chains that no log has which are looked at in one comparison, of each tenant and of all that are no tenants; the rest
is counted. Chosen: as PLACED_MAX. One would do for what is answered; a million made-up rows must not hold up others."""
BACKOFF: Final = Backoff(0.5, 5.0)
"""Chosen: as long as the writer waits for a store that is down (`writer.BACKOFF`)."""

Judgement = Literal["differs", "later", "stopped"]
"""Of a difference: it is one; the fold has not reached what is stored; or it will not, as the log has stopped."""
T = TypeVar("T")


class Checker:
    """Compares the current tables with the folds of a build."""

    def __init__(self, store: RecordStore, examiner: Examiner, master: MasterKey) -> None:
        self._store = store
        self._examiner = examiner
        self._master = master
        self._logger = logs.get("projection")

    async def run(self, build: Build) -> None:
        """Compare once what was stored at the start has been folded, then every CHECK_EVERY_S, until cancelled."""
        await build.writer.until(build.stored.records)
        found, compared = list[str](), asyncio.Event()
        placing = asyncio.ensure_future(self._place_repeatedly(build, found, compared))
        try:
            await unless_ended(placing, self._compare_repeatedly(build, found, compared))
        finally:
            placing.cancel()
            await asyncio.wait([placing])

    async def check(self, build: Build) -> None:
        """Compare everything, then find out where what differs does. Raises StoreError."""
        await self._place(build, await self._compare(build))

    async def _compare_repeatedly(self, build: Build, found: list[str], compared: asyncio.Event) -> None:
        def failed(error: Exception) -> None:
            if not build.check_failed:
                self._logger.warning("what is stored cannot be compared; trying again", error=str(error)[:500])
            build.check_failed = True

        while True:
            new = await retrying(lambda: self._compare(build), backoff=BACKOFF, retry_on=StoreError, failed=failed)
            found[:] = dict.fromkeys([*found, *new])
            compared.set()
            await asyncio.sleep(CHECK_EVERY_S)

    async def _place_repeatedly(self, build: Build, found: list[str], compared: asyncio.Event) -> None:
        while True:
            await compared.wait()
            compared.clear()
            chains = found[:PLACED_MAX]
            found.clear()
            with suppress(StoreError):  # they are named, without the place
                await self._place(build, chains)

    async def _compare(self, build: Build) -> list[str]:
        """Compare everything; return the chains to place, PLACED_MAX at most. Raises StoreError."""
        began = asyncio.get_running_loop().time()
        chains = await self._check_chains(build)
        await self._check_spend(build)
        build.checked_at, build.check_failed = began, False
        build.checked.set()
        return chains

    # --- evidence -----------------------------------------------------------------------------------------------------

    async def _check_chains(self, build: Build) -> list[str]:
        """Compare the ends of all chains. Return those to place: what differs and did not before, then those that were
        examined longest ago."""
        before = dict(build.writer.heads)
        known = build.known("records")
        suspects, build.left_out["records"] = await in_thread(self._chain_suspects, build, before, known)
        differing: dict[str, str] = {}
        for some in _in_parts(suspects):
            differing |= await self._ends_that_differ(build, some)
        for chain in known:
            if chain not in differing and (build.log_of(chain) is None or not self._is_placed(build, chain)):
                build.agrees(chain, "records")  # its end was all that differed
        for chain, why in differing.items():
            if not self._is_placed(build, chain):
                self._disagrees(build, "records", chain, why)
        new = [chain for chain in differing if chain not in known]
        again = [chain for chain in known if (chain, "records") in build.disagreements]
        return [*new, *again][:PLACED_MAX]

    @staticmethod
    def _is_placed(build: Build, chain: str) -> bool:
        known = build.disagreements.get((chain, "records"))
        return known is not None and known.seq is not None

    async def _place(self, build: Build, chains: Sequence[str]) -> None:
        """Find out where chains disagree, and whether they still do. Raises StoreError."""
        for chain in chains:
            if (chain, "records") not in build.disagreements:
                continue  # compared or verified meanwhile
            examined = await self._examiner.chain(build, chain, 0)
            if examined.verdict.valid and (why := (await self._ends_that_differ(build, [chain])).get(chain)):
                self._disagrees(build, "records", chain, why)
            build.examined(chain)

    def _chain_suspects(self, build: Build, before: Mapping[str, Head], known: Sequence[str]) -> tuple[list[str], int]:
        """Return the chains whose stored end is not at first sight the log's, those that are `known` to disagree first,
        and how many others there are that no log has. Blocking: call it from a thread."""
        stored = self._store.chain_ends()
        after = build.writer.heads
        suspects = {end.chain for end in stored if _end_suspect(end, before, after)}
        found = {end.chain for end in stored}
        suspects |= {chain for chain in before if chain not in found}
        return _bounded(build, suspects, known)

    async def _ends_that_differ(self, build: Build, chains: Sequence[str]) -> dict[str, str]:
        """Return those of these chains whose stored end is not what the log gives, and what differs."""

        async def compare() -> tuple[dict[str, StoredEnd], dict[str, str]]:
            rows = await in_thread(self._store.chain_ends, chains, self._master)
            stored = {end.chain: end for end in rows}
            return stored, {chain: end_differs(stored.get(chain), build.head(chain)) for chain in chains}

        stored, found = await between_blocks(build, compare)
        differing: dict[str, str] = {}
        for chain, why in found.items():
            end = stored.get(chain)
            judgement = await self._judgement(build, chain, end) if why else "later"
            if judgement == "differs":
                differing[chain] = why
            elif why and judgement == "later" and end is not None and end.authentic and (gap := gap_in(end)):
                differing[chain] = gap  # another process may have stored its end, and ours may never get there
        return differing

    # --- spend --------------------------------------------------------------------------------------------------------

    async def _check_spend(self, build: Build) -> None:
        before = dict(build.writer.spend)
        known = build.known("requests")
        suspects, build.left_out["requests"], keys = await in_thread(self._spend_suspects, build, before, known)
        differing: dict[str, str] = {}
        unproven: set[str] = set()
        for some in _in_parts(suspects):
            found = await self._spend_that_differs(build, [keys[chain] for chain in some])
            for chain, (why, judgement) in found.items():
                if judgement == "differs":
                    differing[chain] = why
                elif judgement == "stopped":
                    unproven.add(chain)
        for chain, why in differing.items():
            self._disagrees(build, "requests", chain, why)
        for chain in known:
            if chain not in differing and chain not in unproven:
                build.agrees(chain, "requests")
        build.unproven = unproven

    def _spend_suspects(
        self, build: Build, before: Mapping[str, KeySpend], known: Sequence[str]
    ) -> tuple[list[str], int, dict[str, tuple[str, str]]]:
        """Return what `_chain_suspects` does, and tenant and id of the keys. Blocking: call it from a thread."""
        stored = self._store.spend_of_keys()
        after = build.writer.spend
        rows = {key_chain(one.tenant, one.key_id): one for one in stored}
        keys = {key_chain(one.tenant, one.key_id): (one.tenant, one.key_id) for one in stored}
        keys |= {chain: _key_of(chain) for chain in (*before, *known) if chain not in rows}
        suspects, left_out = _bounded(build, {c for c in keys if _spend_suspect(c, rows, before, after)}, known)
        return suspects, left_out, keys

    async def _spend_that_differs(
        self, build: Build, keys: Sequence[tuple[str, str]]
    ) -> dict[str, tuple[str, Judgement]]:
        """Compare these keys between two blocks; return in what those differ that do, and whether that is judged."""

        async def compare() -> tuple[dict[str, StoredSpend], dict[str, str]]:
            rows = await in_thread(self._store.spend_of_keys, keys)
            stored = {key_chain(one.tenant, one.key_id): one for one in rows}
            chains = [key_chain(*key) for key in keys]
            spend = build.writer.spend
            return stored, {chain: spend_differs(_spent(stored.get(chain)), spend.get(chain)) for chain in chains}

        stored, found = await between_blocks(build, compare)
        return {
            chain: (why, await self._judgement(build, chain, stored.get(chain))) for chain, why in found.items() if why
        }

    # --- both ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _disagrees(build: Build, table: Table, chain: str, why: str) -> None:
        followed = build.log_of(chain)
        build.disagrees(Disagreement(table, followed.stream if followed else "", chain, None, why))

    @staticmethod
    async def _judgement(build: Build, chain: str, stored: StoredEnd | StoredSpend | None) -> Judgement:
        """Return whether a difference is one: the log goes on, and its fold has reached what is stored.

        Another process may have stored a message first. Rows of a chain that no log has are judged by where they say
        that they are, which must be in the log of their tenant.
        """
        followed = build.log_of(chain)
        if followed is None and stored is not None:
            if isinstance(stored, StoredEnd) and not stored.authentic:
                return "differs"
            followed, home = build.log(stored.partition), build.log_of(tenant_chain(_tenant_of(chain)))
            if home is not None and followed is not home:
                return "differs"
        if followed is None:
            return "differs"
        if followed.halted:
            return "later"
        if stored is None or stored.sequence <= build.writer.done.get(followed.partition, 0):
            return "differs"
        if not followed.stopped:
            await build.refresh_ends([followed])
        if followed.stopped:
            return "stopped"
        return "differs" if stored.sequence > followed.end else "later"


def _bounded(build: Build, suspects: set[str], known: Sequence[str]) -> tuple[list[str], int]:
    """Return `suspects`, those that are known to disagree first, but no more than MADE_UP_MAX of each tenant, and of
    all that are no tenants, that no log has; and how many others there are."""
    kept: list[str] = []
    made_up: Counter[str] = Counter()
    first = [chain for chain in known if chain in suspects]
    for chain in (*first, *suspects.difference(first)):
        if build.log_of(chain) is None:
            tenant = _tenant_of(chain)
            of = tenant if build.log_of(tenant_chain(tenant)) is not None else ""
            made_up[of] += 1
            if made_up[of] > MADE_UP_MAX:
                continue
        kept.append(chain)
    return kept, sum(max(0, count - MADE_UP_MAX) for count in made_up.values())


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


def _tenant_of(chain: str) -> str:
    """Return the tenant that a key's chain names; empty for other chains."""
    kind, _, rest = chain.partition("/")
    return rest.partition("/")[0] if kind == "key" else ""
