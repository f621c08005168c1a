"""Adds up a partition's log from its beginning, and asserts at every grant what a budget promises."""

from keyforge.contracts.events import (
    KeyCreated,
    KeyRevoked,
    KeyUpdated,
    RequestAbandoned,
    RequestAdmitted,
    RequestCancelled,
    RequestCompleted,
    TenantCreated,
    TenantUpdated,
)
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import KeyId
from keyforge.contracts.limits import Limit, window_id
from tests.unit.budget_facts import rid


class Oracle:
    """Adds up a log, event by event, without any of budget's code but window ids."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str, str], tuple[Limit, ...]] = {}
        self.revoked: set[str] = set()
        self.admitted: dict[str, RequestAdmitted] = {}
        self.ended: dict[str, str] = {}
        self.used: dict[str, tuple[int, int]] = {}
        self.cancelled_early: set[tuple[str, str]] = set()

    def amount(self, request_id: str, unit: str, *, breaches: bool) -> int:
        """What one admitted request takes from a limit on `unit` now; a provider's breach aside unless asked for."""
        admitted, end = self.admitted[request_id], self.ended.get(request_id)
        if end == "cancelled":
            return 0
        if unit in {"requests", "concurrency"}:
            return 0 if unit == "concurrency" and end else 1
        reserved = (admitted.reserved.nusd, admitted.reserved.tokens)
        place = 0 if unit == "usd" else 1
        used = self.used.get(request_id, reserved)[place]
        return used if breaches else min(used, reserved[place])

    def observe(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, (TenantCreated, TenantUpdated)):
            self.limits["tenant", ""] = event.limits
        elif isinstance(event, (KeyCreated, KeyUpdated)):
            self.limits["key", event.key_id] = event.limits
        elif isinstance(event, KeyRevoked):
            self.revoked.add(event.key_id)
        elif isinstance(event, RequestAdmitted):
            self.grant(recorded, event)
        elif isinstance(event, RequestCancelled):
            if event.request_id not in self.admitted:
                self.cancelled_early.add((event.request_id, event.key_id))
            elif self.names_the_key(event):
                self.ended.setdefault(event.request_id, "cancelled")
        elif isinstance(event, RequestAbandoned):
            assert self.names_the_key(event)
            self.ended.setdefault(event.request_id, "abandoned")
        elif isinstance(event, RequestCompleted):
            self.complete(event)

    def key_of(self, number: int) -> KeyId:
        """The key that a request was admitted for; of one that was not, the first."""
        admitted = self.admitted.get(rid(number))
        return KeyId("key1") if admitted is None else admitted.key_id

    def names_the_key(self, event: RequestCompleted | RequestCancelled | RequestAbandoned) -> bool:
        """Whether the end of a request is one of the key that it was admitted for."""
        admitted = self.admitted.get(event.request_id)
        return admitted is not None and admitted.key_id == event.key_id

    def complete(self, event: RequestCompleted) -> None:
        if self.names_the_key(event) and self.ended.get(event.request_id, "abandoned") == "abandoned":
            self.ended[event.request_id] = "completed"
            if event.usage is not None:
                self.used[event.request_id] = (event.usage.tokens, event.usage.tokens)

    def grant(self, recorded: Recorded, event: RequestAdmitted) -> None:
        """Invariants 1, 4 and 6, at each grant."""
        assert event.key_id not in self.revoked, "admitted after a revocation"
        assert event.request_id not in self.admitted, "admitted twice"
        self.admitted[event.request_id] = event
        if (event.request_id, event.key_id) in self.cancelled_early:
            self.ended[event.request_id] = "cancelled"
        for scope, name in (("key", event.key_id), ("tenant", "")):
            for limit in self.limits[scope, name]:
                number = window_id(limit.window, recorded.at)
                limit_id = f"{limit.unit}/{limit.window}"
                debited = {(d.scope.partition(":")[0], d.limit, d.window_id) for d in event.debits}
                assert (scope, limit_id, number) in debited, "a limit was skipped"
                total = self.total(scope, name, limit_id, number)
                assert total <= limit.cap, f"{total} over {limit}"

    def total(self, scope: str, name: str, limit: str, number: int, *, breaches: bool = False) -> int:
        """Settled and reserved in one window of one account."""
        return sum(
            self.amount(request_id, limit.partition("/")[0], breaches=breaches)
            for request_id, admitted in self.admitted.items()
            if not name or admitted.key_id == name
            for d in admitted.debits
            if (d.scope.partition(":")[0], d.limit, d.window_id) == (scope, limit, number)
        )
