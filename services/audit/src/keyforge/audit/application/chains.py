"""Reads and verifies stored chains."""

from typing import NamedTuple

from keyforge.audit.application.freshness import read_store, wait_until_stored
from keyforge.audit.application.ports import RecordStore
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.verifying import VERIFY_RECORDS_MAX, Verification
from keyforge.audit.errors import StoreError
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verdict


class ChainPage(NamedTuple):
    """Records of one chain, and its stored end. `lag` counts messages of the logs that are not stored."""

    head_seq: int
    head_hash: bytes
    records: list[Stored]
    lag: int


class ChainMissing(NamedTuple):
    """Nothing of a chain is stored. With a `lag` (messages of the logs that are not stored) it may still come."""

    lag: int


class Chains:
    """The stored chains."""

    def __init__(self, store: RecordStore, projection: Projection, master: MasterKey) -> None:
        self._store, self._projection, self._master = store, projection, master

    async def records(self, chain: str, after: int, limit: int, wait_s: float) -> ChainPage | ChainMissing:
        """Return at most `limit` records of a chain, those after seq `after`. Raises StoreError."""
        lag = await wait_until_stored(self._projection, wait_s)
        head = self._head(chain)
        if head is None:
            return ChainMissing(lag)
        found = await read_store(self._projection, self._store.records, chain, after, head[0], limit)
        return ChainPage(*head, found, lag)

    async def verify(self, chain: str, wait_s: float) -> Verdict | ChainMissing:
        """Read a whole stored chain and compute every hash and MAC. Raises StoreError."""
        lag = await wait_until_stored(self._projection, wait_s)
        head = self._head(chain)
        if head is None:
            return ChainMissing(lag)
        verification = Verification(chain, self._master, head)
        while (after := verification.next_after) is not None:
            upto = min(after + VERIFY_RECORDS_MAX, head[0])
            found = await read_store(self._projection, self._store.records, chain, after, upto, 2 * VERIFY_RECORDS_MAX)
            verification.check(found, upto)
        stored_seq = await read_store(self._projection, self._store.last_seq, chain)
        head = self._head(chain)
        if head is None:
            return ChainMissing(lag)
        return verification.verdict(stored_seq=stored_seq, head_seq=max(head[0], self._projection.folded_seq(chain)))

    def _head(self, chain: str) -> tuple[int, bytes] | None:
        if self._projection.writer is None:
            raise StoreError("the store is not open")
        return self._projection.stored_head(chain)
