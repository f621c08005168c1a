"""The fold of one log, a partition's or the platform's, into chained records and ends of requests.

A pure function of the log: the same messages give the same bytes in any process and any batches. Times and positions
are the log's.

An event becomes a record on the chain of its key, of its tenant (tenant.*, key.*, model.*; key.* on both), of its
partition (fences) or of the platform. It becomes none if the log has it already (an append sent again), if it follows
the terminal that counts, or if it is rejected: of a tenant or key that was not created in this log, an outcome of
another edge or key than the admission names, or on an edge's subject and unread by `contracts.frame`. What is rejected
is reported.

The fold fails closed: it does not fold a message that it cannot read in full, unless an edge wrote it. On the subjects
of keys, owners and the platform an unknown type or version comes from a newer service. To skip it would leave its
record out of the chains, so the fold stays before it until a version that can read it folds on from there.
"""

from collections.abc import Callable
from typing import Any, Final

from keyforge.audit.core import operators, requests
from keyforge.audit.core.fold_state import ANCHOR_RECORDS, FoldState
from keyforge.audit.core.sealed import Head, Sealed, UnreadableMessage
from keyforge.chain.seal import MasterKey
from keyforge.contracts import events, frame
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import Recorded, Unread
from keyforge.contracts.limits import is_known_scope

EDGES: Final = "use"
"""The writer whose messages may be skipped: any edge could hold up audit otherwise."""


class Fold:
    """The state of one log's fold."""

    def __init__(self, partition: int, master: MasterKey) -> None:
        """`partition` is PLATFORM_PARTITION of `chain.record` for the platform's log."""
        self._state = FoldState(partition, master)

    @property
    def partition(self) -> int:
        """The partition of the log."""
        return self._state.partition

    @property
    def sequence(self) -> int:
        """The last message folded."""
        return self._state.sequence

    @property
    def open(self) -> int:
        """How many requests are open, or were abandoned and may still be completed."""
        return self._state.open

    def head(self, chain: str) -> Head | None:
        """Return the head of one chain, None if it does not exist."""
        found = self._state.chains.get(chain)
        return None if found is None else Head(found.seq, found.head)

    def heads(self) -> dict[str, Head]:
        """Return the head of every chain that has one."""
        return {name: Head(chain.seq, chain.head) for name, chain in self._state.chains.items() if chain.seq}

    def anchor(self, chain: str, after: int) -> Head | None:
        """Return seq and hash of the first record at or after seq `after` whose hash is kept; None without one."""
        hashes = self._state.anchors.get(chain, ())
        number = max(after - 1, 0) // ANCHOR_RECORDS
        return Head((number + 1) * ANCHOR_RECORDS, hashes[number]) if number < len(hashes) else None

    def fold(self, sequence: int, subject: str, time_ns: int, data: bytes, out: Sealed) -> UnreadableMessage | None:
        """Fold one message of the log into `out`; `time_ns` is its broker time.

        Returns why the message must not be folded; nothing has changed then, and no later message may be folded.
        """
        state = self._state
        found, error = _decoded(data, subject)
        if frame.writer_of(subject) != EDGES and (unread := _first_unread(found, error)):
            return UnreadableMessage(self.partition, sequence, *unread)
        state.begin_message(sequence, subject, time_ns, out)
        if error:
            state.reject("", 0, error)
        out.events += len(found)
        for index, recorded in enumerate(found):
            if isinstance(recorded, Unread):
                state.reject(recorded.type, index, f"unread: {recorded.why}")
                continue
            state.index = index
            event = recorded.event
            why = _RULES[type(event)](state, recorded, event)
            if why is operators.REPEATED:
                out.repeated += 1
            elif why is not None:
                state.reject(event.TYPE, index, why)
        state.forget()
        return None


def _decoded(data: bytes, subject: str) -> tuple[list[Recorded | Unread], str]:
    """Return the events of a message, and why it is no frame, if it is none."""
    try:
        return frame.decode(data, subject, bodies=True), ""
    except ValueError as error:
        return [], f"not a frame: {error}"


def _first_unread(found: list[Recorded | Unread], error: str) -> tuple[int, str, str] | None:
    """Return index, type and reason of the first event that a newer version may have written; None if there is none.
    One on the subject of another writer is of no version's making, and is rejected."""
    if error:
        return 0, "", error
    for index, one in enumerate(found):
        if isinstance(one, Unread):
            if one.fault != "wrong_subject":
                return index, one.type, one.why
        elif type(event := one.event) is RequestAdmitted:
            for debit in event.debits:
                if not is_known_scope(debit.scope):
                    return index, event.TYPE, f"debits an unknown scope: {debit.scope}"
    return None


_RULES: Final[dict[type[events.Event], Callable[[FoldState, Recorded, Any], str | None]]] = {
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
