"""Which records a request's events become, and how it ended. Each rule returns why an event is not believed.

Pairing: an admission has one terminal that counts, or an abandonment and the completion that replaces it. Whatever else
comes behind those is no record. Which terminal counts, and what it settles at, is `contracts.settlement`.
"""

from keyforge.audit.core.fold_state import Book, Request
from keyforge.audit.core.operators import REPEATED
from keyforge.chain.record import request_bytes
from keyforge.contracts import events, settlement
from keyforge.contracts.frame import Recorded
from keyforge.contracts.settlement import Settled


def admitted(book: Book, recorded: Recorded, event: events.RequestAdmitted) -> str | None:
    """Open a request; one that its edge cancelled before ends here and now."""
    if event.request_id in book.requests:
        return "admitted before"
    chain = book.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    request = Request(event, recorded.at, chain, request_bytes(event.request_id))
    reason = book.tombstones.get((event.request_id, event.edge)) if book.tombstones else None
    reserved_nusd = event.reserved.nusd
    book.record(
        chain,
        recorded,
        request=request.id,
        amount_nusd=reserved_nusd,
        reserved_nusd=reserved_nusd if reason is None else 0,
    )
    book.requests[event.request_id] = request
    if reason is not None:
        book.end(request, recorded.at, settlement.CANCELLED, outcome=reason)
    return None


def completed(book: Book, recorded: Recorded, event: events.RequestCompleted) -> str | None:
    """Settle a request that is open, or replace what was presumed of one that was abandoned."""
    request = book.requests.get(event.request_id)
    if request is None:
        return REPEATED if event.request_id in book.requests else "unknown request"
    admission = request.admitted
    if not book.edge == event.edge == admission.edge:
        return "not the edge that was admitted"
    settled = settlement.completed(event.usage, admission.prices, admission.reserved)
    _settle(book, recorded, request, settled)
    book.end(request, recorded.at, settled, completed=event, outcome=event.outcome)
    return None


def cancelled(book: Book, recorded: Recorded, event: events.RequestCancelled) -> str | None:
    """End an open request at nothing, or remember the cancel for the admission that it overtook."""
    if book.edge != event.edge:
        return "not the edge's own subject"
    request = book.requests.get(event.request_id)
    if request is not None:
        if request.admitted.edge != event.edge:
            return "not the edge that was admitted"
        if request.presumed is not None:
            return REPEATED
        _settle(book, recorded, request, settlement.CANCELLED)
        book.end(request, recorded.at, settlement.CANCELLED, outcome=event.reason)
        return None
    tombstone = (event.request_id, event.edge)
    if event.request_id in book.requests or tombstone in book.tombstones:
        return REPEATED
    chain = book.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    book.record(chain, recorded, request=request_bytes(event.request_id))
    book.bury(tombstone, event)
    return None


def abandoned(book: Book, recorded: Recorded, event: events.RequestAbandoned) -> str | None:
    """Settle an open request at what was reserved, until its completion comes all the same."""
    request = book.requests.get(event.request_id)
    if request is None:
        return REPEATED if event.request_id in book.requests else "unknown request"
    if request.presumed is not None:
        return REPEATED
    settled = settlement.abandoned(request.admitted.reserved)
    _settle(book, recorded, request, settled)
    book.end(request, recorded.at, settled, outcome="abandoned")
    return None


def refused(book: Book, recorded: Recorded, event: events.RequestRefused) -> str | None:
    """Record that requests were refused."""
    if book.again(recorded):
        return REPEATED
    if event.edge != book.edge:
        return "not the edge's own subject"
    chain = book.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    book.record(chain, recorded, request=request_bytes(event.request_id))
    return None


def overran(book: Book, recorded: Recorded, event: events.RequestOverran) -> str | None:
    """Record that a provider billed more than was reserved. The completion has settled it already."""
    if book.again(recorded):
        return REPEATED
    chain = book.keys.get((event.tenant, event.key_id))
    if chain is None:
        return "unknown key"
    book.record(chain, recorded, request=request_bytes(event.request_id), amount_nusd=event.settled.nusd)
    return None


def _settle(book: Book, recorded: Recorded, request: Request, settled: Settled) -> None:
    """Record a terminal that counts: what was open is settled, or what was presumed is replaced."""
    presumed = request.presumed
    book.record(
        request.chain,
        recorded,
        request=request.id,
        amount_nusd=settled.nusd,
        settled_nusd=settled.nusd - (presumed.nusd if presumed else 0),
        reserved_nusd=0 if presumed else -request.admitted.reserved.nusd,
    )
