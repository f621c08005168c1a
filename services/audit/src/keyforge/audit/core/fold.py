"""The fold of one log, a partition's or the platform's, into chained records and ends of requests.

A pure function of the log: the same messages give the same bytes, however they are cut into batches and whoever folds.
Times and positions are the log's.

An event becomes a record on the chain of its key, of its tenant (tenant.*, key.*, model.*; key.* on both), of its
partition (fences) or of the platform. It becomes none if the log already has it (an append sent again), if it comes
behind the terminal that counts, or if it is not believed: unread by `contracts.frame`, of a tenant or key that was not
created in this log, or an outcome from another edge than the admission names. What is not believed is reported.
"""

from collections.abc import Callable
from typing import Any, Final

from keyforge.audit.core import operators, requests
from keyforge.audit.core.fold_state import Book
from keyforge.audit.core.sealed import Sealed
from keyforge.chain.seal import MasterKey
from keyforge.contracts import events, frame
from keyforge.contracts.frame import Recorded


class Fold:
    """The state of one log's fold."""

    def __init__(self, partition: int, master: MasterKey) -> None:
        """`partition` is `chain.record.PLATFORM_PARTITION` for the platform's log."""
        self._book = Book(partition, master)

    @property
    def partition(self) -> int:
        """Whose log this is."""
        return self._book.partition

    @property
    def sequence(self) -> int:
        """The last message folded."""
        return self._book.sequence

    @property
    def open(self) -> int:
        """How many requests are open, or were abandoned and may yet be completed."""
        return sum(1 for request in self._book.requests.values() if request is not None)

    def heads(self) -> dict[str, tuple[int, bytes]]:
        """Return seq and hash of the last record of every chain that has one."""
        return {name: (chain.seq, chain.head) for name, chain in self._book.chains.items() if chain.seq}

    def head(self, chain: str) -> tuple[int, bytes] | None:
        """Return seq and hash of the last record of one chain, None if there is no such chain."""
        found = self._book.chains.get(chain)
        return None if found is None else (found.seq, found.head)

    def fold(self, sequence: int, subject: str, time_ns: int, data: bytes, out: Sealed) -> None:
        """Fold one message of the log into `out`. `time_ns` is the broker's time of it."""
        book = self._book
        book.turn(sequence, subject, time_ns, out)
        try:
            found = frame.decode(data, subject, bodies=True)
        except ValueError as error:
            book.ignore("", 0, f"not a frame: {error}")
            found = []
        out.events += len(found)
        for index, recorded in enumerate(found):
            if isinstance(recorded, frame.Unread):
                book.ignore(recorded.type, index, f"unread: {recorded.why}")
                continue
            book.index = index
            event = recorded.event
            why = _RULES[type(event)](book, recorded, event)
            if why is operators.REPEATED:
                out.repeated += 1
            elif why is not None:
                book.ignore(event.TYPE, index, why)
        book.forget()


_RULES: Final[dict[type[events.Event], Callable[[Book, Recorded, Any], str | None]]] = {
    events.TenantCreated: operators.tenant_created,
    events.TenantUpdated: operators.of_tenant,
    events.ModelResumed: operators.of_tenant,
    events.KeyCreated: operators.key_created,
    events.KeyUpdated: operators.of_key,
    events.KeyRevoked: operators.of_key,
    events.PartitionFenced: operators.fenced,
    events.RequestAdmitted: requests.admitted,
    events.RequestCompleted: requests.completed,
    events.RequestCancelled: requests.cancelled,
    events.RequestAbandoned: requests.abandoned,
    events.RequestRefused: requests.refused,
    events.RequestOverran: requests.overran,
    events.ProviderRegistered: operators.of_platform,
    events.CredentialAdded: operators.of_platform,
    events.CredentialRevoked: operators.of_platform,
    events.PriceSet: operators.of_platform,
    events.TenantPlaced: operators.of_platform,
    events.OperatorCreated: operators.of_platform,
    events.OperatorRevoked: operators.of_platform,
}
