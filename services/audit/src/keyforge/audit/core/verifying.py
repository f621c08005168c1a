"""Verifies a stored chain, a stretch at a time, against the end that it is known to have."""

from typing import Final

from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verdict, Verifier

VERIFY_RECORDS_MAX: Final = 2000
"""Records of one stretch."""


class Reading:
    """One verification. Ask for `next_after` until it is None, and hand over what is stored behind it."""

    def __init__(self, chain: str, master: MasterKey, head: tuple[int, bytes]) -> None:
        self._verifier = Verifier(chain, lambda version: master if version == master.version else None)
        self._head = head
        self.next_after: int | None = 0

    def take(self, records: list[Stored], upto_seq: int) -> None:
        """Check the records with seq up to `upto_seq`."""
        verdict = self._verifier.check(records)
        if not verdict.valid or verdict.seq < upto_seq or upto_seq >= self._head[0]:
            self.next_after = None
        else:
            self.next_after = upto_seq

    def verdict(self, *, stored_seq: int, head_seq: int) -> Verdict:
        """Return the verdict. `stored_seq`: the greatest in the store, and `head_seq`: the end known after that."""
        found = self._verifier.verdict(self._head)
        if found.valid and stored_seq > head_seq:
            why = f"seq {stored_seq} is stored, and the chain ends at {head_seq}"
            return found._replace(valid=False, seq=head_seq + 1, why=why)
        return found
