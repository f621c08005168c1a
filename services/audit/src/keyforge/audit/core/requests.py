"""Which records a request's events become, and how it ended. Each rule returns why it rejects an event.

Pairing: an admission has one terminal that counts, or an abandonment and the completion that replaces it. Whatever
follows those is no record. Which terminal counts, and what it settles at, is defined in `contracts.settlement`.
"""

from keyforge.audit.core.fold_state import FoldState, OpenRequest
from keyforge.audit.core.operators import REPEATED
from keyforge.chain.record import request_bytes
from keyforge.contracts import events, settlement
from keyforge.contracts.frame import Recorded
from keyforge.contracts.settlement import Settled


def admitted(state: FoldState, recorded: Recorded, event: events.RequestAdmitted) -> str | None:
    """Open a request; if its edge cancelled it before, it ends here."""
    if event.request_id in state.requests:
        return "admitted already"
    chain = state.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    request_id = request_bytes(event.request_id)
    reason = state.tombstones.get(settlement.tombstone_of(event)) if state.tombstones else None
    reserved_nusd = event.reserved.nusd
    state.record(
        chain,
        recorded,
        request=request_id,
        amount_nusd=reserved_nusd,
        reserved_nusd=reserved_nusd if reason is None else 0,
    )
    request = OpenRequest(event, recorded.at, chain, request_id, chain.seq)
    state.begin_request(request)
    if reason is not None:
        state.end(request, recorded.at, settlement.CANCELLED, outcome=reason)
    return None


def completed(state: FoldState, recorded: Recorded, event: events.RequestCompleted) -> str | None:
    """Settle an open request, or replace what was presumed of an abandoned one."""
    request = state.requests.get(event.request_id)
    if request is None:
        return REPEATED if event.request_id in state.requests else "unknown request"
    admission = request.admitted
    if not state.edge == event.edge == admission.edge:
        return "not the edge of the admission"
    if not settlement.is_of_key(event, admission):
        return "not the key of the admission"
    settled = settlement.completed(event.usage, admission.prices, admission.reserved)
    _settle(state, recorded, request, settled)
    state.end(request, recorded.at, settled, completed=event, outcome=event.outcome)
    return None


def cancelled(state: FoldState, recorded: Recorded, event: events.RequestCancelled) -> str | None:
    """End an open request at nothing, or remember the cancel for the admission that it overtook."""
    if state.edge != event.edge:
        return "not on the edge's own subject"
    request = state.requests.get(event.request_id)
    if request is not None:
        if request.admitted.edge != event.edge:
            return "not the edge of the admission"
        if not settlement.is_of_key(event, request.admitted):
            return "not the key of the admission"
        if request.presumed is not None:
            return REPEATED
        _settle(state, recorded, request, settlement.CANCELLED)
        state.end(request, recorded.at, settlement.CANCELLED, outcome=event.reason)
        return None
    tombstone = settlement.tombstone_of(event)
    if event.request_id in state.requests or tombstone in state.tombstones:
        return REPEATED
    chain = state.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    state.record(chain, recorded, request=request_bytes(event.request_id))
    state.remember_cancel(tombstone, event)
    return None


def abandoned(state: FoldState, recorded: Recorded, event: events.RequestAbandoned) -> str | None:
    """Settle an open request at what was reserved; a later completion replaces that."""
    request = state.requests.get(event.request_id)
    if request is None:
        return REPEATED if event.request_id in state.requests else "unknown request"
    if not settlement.is_of_key(event, request.admitted):
        return "not the key of the admission"
    if request.presumed is not None:
        return REPEATED
    settled = settlement.abandoned(request.admitted.reserved)
    _settle(state, recorded, request, settled)
    state.end(request, recorded.at, settled, outcome="abandoned")
    return None


def refused(state: FoldState, recorded: Recorded, event: events.RequestRefused) -> str | None:
    """Record that requests were refused."""
    if state.seen_before(recorded):
        return REPEATED
    if event.edge != state.edge:
        return "not on the edge's own subject"
    chain = state.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    state.record(chain, recorded, request=request_bytes(event.request_id))
    return None


def overran(state: FoldState, recorded: Recorded, event: events.RequestOverran) -> str | None:
    """Record that a provider billed more than was reserved. The completion settled it already."""
    if state.seen_before(recorded):
        return REPEATED
    chain = state.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    state.record(chain, recorded, request=request_bytes(event.request_id), amount_nusd=event.settled.nusd)
    return None


def _settle(state: FoldState, recorded: Recorded, request: OpenRequest, settled: Settled) -> None:
    """Record a terminal that counts: it settles what was open, or replaces what was presumed."""
    presumed = request.presumed
    state.record(
        request.chain,
        recorded,
        request=request.id,
        amount_nusd=settled.nusd,
        settled_nusd=settled.nusd - (presumed.nusd if presumed else 0),
        reserved_nusd=0 if presumed else -request.admitted.reserved.nusd,
    )
