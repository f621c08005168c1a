"""What the owner has to say without being asked: abandonments that fell due, overruns that nobody reported yet."""

from datetime import datetime, timedelta

from keyforge.budget.core.ledger import Ledger
from keyforge.contracts.events import Event, RequestAbandoned, RequestOverran
from keyforge.contracts.ids import RequestId
from keyforge.contracts.timing_wheel import BUCKET_S

Duty = RequestAbandoned | RequestOverran


class Duties:
    """Finds them, each once: what was said and is not folded yet is not said again. `swept_s` saves looking twice."""

    __slots__ = ("_grace", "_said", "_swept_s")

    def __init__(self, grace: timedelta) -> None:
        self._grace = grace
        self._said: set[tuple[str, RequestId]] = set()
        self._swept_s = 0

    def due(self, ledger: Ledger, now: datetime, events_max: int) -> list[Duty]:
        """Return at most `events_max` events that are due at `now`."""
        self._said = {said for said in self._said if said[1] in ledger.open or said[1] in ledger.overruns}
        events: list[Duty] = []
        for request_id, overrun in ledger.overruns.items():
            if len(events) == events_max:
                return events
            if ("overran", request_id) not in self._said:
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
        for begin_s, request_ids in ledger.memory.buckets(self._swept_s, int(latest.timestamp())):
            for request_id in request_ids:
                request = ledger.open.get(request_id)
                if request is None:
                    continue
                if swept_s is None:
                    swept_s = begin_s
                if request.admitted.deadline > latest or ("abandoned", request_id) in self._said:
                    continue
                if len(events) == events_max:
                    return events
                admitted = request.admitted
                events.append(RequestAbandoned(request_id=request_id, tenant=admitted.tenant, key_id=admitted.key_id))
        # An admission that is yet to be folded was made behind `last_at`, so its deadline lies behind it as well.
        folded_s = int(min(latest, ledger.last_at).timestamp()) - BUCKET_S
        self._swept_s = folded_s if swept_s is None else min(folded_s, swept_s)
        return events

    def said(self, event: Event) -> None:
        """Note an event whose frame the log acknowledged."""
        if isinstance(event, (RequestAbandoned, RequestOverran)):
            self._said.add(("overran" if isinstance(event, RequestOverran) else "abandoned", event.request_id))
