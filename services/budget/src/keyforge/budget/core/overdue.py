"""What the owner records without being asked: requests past their deadline and grace, overruns not reported yet."""

from datetime import datetime, timedelta

from keyforge.budget.core.ledger import Ledger
from keyforge.contracts.events import Event, RequestAbandoned, RequestOverran
from keyforge.contracts.ids import RequestId
from keyforge.contracts.timing_wheel import BUCKET_S

OverdueEvent = RequestAbandoned | RequestOverran


class Overdue:
    """Finds overdue events, each once: what was stored and is not folded yet is left out.

    `_swept_s` is how far the deadlines were looked through, so that none is looked at twice.
    """

    __slots__ = ("_grace", "_stored", "_swept_s")

    def __init__(self, grace: timedelta) -> None:
        self._grace = grace
        self._stored: set[tuple[str, RequestId]] = set()
        self._swept_s = 0

    def due(self, ledger: Ledger, now: datetime, events_max: int) -> list[OverdueEvent]:
        """Return at most `events_max` events that are due at `now`."""
        self._stored = {stored for stored in self._stored if stored[1] in ledger.open or stored[1] in ledger.overruns}
        events: list[OverdueEvent] = []
        for request_id, overrun in ledger.overruns.items():
            if len(events) == events_max:
                return events
            if ("overran", request_id) not in self._stored:
                admitted = overrun.admitted
                events.append(
                    RequestOverran(
                        request_id=request_id,
                        tenant=admitted.tenant,
                        key_id=admitted.key_id,
                        provider=admitted.provider,
                        model=admitted.model,
                        reserved=admitted.reserved,
                        settled=overrun.settled,
                    )
                )
        latest = now - self._grace
        swept_s: int | None = None
        for begin_s, request_ids in ledger.deadlines.buckets(self._swept_s, int(latest.timestamp())):
            for request_id in request_ids:
                request = ledger.open.get(request_id)
                if request is None:
                    continue
                if swept_s is None:
                    swept_s = begin_s
                if request.admitted.deadline > latest or ("abandoned", request_id) in self._stored:
                    continue
                if len(events) == events_max:
                    return events
                admitted = request.admitted
                events.append(RequestAbandoned(request_id=request_id, tenant=admitted.tenant, key_id=admitted.key_id))
        # An admission that is not folded yet was decided after `last_at`, so its deadline is after it as well.
        folded_s = int(min(latest, ledger.last_at).timestamp()) - BUCKET_S
        self._swept_s = folded_s if swept_s is None else min(folded_s, swept_s)
        return events

    def stored(self, event: Event) -> None:
        """Note an event whose frame the log acknowledged."""
        if isinstance(event, (RequestAbandoned, RequestOverran)):
            self._stored.add(("overran" if isinstance(event, RequestOverran) else "abandoned", event.request_id))
