"""Serves and verifies stored chains. What is stored is examined, and the fold of the log testifies."""

import asyncio
from typing import Final, NamedTuple

from keyforge.audit.application.build import Build
from keyforge.audit.application.examination import Examination, Examiner
from keyforge.audit.application.follow import FollowedLog
from keyforge.audit.application.freshness import left_s, of_one_build, wait_until_stored
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.evidence import Disagreement
from keyforge.audit.core.sealed import Head
from keyforge.audit.errors import StoreError
from keyforge.chain.seal import key_chain
from keyforge.chain.verify import Stored

SPEND_S_MIN: Final = 0.5
"""How long verification waits at least for the block that is being stored, where a key's spend differs at first sight.
Chosen: an INSERT takes some 20 ms (`insert_seconds`), and rarely is one under way."""


class ChainPage(NamedTuple):
    """Records of one chain, and its head as far as it is stored. `lag` counts messages of its log that are not."""

    head: Head
    records: list[Stored]
    lag: int


class ChainVerdict(NamedTuple):
    """The verdict on a stored chain.

    `log`: the chain's, empty if no log has it; `log_end` its last message, `lag` how many messages up to that are not
    stored. `spend_agrees`: whether what is stored of a key's requests is what its chain settled; None for a
    chain that is of no key.
    """

    examination: Examination
    log: str
    log_end: int
    lag: int
    spend_agrees: bool | None


class ChainMissing(NamedTuple):
    """Nothing is known of a chain. With a `lag` (messages of the logs that are not stored) it may still come."""

    lag: int


class FoundChain(NamedTuple):
    """The log of a chain. `lag` counts messages that it had when it was asked for and that are not stored."""

    log: FollowedLog
    lag: int


class NotStoredYet(NamedTuple):
    """The chain's log has messages that are not stored."""

    lag: int


class Chains:
    """The stored chains."""

    def __init__(self, projection: Projection, examiner: Examiner) -> None:
        self._projection, self._examiner = projection, examiner

    async def records(
        self, chain: str, after: int, limit: int, wait_s: float
    ) -> ChainPage | ChainMissing | Disagreement:
        """Return at most `limit` records of a chain, those after seq `after`. Raises StoreError."""
        return await of_one_build(self._projection, lambda build: self._page(build, chain, after, limit, wait_s))

    async def verify(self, chain: str, wait_s: float) -> ChainVerdict | ChainMissing | NotStoredYet | Disagreement:
        """Read a whole stored chain and compute every hash and MAC. Raises StoreError."""
        return await of_one_build(self._projection, lambda build: self._verified(build, chain, wait_s))

    async def _page(
        self, build: Build, chain: str, after: int, limit: int, wait_s: float
    ) -> ChainPage | ChainMissing | Disagreement:
        """A page that is not the log's leads to an examination of the whole chain, which names what differs."""
        end_s = asyncio.get_running_loop().time() + wait_s
        found = await self._found(build, chain, wait_s)
        if isinstance(found, ChainMissing):
            if not found.lag:
                await self._examiner.chain(build, chain, 0)  # it may be made up
            return build.disagreements.get((chain, "records"), found)
        if not isinstance(found, FoundChain):
            return found
        lag = build.lag_of(found.log)
        within_s = left_s(end_s)
        head = build.head(chain)
        if not head.seq:
            return ChainMissing(lag)
        upto = min(after + limit, head.seq)
        if (chain, "records") not in build.disagreements:
            rows = await self._examiner.page(build, chain, after, upto, within_s)
            if rows is not None:
                return ChainPage(head, rows, lag)
        examined = await self._examiner.chain(build, chain, within_s)
        if not examined.verdict.valid:
            return build.disagreements[chain, "records"]
        rows = await self._examiner.page(build, chain, after, upto, within_s)
        if rows is None:
            raise StoreError("the chain was changed while it was read")
        return ChainPage(head, rows, lag)

    async def _verified(
        self, build: Build, chain: str, wait_s: float
    ) -> ChainVerdict | ChainMissing | NotStoredYet | Disagreement:
        end_s = asyncio.get_running_loop().time() + wait_s
        found = await self._found(build, chain, wait_s)
        if isinstance(found, ChainMissing) and not found.lag:
            return await self._made_up(build, chain) or found
        if not isinstance(found, FoundChain):
            return found
        if found.lag:
            return NotStoredYet(found.lag)
        within_s = left_s(end_s)
        examined = await self._examiner.chain(build, chain, within_s)
        spend_agrees = await self._spend_agrees(build, chain, max(within_s, SPEND_S_MIN))
        log = found.log
        return ChainVerdict(examined, log.stream, log.end, build.lag_of(log), spend_agrees)

    async def _found(self, build: Build, chain: str, wait_s: float) -> FoundChain | ChainMissing | Disagreement:
        """Return the log of a chain once what it holds now is stored, or `wait_s` has passed."""
        known = build.log_of(chain)
        lag = await wait_until_stored(build, [known] if known is not None else build.followed, wait_s)
        followed = build.log_of(chain)
        if followed is not None and known is None and lag:
            lag = build.lag_of(followed)
        if followed is None and (halted := [one for one in build.followed if one.halted]):
            partition = await self._examiner.stored_partition(chain)
            followed = next((one for one in halted if one.partition == partition), None)
        if followed is None:
            return ChainMissing(lag)
        if followed.halted:
            return Disagreement("records", followed.stream, chain, None, followed.halted)
        return FoundChain(followed, lag)

    async def _made_up(self, build: Build, chain: str) -> ChainVerdict | None:
        """Return the verdict on a chain that is stored and that no log has; None if nothing is stored of it."""
        examined = await self._examiner.chain(build, chain, 0)
        if examined.verdict.valid:
            return None
        return ChainVerdict(examined, "", 0, 0, await self._spend_agrees(build, chain, SPEND_S_MIN))

    async def _spend_agrees(self, build: Build, chain: str, within_s: float) -> bool | None:
        kind, _, rest = chain.partition("/")
        tenant, _, key_id = rest.partition("/")
        if kind != "key" or chain != key_chain(tenant, key_id):
            return None
        return not await self._examiner.spend(build, tenant, key_id, within_s)
