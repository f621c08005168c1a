"""Verifies a stored chain, a page at a time, against its head in the log."""

from typing import Final

from keyforge.audit.core.sealed import Head
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verdict, Verifier

VERIFY_RECORDS_MAX: Final = 2000
"""Records of one page. Chosen: 2 MB at 1.1 KB a record (measured), however long the chain is."""


class Verification:
    """One verification: while `next_after` is not None, `check` the records that are stored after it."""

    def __init__(self, chain: str, master: MasterKey, head: Head) -> None:
        """`head` is that of the log; its seq is 0 for a chain that the log does not have."""
        self._verifier = Verifier(chain, lambda version: master if version == master.version else None)
        self._head = head
        self.next_after: int | None = 0 if head.seq else None

    def check(self, records: list[Stored], upto_seq: int) -> None:
        """Check the records with seq up to `upto_seq`."""
        verdict = self._verifier.check(records)
        if not verdict.valid or verdict.seq < upto_seq or upto_seq >= self._head.seq:
            self.next_after = None
        else:
            self.next_after = upto_seq

    def verdict(self) -> Verdict:
        """Return the verdict on what is stored up to the head."""
        return self._verifier.verdict(self._head if self._head.seq else None)
