"""Verifies a stored chain, a page at a time, against its known end."""

from typing import Final

from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verdict, Verifier

VERIFY_RECORDS_MAX: Final = 2000
"""Records of one page. Chosen: 2 MB at 1.1 KB a record (measured), however long the chain is."""


class Verification:
    """One verification: while `next_after` is not None, `check` the records that are stored after it."""

    def __init__(self, chain: str, master: MasterKey, head: tuple[int, bytes]) -> None:
        self._verifier = Verifier(chain, lambda version: master if version == master.version else None)
        self._head = head
        self.next_after: int | None = 0

    def check(self, records: list[Stored], upto_seq: int) -> None:
        """Check the records with seq up to `upto_seq`."""
        verdict = self._verifier.check(records)
        if not verdict.valid or verdict.seq < upto_seq or upto_seq >= self._head[0]:
            self.next_after = None
        else:
            self.next_after = upto_seq

    def verdict(self, *, stored_seq: int, head_seq: int) -> Verdict:
        """Return the verdict. `stored_seq` is the greatest in the store, `head_seq` the chain's end after that."""
        found = self._verifier.verdict(self._head)
        if found.valid and stored_seq > head_seq:
            why = f"seq {stored_seq} is stored, but the chain ends at {head_seq}"
            return found._replace(valid=False, seq=head_seq + 1, why=why)
        return found
